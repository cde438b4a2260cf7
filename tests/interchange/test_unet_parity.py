"""U-Nets and KL autoencoders compute what diffusers computes, imported and exported."""

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
from diffusers import AutoencoderKL, UNet2DConditionModel

from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import choose_family, export_model, tensors_of
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.embedders import time_waves
from jaxgen.models.parameters import named_parameters

TOLERANCE = 2e-5
SMALL = {
    "sample_size": 8, "block_out_channels": (16, 32), "norm_num_groups": 8,
    "cross_attention_dim": 12, "layers_per_block": 1,
}  # fmt: skip
ONE = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
JOINT = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
}
UNETS = {
    "sd1": SMALL | ONE | {"attention_head_dim": 4, "layers_per_block": (1, 2)},
    "sd2": SMALL | ONE | {"attention_head_dim": [2, 4], "use_linear_projection": True},
    "sdxl": SMALL | {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": [2, 4], "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2], "addition_embed_type": "text_time",
        "addition_time_embed_dim": 6, "projection_class_embeddings_input_dim": 10 + 6 * 6,
    },
    "unclip": SMALL | JOINT | {"attention_head_dim": 8, "in_channels": 3, "out_channels": 6},
    "inpainting": SMALL | ONE | {"attention_head_dim": 2, "in_channels": 9},
}  # fmt: skip
AUTOENCODERS = {
    name: {
        "sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1,
        "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    | own
    for name, own in {
        "kl": {"scaling_factor": 0.5},
        "kl_sd3": {
            "latent_channels": 6, "use_quant_conv": False, "use_post_quant_conv": False,
            "shift_factor": 0.2, "mid_block_add_attention": False,
        },
    }.items()
}  # fmt: skip
PUBLISHED = {
    "stable_diffusion_1": (
        UNet2DConditionModel, {"cross_attention_dim": 768, "sample_size": 64}, 859_520_964
    ),
    "stable_diffusion_2": (
        UNet2DConditionModel,
        {"cross_attention_dim": 1024, "sample_size": 64, "attention_head_dim": [5, 10, 20, 20]}
        | {"use_linear_projection": True},
        865_910_724,
    ),
    "kl_f8": (
        AutoencoderKL,
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512}
        | {"down_block_types": ["DownEncoderBlock2D"] * 4}
        | {"up_block_types": ["UpDecoderBlock2D"] * 4},
        83_653_863,
    ),
}  # fmt: skip


def make_peer(name):
    torch.manual_seed(0)
    if name in UNETS:
        peer = UNet2DConditionModel(**UNETS[name])
    else:
        peer = AutoencoderKL(**AUTOENCODERS[name])
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return peer.float().eval()


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    peer = make_peer(name)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    peer.save_pretrained(folder)
    return load_model(open_checkpoint(folder)), peer, folder


def as_torch(x):
    x = np.array(x)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)


def inputs(model):
    """x, time, and what ours and theirs are told beside."""
    config, random = model.config.denoiser, np.random.default_rng(1)

    def draw(*shape):
        return random.normal(size=(3, *shape)).astype(np.float32)

    x = draw(config.size, config.size, config.channels)
    time = np.array([3.0, 480.0, 999.0], np.float32)
    sequence = draw(5, config.context_dim)
    there = np.arange(5) < np.array([[5], [2], [4]])
    theirs = {"encoder_hidden_states": as_torch(sequence)}
    theirs["encoder_attention_mask"] = torch.from_numpy(there)
    pooled = image = None
    if config.pooled_dim:
        text, sizes = draw(10), random.uniform(1, 512, (3, 6)).astype(np.float32)
        waves = np.stack([time_waves(jnp.asarray(one), 6) for one in sizes]).reshape(3, 36)
        pooled = np.concatenate([text, waves], axis=-1)
        theirs["added_cond_kwargs"] = {"text_embeds": as_torch(text), "time_ids": as_torch(sizes)}
    if config.image_channels:
        image = draw(config.size, config.size, config.image_channels)
    noisy = as_torch(x if image is None else np.concatenate([x, image], axis=-1))
    return x, time, Conditioning(sequence, there, pooled, image), noisy, theirs


def unet_outputs(model, peer):
    x, time, told, noisy, theirs = inputs(model)
    ours = jax.jit(lambda model, *a: model.denoise(*a))(model, x, time, told)
    with torch.no_grad():
        found = peer(noisy, torch.from_numpy(time), return_dict=False, **theirs)[0]
    return [(ours, found)]


def autoencoder_outputs(model, peer):
    config, random = model.config, np.random.default_rng(1)
    pictures = random.uniform(-1, 1, (2, config.size, config.size, 3)).astype(np.float32)
    size = config.latent_size
    latents = random.normal(size=(2, size, size, config.latent_channels)).astype(np.float32)
    (mean, log_variance), made = jax.jit(
        lambda model, pictures, latents: (model.encode_moments(pictures), model.decode(latents))
    )(model, pictures, latents)
    with torch.no_grad():
        found = peer.encode(as_torch(pictures)).latent_dist
        decoded = peer.decode(as_torch(latents), return_dict=False)[0]
    return [(mean, found.mean), (log_variance, found.logvar), (made, decoded)]


def difference(name, model, peer):
    """The largest difference over the largest number."""
    outputs = unet_outputs if name in UNETS else autoencoder_outputs
    pairs = [(one, other.numpy().transpose(0, 2, 3, 1)) for one, other in outputs(model, peer)]
    assert all(one.shape == other.shape for one, other in pairs)
    return max(np.abs(one - other).max() / np.abs(other).max() for one, other in pairs)


@pytest.mark.parametrize("name", [*UNETS, *AUTOENCODERS])
def test_import_computes_the_same(name):
    model, peer, _ = imported(name)
    found = difference(name, model, peer)
    print(name, f"{found:.1e}")
    assert found < TOLERANCE
    assert model.config.count().total == sum(p.numel() for p in peer.parameters())


@pytest.mark.parametrize("name", [*UNETS, *AUTOENCODERS])
def test_export_computes_the_same(name, tmp_path):
    model, peer, folder = imported(name)
    original = json.loads((folder / "config.json").read_text())
    family = open_checkpoint(folder).family
    assert choose_family(model.config, None, original) is family
    for place, given in (("alone", None), ("given_back", original)):
        if name == "sdxl" and given is None:
            continue  # A model from elsewhere has XL's own 256 waves a size.
        export_model(model, tmp_path / place, family, original=given, max_shard_bytes=100_000)
        assert len(list((tmp_path / place).glob("diffusion_pytorch_model-*.safetensors"))) > 1
        again = type(peer).from_pretrained(tmp_path / place).eval()
        assert difference(name, model, again) < TOLERANCE
        theirs, ours = peer.state_dict(), again.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(value, ours[key]) for key, value in theirs.items())
        if given is not None:
            assert json.loads((tmp_path / place / "config.json").read_text()) == original


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_gradients_agree(name):
    model, peer, folder = imported(name)
    x, time, told, noisy, theirs = inputs(model)

    @jax.jit
    def gradient(model):
        return jax.grad(lambda model: jnp.mean(jnp.square(model.denoise(x, time, told))))(model)

    peer.zero_grad()
    peer(noisy, torch.from_numpy(time), return_dict=False, **theirs)[0].square().mean().backward()
    checkpoint = open_checkpoint(folder)
    arrays = {path: p[...] for path, p in named_parameters(gradient(model))}
    compared = dict(tensors_of(checkpoint.family, checkpoint.config, arrays))
    expected = {path: p.grad.numpy() for path, p in peer.named_parameters()}
    assert compared.keys() == expected.keys()
    largest = max(np.abs(one).max() for one in expected.values())
    for path, one in compared.items():
        own = np.abs(expected[path]).max()
        assert np.abs(one - expected[path]).max() < 2e-4 * own + 1e-6 * largest, path


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_as_many_parameters_there(name):
    kind, config, count = PUBLISHED[name]
    with torch.device("meta"):
        peer = kind(**config)
    assert sum(p.numel() for p in peer.parameters()) == count
    folder = pathlib.Path(tempfile.mkdtemp(prefix="jaxgen-published-"))
    (folder / "config.json").write_text(peer.to_json_string())
    assert open_checkpoint(folder).config.count().total == count


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sd1", {"freq_shift": 1}, "freq_shift=1"),
        ("sd1", {"time_embedding_dim": 64}, "time_embedding_dim=64"),
        ("sd1", {"down_block_types": ["DownBlock2D"] * 2}, "up_block_types"),
        ("sd1", {"block_out_channels": [16, 24]}, "multiples of the first"),
        ("sd1", {"out_channels": 5}, "twice as many"),
        ("sd1", {"attention_type": "gated"}, "attention_type='gated'"),
        ("sd1", {"encoder_hid_dim": 8}, "encoder_hid_dim=8"),
        ("kl", {"use_quant_conv": False}, "both or neither"),
        ("kl", {"latents_mean": [0.1]}, "latents_mean"),
        ("kl", {"up_block_types": ["AttnUpDecoderBlock2D"] * 2}, "up_block_types"),
    ],
)
def test_what_jaxgen_does_not_compute_is_refused(name, changes, message, tmp_path):
    values = json.loads((imported(name)[2] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(InterchangeError, match=message):
        open_checkpoint(tmp_path)


def test_attention_of_older_autoencoders_is_read_by_its_older_names(tmp_path):
    from safetensors.torch import load_file, save_file

    model, _, folder = imported("kl")
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    for new, old in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ):
        tensors = {key.replace(f"s.0.{new}.", f"s.0.{old}."): x for key, x in tensors.items()}
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    again = load_model(open_checkpoint(tmp_path))
    for (path, one), (_, other) in zip(
        named_parameters(model), named_parameters(again), strict=True
    ):
        np.testing.assert_array_equal(one[...], other[...], err_msg=path)
