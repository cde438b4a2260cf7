"""T5's encoder and CLIP's text tower as folders of their own compute what transformers computes."""

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
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.captions import caption_rows
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.sharding.layout import Layout, using

TOLERANCE = 2e-5
SIZES = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_heads": 4, "num_layers": 2, "vocab_size": 90}
CONFIGS = {
    "t5_encoder": (T5EncoderModel, T5Config(**SIZES)),
    "t5_v1_1_encoder": (
        T5EncoderModel, T5Config(**SIZES, feed_forward_proj="gated-gelu", num_decoder_layers=3)
    ),
    "clip_text": (
        CLIPTextModel,
        CLIPTextConfig(
            vocab_size=90, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=16, eos_token_id=89, bos_token_id=88,
            hidden_act="gelu",
        ),
    ),
}  # fmt: skip
LENGTHS = np.array([16, 5, 9], np.int32)
OLDER = {
    "t5_v1_1_encoder": {"is_encoder_decoder": True, "tie_word_embeddings": False},
    "clip_text": {"dropout": 0.0, "projection_dim": 24},
}
"""What the folders of Stable Diffusion 1 and 3 say besides."""


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    kind, config = CONFIGS[name]
    torch.manual_seed(0)
    peer = kind(config)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    peer.save_pretrained(folder)
    peer = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    return load_model(open_checkpoint(folder)), peer, folder


def difference(model, peer):
    """The largest difference of the states of captions, over the largest of theirs."""
    tokens = np.random.default_rng(1).integers(1, 88, (3, 16)).astype(np.int32)
    there = np.arange(16) < LENGTHS[:, None]
    tokens[np.arange(16) == LENGTHS[:, None] - 1] = 89
    tokens[~there] = 0
    run = jax.jit(lambda model, tokens, lengths: model(caption_rows(tokens, lengths, True)).hidden)
    ours = np.asarray(run(model, tokens, LENGTHS))
    with torch.no_grad():
        found = peer(
            input_ids=torch.from_numpy(tokens).long(),
            attention_mask=torch.from_numpy(there.astype(np.int64)),
        ).last_hidden_state.numpy()
    return np.abs(ours - found)[there].max() / np.abs(found[there]).max()


@pytest.mark.parametrize("name", CONFIGS)
def test_import_computes_the_same(name):
    model, peer, _ = imported(name)
    found = difference(model, peer)
    print(name, f"{found:.1e}")
    assert found < TOLERANCE
    assert model.config.count().total == sum(p.numel() for p in peer.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_export_computes_the_same(name, tmp_path):
    model, peer, folder = imported(name)
    original = json.loads((folder / "config.json").read_text())
    for place, given in (("alone", None), ("given_back", original)):
        family = choose_family(model.config, name, given)
        export_model(model, tmp_path / place, family, original=given)
        again, info = type(peer).from_pretrained(tmp_path / place, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        assert difference(model, again.float().eval()) < TOLERANCE
    written = json.loads((tmp_path / "given_back" / "config.json").read_text())
    assert {key: written[key] for key in original} == original


def test_a_tower_with_its_projection_computes_the_same_and_comes_back(tmp_path):
    torch.manual_seed(0)
    config = CLIPTextConfig.from_dict(CONFIGS["clip_text"][1].to_dict() | {"projection_dim": 12})
    peer = CLIPTextModelWithProjection(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    peer.save_pretrained(tmp_path / "given")
    checkpoint = open_checkpoint(tmp_path / "given")
    model = load_model(checkpoint)
    assert checkpoint.config.count().total == sum(p.numel() for p in peer.parameters())
    tokens = np.random.default_rng(1).integers(1, 88, (3, 16)).astype(np.int32)
    tokens[np.arange(16) >= LENGTHS[:, None] - 1] = 89
    with using(Layout()):
        told = model(Prompts(tokens, LENGTHS), np.ones(3, bool))
    with torch.no_grad():
        found = peer(input_ids=torch.from_numpy(tokens).long(), output_hidden_states=True)
    for ours, theirs in (
        (told.pooled, found.text_embeds), (told.sequence, found.last_hidden_state)
    ):  # fmt: skip
        theirs = theirs.numpy()
        assert np.abs(np.asarray(ours) - theirs).max() < TOLERANCE * np.abs(theirs).max()
    original = json.loads((tmp_path / "given" / "config.json").read_text())
    for place, given in (("alone", None), ("given_back", original)):
        export_model(model, tmp_path / place, original=given)
        again, info = type(peer).from_pretrained(tmp_path / place, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        own, other = peer.state_dict(), again.state_dict()
        assert all(torch.equal(own[key], other[key].float()) for key in own)
    written = json.loads((tmp_path / "given_back" / "config.json").read_text())
    assert {key: written[key] for key in original} == original


@pytest.mark.parametrize("name", OLDER)
def test_older_files_are_read(name, tmp_path):
    from safetensors.torch import load_file, save_file

    model, _, folder = imported(name)
    values = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | OLDER[name]))
    tensors = load_file(folder / "model.safetensors")
    if name == "clip_text":
        tensors = {f"text_model.{key.removeprefix('text_model.')}": x for key, x in tensors.items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    else:
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    again = load_model(open_checkpoint(tmp_path))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), model, again))


def test_what_jaxgen_does_not_compute_is_refused(tmp_path):
    values = json.loads((imported("clip_text")[2] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"hidden_act": "tanh"}))
    with pytest.raises(InterchangeError, match="hidden_act"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(values | {"architectures": ["CLIPVisionModelWithProjection"]})
    )
    with pytest.raises(InterchangeError, match="CLIPVisionModelWithProjection"):
        open_checkpoint(tmp_path)
