"""Where checkpoints come from: revisions, PyTorch's files, quantised ones, parts of others."""

import collections
import json
import pickle
import sys
import types
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.helpers import MESHES, build
from support.interchange_tiny import CONFIGS

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import find_family, read_config
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh


def export(name, folder, seed=0, **changes):
    values = CONFIGS[name] | changes
    family = find_family(FAMILIES, values)
    model = build(read_config(family, values), seed=seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    export_model(model, folder, family)
    return model


def assert_equal(model, other):
    theirs = dict(named_parameters(other))
    for path, parameter in named_parameters(model):
        assert np.array_equal(parameter.get_value(), theirs[path].get_value()), path


def test_revisions_are_folders_or_of_the_hubs_cache(tmp_path):
    folders, cache = tmp_path / "pythia-70m", tmp_path / "models--EleutherAI--pythia-70m"
    early = export("gpt_neox", folders / "step1000")
    late = export("gpt_neox", folders / "step143000", seed=1)
    for number, (name, step) in enumerate((("step1000", "step1000"), ("main", "step143000"))):
        (cache / "refs").mkdir(parents=True, exist_ok=True)
        (cache / "refs" / name).write_text(f"{number}abc\n")
        (cache / "snapshots").mkdir(exist_ok=True)
        (cache / "snapshots" / f"{number}abc").symlink_to(folders / step)
    for place in (folders, cache):
        opened = open_checkpoint(place, revision="step1000")
        assert_equal(early, load_model(opened))
        with pytest.raises(InterchangeError, match=r"no revision 'step7'; there are .*step1000"):
            open_checkpoint(place, revision="step7")
    assert_equal(late, load_model(open_checkpoint(cache)))
    assert_equal(early, load_model(open_checkpoint(cache, revision="0abc")))
    with pytest.raises(InterchangeError, match=r"config\.json cannot be read"):
        open_checkpoint(folders)


class _FakeStorage:
    def __init__(self, name, key):
        self.name, self.key = name, key


class _FakeTensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, collections.OrderedDict()


def _named(module, name):
    def function():
        pass

    function.__module__, function.__qualname__ = module, name
    return function


@pytest.fixture
def write_torch(monkeypatch):
    """Writes arrays as torch.save does, by the format's description and without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    rebuild = _named("torch._utils", "_rebuild_tensor_v2")
    vars(utils)["_rebuild_tensor_v2"] = rebuild
    storages = {np.dtype(np.float32): "FloatStorage", np.dtype(ml_dtypes.bfloat16):
                "BFloat16Storage", np.dtype(np.float16): "HalfStorage"}  # fmt: skip
    for name in storages.values():
        vars(torch)[name] = type(name, (), {"__module__": "torch", "__qualname__": name})
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, _FakeStorage):
                return "storage", getattr(torch, obj.name), obj.key, "cpu", 0
            return None

        def reducer_override(self, obj):
            if isinstance(obj, _FakeTensor):
                return rebuild, obj.arguments
            return NotImplemented

    def write(path, arrays, compression=zipfile.ZIP_STORED):
        described = collections.OrderedDict()
        with zipfile.ZipFile(path, "w", compression) as archive:
            for key, (name, array) in enumerate(arrays.items()):
                kept, offset = np.ascontiguousarray(array), 0
                if array.ndim == 2 and array.shape[0] < 200:  # A view, as of a transposed matrix.
                    kept = np.concatenate([np.zeros(3, array.dtype), array.T.reshape(-1)])
                    offset, strides = 3, (1, array.shape[0])
                else:
                    strides = tuple(step // array.itemsize for step in kept.strides)
                archive.writestr(f"archive/data/{key}", kept.tobytes())
                storage = _FakeStorage(storages[array.dtype], str(key))
                described[name] = _FakeTensor(storage, offset, array.shape, strides)
            with archive.open("archive/data.pkl", "w") as file:
                Pickler(file, protocol=2).dump(described)

    return write


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_file_of_pytorch_is_read(tmp_path, write_torch, dtype):
    model = export("opt", tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    (tmp_path / "out" / "model.safetensors").unlink()
    rounded = {name: array.astype(dtype) for name, array in tensors.items()}
    path = tmp_path / "out" / "pytorch_model.bin"
    write_torch(path, rounded)
    found = dict(named_parameters(load_model(open_checkpoint(tmp_path / "out"))))
    for name, parameter in named_parameters(model):
        expected = np.asarray(parameter.get_value()).astype(dtype).astype(np.float32)
        assert np.array_equal(found[name].get_value(), expected), name
    write_torch(path, rounded, zipfile.ZIP_DEFLATED)
    with pytest.raises(InterchangeError, match="compressed"):
        load_model(open_checkpoint(tmp_path / "out"))


def test_shards_of_pytorch_are_read_by_their_index(tmp_path, write_torch):
    model = export("gpt_neo", tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    (tmp_path / "out" / "model.safetensors").unlink()
    places = {}
    for number in range(2):
        names = sorted(tensors)[number::2]
        file = f"pytorch_model-{number}.bin"
        write_torch(tmp_path / "out" / file, {name: tensors[name] for name in names})
        places |= dict.fromkeys(names, file)
    index = tmp_path / "out" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert_equal(model, load_model(open_checkpoint(tmp_path / "out")))


def test_a_pickle_is_not_run(tmp_path):
    export("opt", tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    path = tmp_path / "out" / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch /tmp/hurt'\ntR.")
    with pytest.raises(InterchangeError, match=r"it names os\.system"):
        load_model(open_checkpoint(tmp_path / "out"))
    for data in (b"", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(InterchangeError, match=r"not a whole file of PyTorch 1\.6"):
            load_model(open_checkpoint(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["language_model.", "model.language_model."])
def test_the_text_part_of_a_larger_model(tmp_path, prefix):
    """As Llama 4, Gemma 3 and Mistral Small were published, and as transformers 5 writes them."""
    model = export("gemma3", tmp_path / "out", vocab_size=96)
    path = tmp_path / "out" / "model.safetensors"

    def nested(name):
        if prefix == "language_model.":
            return prefix + name
        return name.replace("model.", prefix, 1) if name.startswith("model.") else name

    tensors = {nested(name): array for name, array in load_file(path).items()}
    vision = "vision_tower." if prefix == "language_model." else "model.vision_tower."
    save_file(tensors | {f"{vision}encoder.weight": np.zeros((2, 2), np.float32)}, path)
    text = json.loads((tmp_path / "out" / "config.json").read_text())
    del text["architectures"], text["tie_word_embeddings"]
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": text, "vision_config": {"hidden_size": 2}, "mm_tokens_per_image": 256,
        "tie_word_embeddings": True, "eos_token_id": [1, 106],
    }  # fmt: skip
    (tmp_path / "out" / "config.json").write_text(json.dumps(whole))
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.part_of == "Gemma3ForConditionalGeneration"
    assert checkpoint.values["eos_token_id"] == [1, 106]
    assert_equal(model, load_model(checkpoint))
    # Exported, it is a text model that gives back all that was said of the text.
    text |= {"use_cache": False, "attention_dropout": 0.25}
    family = choose_family(checkpoint.config, original=whole)
    export_model(model, tmp_path / "again", family, original=whole | {"text_config": text})
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    expected = text | {"architectures": ["Gemma3ForCausalLM"], "tie_word_embeddings": True}
    assert again == expected | {"eos_token_id": [1, 106]}
    assert_equal(model, load_model(open_checkpoint(tmp_path / "again")))


def test_published_text_parts_leave_defaults_out(tmp_path):
    """The config.json of gemma-3-4b-pt, and of Qwen2.5-VL-3B, whose text is not nested."""
    gemma = {
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999,
        "eos_token_ids": [1, 106], "mm_tokens_per_image": 256, "model_type": "gemma3",
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
                        "model_type": "gemma3_text", "num_hidden_layers": 34,
                        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                        "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152},
    }  # fmt: skip
    qwen = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
        "image_token_id": 151655, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 128000,
        "max_window_layers": 70, "model_type": "qwen2_5_vl", "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
        "use_sliding_window": False, "vision_config": {"depth": 32}, "vocab_size": 151936,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    for values, parameters in ((gemma, 3_880_263_168), (qwen, 3_085_938_688)):
        (tmp_path / "config.json").write_text(json.dumps(values))
        assert open_checkpoint(tmp_path).config.count().total == parameters


def requantise(folder, change):
    """Rewrites each matrix of the layers as quantised tensors; returns what they stand for."""
    path, expected = folder / "model.safetensors", {}
    written = {}
    for name, array in load_file(path).items():
        if array.ndim == 2 and "layers" in name:
            tensors, expected[name] = change(name.removesuffix(".weight"), array)
            written |= tensors
        else:
            written[name] = expected[name] = array
    save_file(written, path)
    return expected


def test_an_import_is_exported_as_its_own_family(tmp_path):
    """Llama could express these too, but its tensors are laid out otherwise."""
    original = CONFIGS["phi3_long"] | {"quantization_config": {"quant_method": "fp8"}}
    model = export("phi3_long", tmp_path / "first")
    assert choose_family(model.config).name == "llama"
    family = choose_family(model.config, original=original)
    assert family.name == "phi3"
    export_model(model, tmp_path / "again", family, original=original)
    export_model(model, tmp_path / "other", choose_family(model.config), original=original)
    for folder, architecture in (("again", "Phi3ForCausalLM"), ("other", "LlamaForCausalLM")):
        config = json.loads((tmp_path / folder / "config.json").read_text())
        assert config["architectures"] == [architecture]
        assert "quantization_config" not in config
        assert_equal(model, load_model(open_checkpoint(tmp_path / folder)))


def float8_in_blocks(layer, array):
    """As DeepSeek-V3 is published: a scale for each block of 128 by 128."""
    rows, columns = (-(-n // 128) for n in array.shape)
    scales = np.random.default_rng(0).uniform(0.5, 2, (rows, columns)).astype(np.float32)
    small = (array * 8).astype(ml_dtypes.float8_e4m3fn)
    whole = np.kron(scales, np.ones((128, 128), np.float32))[: array.shape[0], : array.shape[1]]
    tensors = {f"{layer}.weight": small, f"{layer}.weight_scale_inv": scales}
    return tensors, small.astype(np.float32) * whole


def float8_by_rows(layer, array):
    """As of compressed-tensors: a scale for each row, and one of the inputs that we do not need."""
    scales = np.linspace(0.5, 2, array.shape[0], dtype=np.float32)[:, None]
    small = (array * 8).astype(ml_dtypes.float8_e4m3fn)
    scale = scales.astype(ml_dtypes.bfloat16)
    tensors = {f"{layer}.weight": small, f"{layer}.weight_scale": scale}
    tensors[f"{layer}.input_scale"] = np.ones(1, np.float32)
    return tensors, small.astype(np.float32) * scale.astype(np.float32)


def float8_whole(layer, array):
    scale = np.array([0.25], np.float32)
    small = (array * 8).astype(ml_dtypes.float8_e5m2)
    tensors = {f"{layer}.weight": small, f"{layer}.weight_scale": scale}
    return tensors, small.astype(np.float32) * 0.25


def int8_of_bitsandbytes(layer, array):
    """LLM.int8 (2208.07339): a row's largest value is 127."""
    largest = np.abs(array).max(axis=1)
    small = np.rint(array * 127 / largest[:, None]).astype(np.int8)
    tensors = {f"{layer}.weight": small, f"{layer}.SCB": largest.astype(np.float32)}
    tensors[f"{layer}.weight_format"] = np.zeros((), np.uint8)
    return tensors, small * (largest * np.float32(1 / 127))[:, None]


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("fp8", float8_in_blocks),
        ("compressed-tensors", float8_by_rows),
        ("fbgemm_fp8", float8_whole),
        ("bitsandbytes", int8_of_bitsandbytes),
    ],
)
def test_eight_bits_are_read_as_what_they_stand_for(tmp_path, method, change):
    export("llama", tmp_path / "plain", hidden_size=160, intermediate_size=200)
    export("llama", tmp_path / "small", hidden_size=160, intermediate_size=200)
    expected = requantise(tmp_path / "small", change)
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    save_file(expected, tmp_path / "plain" / "model.safetensors")
    with jax.set_mesh(make_mesh(MESHES["mixed"])):  # Blocks begin inside devices' slices.
        small = load_model(open_checkpoint(tmp_path / "small"), Layout())
    plain = dict(named_parameters(load_model(open_checkpoint(tmp_path / "plain"))))
    for path, parameter in named_parameters(small):
        theirs = np.asarray(plain[path].get_value())
        np.testing.assert_allclose(parameter.get_value(), theirs, rtol=1e-6, atol=0)


def mxfp4(random, experts, inputs, outputs):
    """Blocks and scales as openai/gpt-oss has them, and what they stand for, by the OCP's table."""
    table = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    groups = inputs // 32
    codes = random.integers(0, 16, (experts, outputs, groups, 32))
    exponents = random.integers(120, 130, (experts, outputs, groups))
    values = np.empty((experts, inputs, outputs), np.float32)
    for place in np.ndindex(*codes.shape):
        e, o, g, i = place
        values[e, 32 * g + i, o] = table[codes[place]] * 2.0 ** (int(exponents[e, o, g]) - 127)
    blocks = codes[..., 0::2] + 16 * codes[..., 1::2]
    return blocks.astype(np.uint8), exponents.astype(np.uint8), values


@pytest.mark.slow
def test_four_bits_of_gpt_oss(tmp_path):
    folder, random = tmp_path / "out", np.random.default_rng(0)
    export("gpt_oss", folder, hidden_size=64, intermediate_size=32, num_hidden_layers=2)
    path = folder / "model.safetensors"
    tensors, plain = load_file(path), {}
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        blocks, scales, plain[name] = mxfp4(random, *tensors.pop(name).shape)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(tensors, path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))
    with jax.set_mesh(make_mesh(MESHES["mixed"])):
        found = dict(named_parameters(load_model(open_checkpoint(folder), Layout())))
    for layer in range(2):
        block = f"stack.groups.0.blocks.{layer}.feed_forward."
        both = plain[f"model.layers.{layer}.mlp.experts.gate_up_proj"]
        for name, expected in (
            ("gate", both[..., 0::2]), ("up", both[..., 1::2]),
            ("down", plain[f"model.layers.{layer}.mlp.experts.down_proj"]),
        ):  # fmt: skip
            assert np.array_equal(found[block + name].get_value()[0], expected), name
