"""Whisper computes of log-mel frames what transformers computes, imported and exported."""

import dataclasses
import functools
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
from jaxgen.sharding.layout import using

TOLERANCE = 2e-5
FRAMES, BANDS, LENGTH = 20, 8, 12
SIZES = {
    "vocab_size": 96, "num_mel_bins": BANDS, "d_model": 32, "encoder_layers": 3,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 48, "max_source_positions": FRAMES // 2,
    "max_target_positions": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 3,
}  # fmt: skip


@functools.cache
def imported():
    """(our model, theirs, the folder)."""
    config = transformers.WhisperConfig(**SIZES)
    config._attn_implementation = "eager"
    peer = move_parameters(transformers.WhisperForConditionalGeneration(config).float().eval())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="jaxgen-whisper-"))
    peer.save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.family.name == "whisper"
    return load_model(checkpoint), peer, folder


@functools.cache
def batches():
    random = np.random.default_rng(1)
    tokens = random.integers(4, 96, (3, LENGTH)).astype(np.int32)
    frames = random.normal(size=(3, FRAMES, BANDS)).astype(np.float32)
    ones, positions = np.ones_like(tokens), np.tile(np.arange(LENGTH, dtype=np.int32), (3, 1))
    ours = Batch(
        tokens, tokens, ones.astype(np.float32), positions, ones, 0 * ones,
        media={"audio": frames[:, None]},
    )  # fmt: skip
    theirs = {
        "decoder_input_ids": torch.from_numpy(tokens).long(),
        "input_features": torch.from_numpy(frames.transpose(0, 2, 1).copy()),
    }
    return ours, theirs


@jax.jit
def forward(model, batch):
    return model.logits(model(batch).hidden)


def worst(model, peer):
    ours, theirs = batches()
    with torch.no_grad():
        found = peer(**theirs).logits.numpy()
    return np.abs(np.asarray(forward(model, ours)) - found).max() / np.abs(found).max()


def test_import_computes_the_same():
    model, peer, _ = imported()
    assert worst(model, peer) < TOLERANCE


def test_the_encoder_alone_computes_the_same():
    model, peer, _ = imported()
    ours, theirs = batches()
    with using(model.layout):
        hidden = model.sound.features(ours.media["audio"][:, 0])
        early = model.sound.features(ours.media["audio"][:, 0], None, 2)
    with torch.no_grad():
        found = peer.model.encoder(theirs["input_features"], output_hidden_states=True)
    for mine, other in ((hidden, found.last_hidden_state), (early, found.hidden_states[2])):
        assert np.abs(np.asarray(mine) - other.numpy()).max() < TOLERANCE * other.abs().max().item()


def test_export_computes_the_same(tmp_path):
    model, peer, _ = imported()
    tokens = {key: value for key, value in SIZES.items() if key.endswith("token_id")}
    assert export_model(model, tmp_path / "out", more=tokens).name == "whisper"
    kind = transformers.WhisperForConditionalGeneration
    again = kind.from_pretrained(
        tmp_path / "out", attn_implementation="eager", dtype=torch.float32
    ).eval()
    assert worst(model, again) < TOLERANCE
    theirs, ours = peer.state_dict(), again.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_gradients_agree():
    model, peer, folder = imported()
    ours, theirs = batches()

    def mean(model):
        chosen = jax.nn.log_softmax(forward(model, ours)[:, :-1])
        return -jax.numpy.take_along_axis(chosen, ours.tokens[:, 1:, None], axis=-1).mean()

    loss, gradient = jax.jit(jax.value_and_grad(mean))(model)
    peer.zero_grad()
    logits = peer(**theirs).logits[:, :-1].reshape(-1, 96)
    later = theirs["decoder_input_ids"][:, 1:].reshape(-1)
    found = torch.nn.functional.cross_entropy(logits, later)
    found.backward()
    np.testing.assert_allclose(loss, found.item(), rtol=2e-5)
    checkpoint = open_checkpoint(folder)
    arrays = {path: p[...] for path, p in named_parameters(gradient)}
    compared = dict(tensors_of(checkpoint.family, checkpoint.config, arrays))
    expected = {path: p.grad for path, p in peer.named_parameters() if p.grad is not None}
    assert compared.keys() - expected.keys() == {"model.encoder.embed_positions.weight"}
    for path, other in expected.items():
        other = other.numpy()
        assert np.abs(compared[path] - other).max() < 1e-4 * np.abs(other).max() + 1e-7, path


def test_packed_segments_hear_their_own_sounds():
    model, batch = imported()[0], batches()[0]
    alone = np.asarray(forward(model, batch))
    packed = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), batch)
    packed = dataclasses.replace(
        packed, segment_ids=np.repeat(np.arange(1, 4, dtype=np.int32), LENGTH)[None]
    )
    found = np.asarray(forward(model, packed)).reshape(alone.shape)
    np.testing.assert_allclose(found, alone, atol=TOLERANCE * np.abs(alone).max())


def test_a_cache_keeps_what_was_heard():
    model, batch = imported()[0], batches()[0]
    whole = np.asarray(forward(model, batch))
    cache = empty_cache(model.config, 3, LENGTH, model.layout)
    text = dataclasses.replace(batch, media=None)
    first = jax.tree.map(lambda x: x[:, :3], text)
    output = model(dataclasses.replace(first, media=batch.media), cache)
    parts = [output.hidden]
    for place in range(3, LENGTH):
        output = model(jax.tree.map(lambda x, at=place: x[:, at : at + 1], text), output.cache)
        parts.append(output.hidden)
    logits = model.logits(jax.numpy.concatenate(parts, axis=1))
    np.testing.assert_allclose(logits, whole, atol=TOLERANCE * np.abs(whole).max())
