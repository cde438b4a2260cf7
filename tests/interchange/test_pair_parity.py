"""CLIP and SigLIP compute what transformers computes, imported and exported."""

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
from support.pairs import PAIRS, build_pair

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.interchange.exporting import export_model, tensors_of
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.interchange.tokenizers import write_codec
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.contrastive import Contrastive
from jaxgen.pair_batch import PairBatch

TOLERANCE = 2e-5
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = SIZES | {
    "vocab_size": 90, "hidden_size": 64, "intermediate_size": 112, "max_position_embeddings": 24,
    "bos_token_id": 88, "eos_token_id": 89, "pad_token_id": 0,
}  # fmt: skip
VISION = SIZES | {
    "hidden_size": 48, "intermediate_size": 80, "image_size": 24, "patch_size": 8,
    "num_hidden_layers": 3,
}  # fmt: skip
CONFIGS = {
    "clip": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 32},
    "siglip": {
        "text_config": TEXT | {"projection_size": 48, "hidden_act": "gelu"},
        "vision_config": VISION,
    },
}
KINDS = {
    "clip": (transformers.CLIPConfig, transformers.CLIPModel),
    "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
}


def make_peer(name):
    config, model = KINDS[name]
    made = config(**json.loads(json.dumps(CONFIGS[name])))
    made._attn_implementation = "eager"
    peer = move_parameters(model(made).float().eval())
    with torch.no_grad():
        peer.logit_scale.fill_(1.3)
        for table in (
            peer.text_model.embeddings.token_embedding,
            peer.text_model.embeddings.position_embedding,
            peer.vision_model.embeddings.position_embedding,
        ):
            table.weight.mul_(4)
        if name == "siglip":
            peer.logit_bias.fill_(-0.7)
    return peer


def load_peer(name, folder):
    kind = KINDS[name][1]
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    peer = make_peer(name)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    peer.save_pretrained(folder)
    return load_model(open_checkpoint(folder)), peer, folder


@functools.cache
def batches():
    random = np.random.default_rng(1)
    lengths = np.array([24, 9, 17, 3, 12], np.int32)
    tokens = random.integers(1, 88, (5, 24)).astype(np.int32)
    places = np.arange(24)
    tokens[places == lengths[:, None] - 1] = 89
    tokens[places >= lengths[:, None]] = 0
    images = random.normal(size=(5, 24, 24, 3)).astype(np.float32)
    theirs = {
        "input_ids": torch.from_numpy(tokens).long(),
        "pixel_values": torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
    }
    return PairBatch(images, tokens, lengths), theirs


def compare(name, model, peer):
    """The largest difference of embeddings and logits, over the largest logit."""
    ours, theirs = batches()
    output = jax.jit(lambda model, batch: model(batch))(model, ours)
    with torch.no_grad():
        found = peer(**theirs)
    logits = output.scale * np.asarray(output.images) @ np.asarray(output.texts).T + output.bias
    largest = found.logits_per_image.abs().max().item()
    return {
        "images": np.abs(output.images - found.image_embeds.numpy()).max() / largest,
        "texts": np.abs(output.texts - found.text_embeds.numpy()).max() / largest,
        "logits": np.abs(logits - found.logits_per_image.numpy()).max() / largest,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_import_computes_the_same(name, record_property):
    model, peer, _ = imported(name)
    found = compare(name, model, peer)
    print(name, {key: f"{value:.1e}" for key, value in found.items()})
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("name", CONFIGS)
def test_export_computes_the_same(name, tmp_path):
    model, peer, folder = imported(name)
    original = json.loads((folder / "config.json").read_text())
    tokens = {"eos_token_id": 89, "bos_token_id": 88, "pad_token_id": 0}
    for place, more, given in (("alone", tokens, None), ("given_back", None, original)):
        family = export_model(model, tmp_path / place, more=more, original=given)
        assert family.name == name
        again = load_peer(name, tmp_path / place)
        assert max(compare(name, model, again).values()) < TOLERANCE
        theirs, ours = peer.state_dict(), again.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "alone", use_fast=False)
    assert tuple(processor.image_mean) == tuple(model.config.vision.pixel_mean)


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_agree(name):
    model, peer, folder = imported(name)
    ours, theirs = batches()
    objective = Contrastive("softmax" if name == "clip" else "sigmoid")

    def mean(model):
        loss = objective(model, ours)
        return loss.total / loss.weight

    loss, gradient = jax.jit(jax.value_and_grad(mean))(model)
    peer.zero_grad()
    found = peer(**theirs, return_loss=True).loss
    found.backward()
    np.testing.assert_allclose(loss, found.item(), rtol=2e-5)
    checkpoint = open_checkpoint(folder)
    arrays = {path: p[...] for path, p in named_parameters(gradient)}
    expected = {path: p.grad.numpy() for path, p in peer.named_parameters()}
    compared = dict(tensors_of(checkpoint.family, checkpoint.config, arrays))
    assert compared.keys() == expected.keys()
    for path, one in compared.items():
        largest = np.abs(expected[path]).max()
        # A key's bias shifts all scores of a query alike: its gradient is rounding alone.
        assert np.abs(one - expected[path]).max() < 1e-4 * largest + 1e-7, path


@pytest.mark.parametrize("name", PAIRS)
def test_texts_are_read_as_its_tokenizer_reads_them(name, tmp_path):
    config, codec = PAIRS[name], ByteCodec()
    text = dataclasses.replace(config.text, vocab_size=codec.vocab_size, max_length=32)
    config = dataclasses.replace(config, text=text)
    model = build_pair(config)
    files, more = write_codec(codec, both_ends=True)
    export_model(model, tmp_path / "exported", files=files, more=more)
    captions = ["a red circle", "two squares and a ring", "é"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    read = tokenizer(captions, padding="max_length", max_length=32, return_tensors="pt")
    tokens, lengths = ImageTextPairs(Task("captions", InMemory(())), 16).tokens(captions, 32)
    np.testing.assert_array_equal(read["input_ids"], tokens)
    with torch.no_grad():
        peer = load_peer(name, tmp_path / "exported")
        found = peer.get_text_features(input_ids=read["input_ids"]).pooler_output.numpy()
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    np.testing.assert_allclose(model.encode_texts(tokens, lengths), found, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_are_normalised_as_its_processor_does(name, tmp_path):
    model = imported(name)[0]
    export_model(model, tmp_path / "exported")
    processor = transformers.AutoImageProcessor.from_pretrained(
        tmp_path / "exported", use_fast=False
    )
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    pixels = processor(image, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = model.encode_images(image[None])
    np.testing.assert_allclose(ours, model.encode_images(np.ascontiguousarray(pixels)), atol=1e-5)
