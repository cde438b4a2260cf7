"""DiT, Stable Diffusion 3's transformer and unCLIP's prior compute what diffusers computes."""

import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers import (
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PriorTransformer,
    SD3Transformer2DModel,
)

from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh

TOLERANCE = 2e-5
HEADS = {"num_attention_heads": 4, "attention_head_dim": 8}
PEERS = {
    "dit": (
        DiTTransformer2DModel,
        HEADS | {"in_channels": 3, "out_channels": 6, "num_layers": 3, "sample_size": 8}
        | {"num_embeds_ada_norm": 10},
    ),
    "dit_same_epsilon": (
        DiTTransformer2DModel,
        HEADS | {"in_channels": 2, "num_layers": 2, "sample_size": 12, "patch_size": 4}
        | {"num_embeds_ada_norm": 5, "norm_eps": 1e-6, "activation_fn": "gelu"},
    ),
    "sd3": (
        SD3Transformer2DModel,
        HEADS | {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 3}
        | {"joint_attention_dim": 20, "caption_projection_dim": 32, "pooled_projection_dim": 12}
        | {"pos_embed_max_size": 6},
    ),
    "sd35_medium": (
        SD3Transformer2DModel,
        HEADS | {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 4}
        | {"joint_attention_dim": 20, "caption_projection_dim": 32, "pooled_projection_dim": 12}
        | {"pos_embed_max_size": 6, "qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
    ),
    "flux": (
        FluxTransformer2DModel,
        HEADS | {"in_channels": 12, "num_layers": 2, "num_single_layers": 3}
        | {"joint_attention_dim": 20, "pooled_projection_dim": 12, "guidance_embeds": True}
        | {"axes_dims_rope": (2, 2, 4)},
    ),
    "prior": (
        PriorTransformer,
        HEADS | {"num_layers": 2, "embedding_dim": 20, "num_embeddings": 6},
    ),
}  # fmt: skip


def make_peer(name):
    kind, config = PEERS[name]
    torch.manual_seed(0)
    peer = kind(**config).float().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        if kind is DiTTransformer2DModel:  # Every block's embeddings are those of the first.
            first = peer.transformer_blocks[0].norm1.emb.state_dict()
            for block in peer.transformer_blocks:
                block.norm1.emb.load_state_dict(first)
    return peer


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    peer = make_peer(name)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    peer.save_pretrained(folder)
    if name == "flux":  # Whose config.json says nothing of a picture's size.
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": 8}))
    return load_model(open_checkpoint(folder)), peer, folder


def torch_of(x):
    return torch.from_numpy(np.array(x))


def outputs(model, peer):
    """What both predict of the same noise, pictures [batch, height, width, channels]."""
    config, random = model.config.denoiser, np.random.default_rng(1)
    time = random.integers(0, 1000, 3).astype(np.float32)

    def draw(*shape):
        return random.normal(size=shape).astype(np.float32)

    x = draw(3, config.size, config.size, config.channels)
    if isinstance(peer, DiTTransformer2DModel):
        labels = np.array([[4], [1], [0]], np.int32)
        conditioning = model.condition(Prompts(jnp.asarray(labels), jnp.ones(3, jnp.int32)))
        theirs = {"class_labels": torch_of(labels[:, 0]).long()}
    else:
        length = 6 if isinstance(peer, PriorTransformer) else 7
        sequence, pooled = draw(3, length, config.context_dim), draw(3, config.pooled_dim)
        conditioning = Conditioning(sequence=sequence, pooled=pooled)
        theirs = {"encoder_hidden_states": torch_of(sequence)}
        theirs["pooled_projections"] = torch_of(pooled)
    if isinstance(peer, PriorTransformer):
        there = np.arange(6) < np.array([[6], [2], [4]])
        conditioning = Conditioning(sequence=sequence, pooled=pooled, mask=there)
        theirs = {
            "proj_embedding": torch_of(pooled),
            "encoder_hidden_states": torch_of(sequence),
            "attention_mask": torch_of(there),
        }
    if isinstance(peer, FluxTransformer2DModel):
        # It multiplies by 1,000 what a pipeline divides by it: times that survive both.
        time = np.array([500, 250, 875], np.float32)
        return outputs_of_flux(model, peer, x, time, conditioning)
    ours = jax.jit(lambda model, *a: model.denoise(*a))(model, x, time, conditioning)
    noise = torch_of(x[:, 0, 0] if isinstance(peer, PriorTransformer) else x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        found = peer(noise, timestep=torch_of(time), return_dict=False, **theirs)[0].numpy()
    if isinstance(peer, PriorTransformer):
        return ours, found[:, None, None]
    return ours, found.transpose(0, 2, 3, 1)


def outputs_of_flux(model, peer, x, time, conditioning):
    """The same of FLUX, which reads patches as channels."""
    ours = jax.jit(lambda model, *a: model.denoise(*a))(model, x, time, conditioning)
    batch, size, _, channels = x.shape
    side = size // 2
    cut = (batch, side, 2, side, 2, channels)
    packed = x.reshape(cut).transpose(0, 1, 3, 5, 2, 4).reshape(batch, side**2, 4 * channels)
    rows, columns = np.indices((side, side)).reshape(2, -1)
    places = np.stack([np.zeros_like(rows), rows, columns], axis=-1).astype(np.float32)
    with torch.no_grad():
        found = peer(
            torch_of(packed),
            encoder_hidden_states=torch_of(conditioning.sequence),
            pooled_projections=torch_of(conditioning.pooled),
            timestep=torch_of(time / 1000),
            img_ids=torch_of(places),
            txt_ids=torch.zeros(conditioning.sequence.shape[1], 3),
            guidance=torch.full((batch,), 3.5),
            return_dict=False,
        )[0].numpy()
    found = found.reshape(batch, side, side, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return ours, found.reshape(x.shape)


def difference(model, peer):
    """The largest difference over the largest number."""
    ours, theirs = outputs(model, peer)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", PEERS)
def test_import_computes_the_same(name):
    model, peer, _ = imported(name)
    found = difference(model, peer)
    print(name, f"{found:.1e}")
    assert found < TOLERANCE
    # A thousand and one labels are counted once, and a prior's or a table's buffers not at all.
    own = {id(p): p.numel() for p in peer.parameters()}
    if not name.startswith("dit"):
        assert model.config.count().total == sum(own.values())


@pytest.mark.parametrize("name", PEERS)
def test_export_computes_the_same(name, tmp_path):
    model, peer, folder = imported(name)
    original = json.loads((folder / "config.json").read_text())
    for place, given in (("alone", None), ("given_back", original)):
        export_model(model, tmp_path / place, original=given)
        again = type(peer).from_pretrained(tmp_path / place).eval()
        assert difference(model, again) < TOLERANCE
        theirs, ours = peer.state_dict(), again.state_dict()
        assert theirs.keys() == ours.keys()
        for key, value in theirs.items():
            if key == "pos_embed.pos_embed":  # Computed, and by numpy.
                torch.testing.assert_close(ours[key], value, rtol=0, atol=2e-6)
            else:
                assert torch.equal(value, ours[key]), key
        if given is not None:
            written = json.loads((tmp_path / place / "config.json").read_text())
            assert written == original


def test_export_from_a_mesh(tmp_path):
    _, peer, folder = imported("sd35_medium")
    with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, tensor=4))):
        model = load_model(open_checkpoint(folder), Layout())
        export_model(model, tmp_path / "exported", max_shard_bytes=20_000)
    again = type(peer).from_pretrained(tmp_path / "exported")
    for key, value in peer.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=2e-6)


def test_blocks_that_embed_time_differently_are_refused(tmp_path):
    peer = make_peer("dit")
    with torch.no_grad():
        peer.transformer_blocks[2].norm1.emb.timestep_embedder.linear_1.bias.add_(1)
    peer.save_pretrained(tmp_path / "dit")
    with pytest.raises(InterchangeError, match=r"transformer_blocks\.2\..*should repeat"):
        load_model(open_checkpoint(tmp_path / "dit"))
