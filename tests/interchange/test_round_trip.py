"""What is exported is imported bit for bit, from any mesh onto any other."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from support.helpers import MESHES, build, one_device_mesh
from support.interchange_tiny import CONFIGS
from support.tiers import slow_but

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import differences, find_family, read_config, write_config
from jaxgen.interchange.exporting import choose_family, export_model, gathered
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.files import INDEX, TensorFiles
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh

ALIKE = {"mistral": ["llama"], "phi3": ["mistral", "llama"], "falcon": ["gpt_neox"]}
"""Families that can express another's models, and come before it."""
UNLIKE = (
    "bert_masked", "bloom", "deepseek_v3", "falcon_two_norms", "granite_moe", "mixtral",
    "opt_narrow", "stablelm_heads", "t5",
)  # fmt: skip
"""Those whose tables together have nearly every kind of entry and row."""


def make_model(name):
    """A model of the family under the mesh in force, every parameter random."""
    values = CONFIGS[name]
    model = build(read_config(find_family(FAMILIES, values), values), Layout())

    def randomize(index, parameter):
        random = np.random.default_rng(index).normal(size=parameter.shape).astype(np.float32)
        return parameter.replace(jax.device_put(random, parameter.get_value().sharding))

    leaves, structure = jax.tree_util.tree_flatten(model, is_leaf=is_parameter)
    leaves = [randomize(index, leaf) for index, leaf in enumerate(leaves)]
    return jax.tree_util.tree_unflatten(structure, leaves)


def is_parameter(leaf):
    return isinstance(leaf, nnx.Param)


def values_of(model):
    return {name: np.asarray(parameter.get_value()) for name, parameter in named_parameters(model)}


def assert_equal(model, other):
    ours, theirs = values_of(model), values_of(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name


@pytest.mark.parametrize("name", slow_but(UNLIKE, sorted(CONFIGS)))
def test_every_family_returns_bit_for_bit(name, tmp_path):
    folder = tmp_path / "exported"
    mesh = make_mesh(MESHES["mixed"])
    with jax.set_mesh(mesh):
        model = make_model(name)
        export_model(model, folder, find_family(FAMILIES, CONFIGS[name]))
        assert differences(open_checkpoint(folder).config, model.config) == []
        sharded = load_model(open_checkpoint(folder), Layout())
        assert_equal(model, sharded)
        for (path, ours), (_, theirs) in zip(
            named_parameters(model), named_parameters(sharded), strict=True
        ):
            assert ours.get_value().sharding == theirs.get_value().sharding, path
    assert_equal(model, load_model(open_checkpoint(folder)))
    with jax.set_mesh(one_device_mesh()):
        assert_equal(model, load_model(open_checkpoint(folder), Layout()))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_written_config_is_read_back(name):
    family = find_family(FAMILIES, CONFIGS[name])
    config = read_config(family, CONFIGS[name])
    values = write_config(family, config)
    assert find_family(FAMILIES, values) is family
    assert choose_family(config).name in (family.name, *ALIKE.get(family.name, ()))
    assert choose_family(config, family.name) is family
    assert write_config(family, read_config(family, values)) == values


def test_shards_keep_to_their_limit_and_are_indexed(tmp_path):
    model = make_model("llama")
    export_model(model, tmp_path / "out", max_shard_bytes=40_000)
    shards = sorted((tmp_path / "out").glob("model-*.safetensors"))
    assert len(shards) > 2 and not (tmp_path / "out" / "model.safetensors").exists()
    total = 0
    for shard in shards:
        with safe_open(shard, "numpy") as file:
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118
        assert sum(sizes) <= 40_000 or len(sizes) == 1
        total += sum(sizes)
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["metadata"]["total_size"] == total
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert_equal(model, load_model(open_checkpoint(tmp_path / "out")))


def test_bfloat16_rounds_once(tmp_path):
    model = make_model("mixtral")
    export_model(model, tmp_path / "out", dtype="bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = values_of(load_model(open_checkpoint(tmp_path / "out")))
    for name, value in values_of(model).items():
        rounded = value.astype(ml_dtypes.bfloat16).astype(np.float32)
        assert loaded[name].dtype == np.float32 and np.array_equal(loaded[name], rounded), name


def test_only_the_slices_of_a_device_are_read(tmp_path, monkeypatch):
    """Of matrices split eight ways, each device's part is read and nothing more."""
    mesh = make_mesh(MESHES["mixed"])
    with jax.set_mesh(mesh):
        export_model(make_model("llama"), tmp_path / "out")
        read = {}
        fetch = TensorFiles.fetch

        def counted(self, name):
            inner = fetch(self, name)

            def read_and_count(slices):
                block = inner(slices)
                read.setdefault(name, []).append(block.size)
                return block

            return read_and_count

        monkeypatch.setattr(TensorFiles, "fetch", counted)
        load_model(open_checkpoint(tmp_path / "out"), Layout())
    # [mlp 112, embed 64], over tensor 2 and fsdp 2; the expert axis holds copies.
    assert read["model.layers.1.mlp.up_proj.weight"] == [56 * 32] * 4
    assert read["model.layers.0.self_attn.q_proj.weight"] == [24 * 32] * 4
    assert read["model.embed_tokens.weight"] == [48 * 32] * 4


def test_one_layer_is_gathered_at_a_time():
    values = np.arange(4 * 4 * 6.0).reshape(4, 4, 6)
    with jax.set_mesh(make_mesh(MESHES["mixed"])):
        for spec in (jax.P(None, "fsdp"), jax.P("fsdp", None, "tensor")):
            array = jax.device_put(values, spec)
            assert np.array_equal(gathered(array, 2), values[2])
            assert np.array_equal(gathered(array, None), values)


def test_nothing_half_written_remains(tmp_path, monkeypatch):
    model = make_model("gpt2")
    monkeypatch.setattr("jaxgen.interchange.writing.ShardWriter.write", fail_at_the_third())
    with pytest.raises(InterchangeError, match="No space left"):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def fail_at_the_third():
    from jaxgen.interchange.writing import ShardWriter

    write, count = ShardWriter.write, iter(range(100))

    def failing(self, value):
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        write(self, value)

    return failing


def test_other_files_and_keys_go_along(tmp_path):
    files, more = {"tokenizer.json": b"{}"}, {"eos_token_id": 7}
    export_model(make_model("gpt2"), tmp_path / "out", files=files, more=more)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 7
    with pytest.raises(InterchangeError, match="exists"):
        export_model(make_model("gpt2"), tmp_path / "out")
