"""LLaVA and Gemma 3 compute of images and text what transformers computes, both ways."""

import dataclasses
import functools
import json
import pathlib
import tempfile

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from support.interchange_peers import move_parameters

from jaxgen.batch import Batch
from jaxgen.interchange.exporting import export_model, tensors_of
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.cache import empty_cache
from jaxgen.models.parameters import named_parameters

TOLERANCE = 2e-5
TOKEN, SIZE = 90, 24
TEXT = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 48, "intermediate_size": 80, "image_size": SIZE, "num_hidden_layers": 3,
    "num_attention_heads": 4,
}  # fmt: skip
CONFIGS = {
    "llava": {
        "text_config": TEXT | {"model_type": "llama"},
        "vision_config": VISION | {"model_type": "clip_vision_model", "patch_size": 8},
        "image_token_id": TOKEN,
    },
    # Windows of fewer tokens than a picture has.
    "gemma3": {
        "text_config": TEXT | {
            "model_type": "gemma3_text", "head_dim": 16, "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "vision_config": VISION | {"model_type": "siglip_vision_model", "patch_size": 4},
        "image_token_id": TOKEN, "boi_token_index": 88, "eoi_token_index": 89,
        "mm_tokens_per_image": 9,
    },
}  # fmt: skip
KINDS = {
    "llava": (transformers.LlavaConfig, transformers.LlavaForConditionalGeneration),
    "gemma3": (transformers.Gemma3Config, transformers.Gemma3ForConditionalGeneration),
}
FAMILY = {"llava": "llava", "gemma3": "gemma3_seeing"}
VECTORS = 9


def make_peer(name):
    config, model = KINDS[name]
    made = config(**json.loads(json.dumps(CONFIGS[name])))
    made._attn_implementation = "eager"
    return move_parameters(model(made).float().eval())


def load_peer(name, folder):
    kind = KINDS[name][1]
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    peer = make_peer(name)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    peer.save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.family.name == FAMILY[name] and checkpoint.part_of is None
    return load_model(checkpoint), peer, folder


@functools.cache
def batches():
    """Rows of 40 tokens with two pictures each, one right at the beginning."""
    random = np.random.default_rng(1)
    tokens = random.integers(3, 88, (3, 40)).astype(np.int32)
    for row, places in enumerate(((1, 20), (5, 16), (12, 31))):
        for place in places:
            tokens[row, place : place + VECTORS] = TOKEN
    images = random.normal(size=(3, 2, SIZE, SIZE, 3)).astype(np.float32)
    ones = np.ones_like(tokens)
    positions = np.tile(np.arange(40, dtype=np.int32), (3, 1))
    ours = Batch(
        tokens, tokens, ones.astype(np.float32), positions, ones, 0 * ones,
        media={"image": images},
    )  # fmt: skip
    flat = images.reshape(6, SIZE, SIZE, 3).transpose(0, 3, 1, 2).copy()
    theirs = {
        "input_ids": torch.from_numpy(tokens).long(),
        "attention_mask": torch.ones(3, 40, dtype=torch.long),
        "pixel_values": torch.from_numpy(flat),
    }
    return ours, theirs


def run_peer(name, peer, **more):
    _, theirs = batches()
    if name == "gemma3":
        more["token_type_ids"] = (theirs["input_ids"] == TOKEN).long()
    return peer(**theirs, **more)


@jax.jit
def forward(model, batch):
    return model.logits(model(batch).hidden)


def worst(name, model, peer):
    """The largest difference of logits, over the largest logit."""
    ours = np.asarray(forward(model, batches()[0]))
    with torch.no_grad():
        theirs = run_peer(name, peer).logits.numpy()
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_import_computes_the_same(name):
    model, peer, _ = imported(name)
    found = worst(name, model, peer)
    print(name, f"{found:.1e}")
    assert found < TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_export_computes_the_same(name, tmp_path):
    model, peer, folder = imported(name)
    original = json.loads((folder / "config.json").read_text())
    tokens = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    for place, more, given in (("alone", tokens, None), ("given_back", None, original)):
        family = export_model(model, tmp_path / place, more=more, original=given)
        assert family.name == FAMILY[name]
        again = load_peer(name, tmp_path / place)
        assert worst(name, model, again) < TOLERANCE
        theirs, ours = peer.state_dict(), again.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_losses_and_gradients_agree():
    model, peer, folder = imported("llava")
    ours, theirs = batches()
    is_text = np.asarray(ours.tokens)[:, 1:] != TOKEN

    def mean(model):
        logits = forward(model, ours)[:, :-1]
        chosen = jax.nn.log_softmax(logits)
        picked = jax.numpy.take_along_axis(chosen, ours.tokens[:, 1:, None], axis=-1)[..., 0]
        return -(picked * is_text).sum() / is_text.sum()

    loss, gradient = jax.jit(jax.value_and_grad(mean))(model)
    peer.zero_grad()
    labels = torch.where(theirs["input_ids"] == TOKEN, -100, theirs["input_ids"])
    found = run_peer("llava", peer, labels=labels).loss
    found.backward()
    np.testing.assert_allclose(loss, found.item(), rtol=2e-5)
    checkpoint = open_checkpoint(folder)
    arrays = {path: p[...] for path, p in named_parameters(gradient)}
    compared = dict(tensors_of(checkpoint.family, checkpoint.config, arrays))
    expected = {_saved(path): p.grad for path, p in peer.named_parameters()}
    assert compared.keys() == expected.keys()
    for path, one in compared.items():
        if expected[path] is None:  # Of the last block, which is not read.
            assert not np.any(one), path
            continue
        other = expected[path].numpy()
        largest = np.abs(other).max()
        # A key's bias shifts all scores of a query alike: its gradient is rounding alone.
        assert np.abs(one - other).max() < 1e-4 * largest + 1e-7, path


def _saved(path):
    """The name of a parameter in files."""
    path = path.removeprefix("model.")
    if path.startswith("lm_head"):
        return f"language_model.{path}"
    return path.replace("language_model.", "language_model.model.", 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_with_pictures_in_the_prompt_equals_the_whole_pass(name):
    model, (batch, _) = imported(name)[0], batches()
    whole = np.asarray(forward(model, batch))
    cache = empty_cache(model.config, 3, 40, model.layout)
    text = dataclasses.replace(batch, media=None)
    prompt = jax.tree.map(lambda x: x[:, :29], text)
    output = model(dataclasses.replace(prompt, media=batch.media), cache)
    # The last row's second picture comes after its prompt.
    parts = [output.hidden[:2]]
    for place in range(29, 40):
        output = model(jax.tree.map(lambda x, at=place: x[:, at : at + 1], text), output.cache)
        parts.append(output.hidden[:2])
    logits = model.logits(jax.numpy.concatenate(parts, axis=1))
    np.testing.assert_allclose(logits, whole[:2], atol=TOLERANCE * np.abs(whole).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_are_normalised_as_its_processor_does(name, tmp_path):
    model = imported(name)[0]
    export_model(model, tmp_path / "exported")
    processor = transformers.AutoImageProcessor.from_pretrained(
        tmp_path / "exported", use_fast=False
    )
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"])
    pixels = np.ascontiguousarray(pixels.reshape(3, SIZE, SIZE).transpose(1, 2, 0))
    batch, _ = batches()

    def hidden(images):
        images = np.broadcast_to(images, (3, 2, *images.shape))
        return forward(model, dataclasses.replace(batch, media={"image": images}))

    np.testing.assert_allclose(hidden(image), hidden(pixels), atol=1e-4)


def test_released_names_and_settings_are_read(tmp_path):
    """The names of the first files of LLaVA 1.5, and what their config.json leaves out."""
    model, _, folder = imported("llava")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    renamed = {
        key.replace("vision_tower.", "vision_tower.vision_model."): value
        for key, value in tensors.items()
    }
    save_file(renamed, tmp_path / "model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    values |= {"ignore_index": -100, "vocab_size": 96, "pad_token_id": 32_001}
    for key in ("vision_feature_layer", "vision_feature_select_strategy", "image_seq_length"):
        del values[key]
    (tmp_path / "config.json").write_text(json.dumps(values))
    again = dict(named_parameters(load_model(open_checkpoint(tmp_path))))
    for path, parameter in named_parameters(model):
        assert np.array_equal(parameter[...], again[path][...]), path
    text = open_checkpoint(tmp_path, text_only=True)
    assert text.part_of == "LlavaForConditionalGeneration" and not text.config.media
