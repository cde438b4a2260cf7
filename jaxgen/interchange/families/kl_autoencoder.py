"""The KL autoencoders of Stable Diffusion, as diffusers keeps them."""

from __future__ import annotations

from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Fixed, Linked, checked
from jaxgen.interchange.families.diffusion import must_be
from jaxgen.interchange.families.residual import (
    convolution_rows,
    norm_rows,
    pixel_attention_rows,
    residual_rows,
)
from jaxgen.interchange.families.unet import read_widths, write_widths
from jaxgen.interchange.tables import Family, TensorRow, Values
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig

_TYPES = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
_ALONE = ("use_quant_conv", "use_post_quant_conv")


def _read_widths(values: Values) -> dict[str, Any]:
    width, multipliers = read_widths(values, (64,))
    for key, name in _TYPES.items():
        must_be(values, key, [name] * len(multipliers), "one for each of block_out_channels")
    return {"width": width, "multipliers": multipliers}


def _write_widths(config: Any) -> dict[str, Any]:
    types = {key: [name] * len(config.widths) for key, name in _TYPES.items()}
    return types | write_widths(config.widths)


def _read_channels(values: Values) -> dict[str, Any]:
    channels = checked("in_channels", values.get("in_channels", 3), (int,))
    must_be(values, "out_channels", channels, "as many as in_channels")
    return {"channels": channels}


def _read_alone(values: Values) -> dict[str, Any]:
    found = {checked(key, values.get(key, True), (bool,)) for key in _ALONE}
    if len(found) > 1:
        raise InterchangeError(
            f"config.json says {_ALONE[0]}={values.get(_ALONE[0], True)}, {_ALONE[1]}="
            f"{values.get(_ALONE[1], True)}; jaxgen supports both or neither."
        )
    return {"moments_convolution": found.pop()}


def _tower_rows(ours: str, way: str, change: str) -> tuple[TensorRow, ...]:
    """Returns the rows of the encoder or the decoder."""
    level, levels = f"{ours}.levels.{{level}}", f"{ours}.{way}_blocks.{{level}}"
    middle = f"{ours}.mid_block"
    return (
        *convolution_rows(f"{ours}.first", f"{ours}.conv_in"),
        *residual_rows(f"{level}.blocks.{{block}}", f"{levels}.resnets.{{block}}"),
        *convolution_rows(f"{level}.after.convolution", f"{levels}.{change}.0.conv"),
        *residual_rows(f"{ours}.middle.first", f"{middle}.resnets.0"),
        *pixel_attention_rows(f"{ours}.middle.attention", f"{middle}.attentions.0"),
        *residual_rows(f"{ours}.middle.second", f"{middle}.resnets.1"),
        *norm_rows(f"{ours}.norm", f"{ours}.conv_norm_out"),
        *convolution_rows(f"{ours}.last", f"{ours}.conv_out"),
    )


KL_AUTOENCODER = Family(
    name="kl_autoencoder",
    library="diffusers",
    architectures=("AutoencoderKL",),
    model_types=(),
    kind=KlAutoencoderConfig,
    assemble=lambda fields: KlAutoencoderConfig(**fields),
    entries=(
        Field("sample_size", "size", 32),
        Linked(
            ("in_channels", "out_channels"),
            _read_channels,
            lambda config: {"in_channels": config.channels, "out_channels": config.channels},
        ),
        Linked(("block_out_channels", *_TYPES), _read_widths, _write_widths),
        Field("layers_per_block", "blocks", 1),
        Field("latent_channels", "latent_channels", 4),
        Field("norm_num_groups", "norm_groups", 32),
        Field("scaling_factor", "latent_scale", 0.18215, (float,)),
        Field("shift_factor", "latent_shift", 0.0, (float,)),
        Linked(
            _ALONE, _read_alone, lambda config: dict.fromkeys(_ALONE, config.moments_convolution)
        ),
        Field("mid_block_add_attention", "middle_attention", True, (bool,)),
        Fixed("act_fn", "silu"),
        Fixed("latents_mean", None),
        Fixed("latents_std", None),
    ),
    inert=("force_upcast",),
    rows=(
        *_tower_rows("encoder", "down", "downsamplers"),
        *_tower_rows("decoder", "up", "upsamplers"),
        *convolution_rows("moments", "quant_conv"),
        *convolution_rows("of_latents", "post_quant_conv"),
    ),
    stacks=(),
    renames=(
        (r"\.attentions\.0\.query\.", ".attentions.0.to_q."),
        (r"\.attentions\.0\.key\.", ".attentions.0.to_k."),
        (r"\.attentions\.0\.value\.", ".attentions.0.to_v."),
        (r"\.attentions\.0\.proj_attn\.", ".attentions.0.to_out.0."),
    ),
    of_training=("discriminator.",),
)
