"""U-Nets of Stable Diffusion 1, 2 and XL, and of unCLIP's kind, as diffusers keeps them."""

from __future__ import annotations

from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Fixed, Linked, among, checked
from jaxgen.interchange.families.diffusion import INERT, section, two_layers_rows
from jaxgen.interchange.families.residual import (
    convolution_rows,
    norm_rows,
    pixel_attention_rows,
    residual_rows,
    transformer_rows,
)
from jaxgen.interchange.tables import Family, TensorRow, Values
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.unet_config import UNetConfig

_KINDS = {
    ("transformer", "convolution"): ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"),
    (None, "convolution"): ("DownBlock2D", "UpBlock2D"),
    ("joint", "blocks"): ("SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"),
    (None, "blocks"): ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"),
}
_MIDDLES = {
    "transformer": "UNetMidBlock2DCrossAttn",
    "joint": "UNetMidBlock2DSimpleCrossAttn",
}
_TYPES = ("down_block_types", "up_block_types", "mid_block_type")
_HEADS = ("attention_head_dim", "num_attention_heads")
_VECTOR = (
    "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
)  # fmt: skip
_CHANNELS = ("in_channels", "out_channels")
_TIME_WAVES = 256
"""Sines and cosines of each of the sizes that XL's vector ends with."""


def _assemble(fields: dict[str, Any]) -> DiffusionConfig:
    return DiffusionConfig(denoiser=UNetConfig(**section(fields, "denoiser.")))


def _read_channels(values: Values) -> dict[str, Any]:
    read, given = (checked(key, values.get(key, 4), (int,)) for key in _CHANNELS)
    beside = 0 if given in (read, 2 * read) else read - given
    if beside < 0:
        raise InterchangeError(
            f"config.json says in_channels={read}, out_channels={given}; jaxgen supports as many, "
            "twice as many with a learned variance, or fewer, where the others are of a picture "
            "that is read beside."
        )
    fields = {"channels": read - beside, "image_channels": beside, "out_channels": given}
    return {f"denoiser.{name}": value for name, value in fields.items()}


def _write_channels(config: Any) -> dict[str, Any]:
    own = config.denoiser
    return {"in_channels": own.channels + own.image_channels, "out_channels": own.out_channels}


def read_widths(values: Values, default: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Returns the width of the first level, and the multipliers of all."""
    key = "block_out_channels"
    found = checked(key, list(values.get(key) or default), (list,))
    if any(one % found[0] for one in found):
        raise InterchangeError(
            f"config.json says block_out_channels={found}; jaxgen supports multiples of the first."
        )
    return found[0], tuple(one // found[0] for one in found)


def _read_widths(values: Values) -> dict[str, Any]:
    width, multipliers = read_widths(values, (320, 640, 1280, 1280))
    return {"denoiser.width": width, "denoiser.multipliers": multipliers}


def write_widths(widths: tuple[int, ...]) -> dict[str, Any]:
    """Returns the key of the levels' channels."""
    return {"block_out_channels": list(widths)}


def _read_types(values: Values) -> dict[str, Any]:
    down = values.get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = values.get("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    middle = values.get("mid_block_type", _MIDDLES["transformer"])
    by_name = {names[0]: kind for kind, names in _KINDS.items()}
    kinds = [by_name[among("down_block_types", one, tuple(by_name))] for one in down]
    resampling = {one for _, one in kinds}
    if len(resampling) > 1:
        raise InterchangeError(
            f"config.json says down_block_types={down}; jaxgen supports one way of halving."
        )
    expected = [_KINDS[kind][1] for kind in reversed(kinds)]
    if list(up) != expected:
        raise InterchangeError(
            f"config.json says up_block_types={up}; jaxgen supports {expected}, as the way down is."
        )
    by_name = {name: kind for kind, name in _MIDDLES.items()}
    return {
        "denoiser.attention": tuple(kind for kind, _ in kinds),
        "denoiser.resampling": resampling.pop(),
        "denoiser.middle_attention": by_name[among("mid_block_type", middle, tuple(by_name))],
    }


def _write_types(config: Any) -> dict[str, Any]:
    own = config.denoiser
    names = [
        _KINDS.get((level.attention, own.resampling), _KINDS[None, own.resampling])
        for level in own.levels
    ]
    middle = _MIDDLES.get(own.middle_attention, _MIDDLES["transformer"])
    up = [name for _, name in reversed(names)]
    return dict(zip(_TYPES, ([name for name, _ in names], up, middle), strict=True))


def _read_heads(values: Values) -> dict[str, Any]:
    """Returns number or width of heads.

    The number goes by the name of "attention_head_dim", but where attention reads pixels and the
    sequence at once: there that is the width.
    """
    width, multipliers = read_widths(values, (320, 640, 1280, 1280))
    found = values.get("num_attention_heads") or values.get("attention_head_dim") or 8
    is_joint = values.get("mid_block_type") == _MIDDLES["joint"]
    number, head_dim = None, None
    if isinstance(found, int):
        number, head_dim = (None, found) if is_joint else (found, None)
    else:
        own = [width * multiplier for multiplier in multipliers]
        widths = {a / b for a, b in zip(own, found, strict=True)}
        if is_joint or len(widths) > 1:
            among("attention_head_dim", len(set(found)), (1,))
            number, head_dim = (None, found[0]) if is_joint else (found[0], None)
        else:
            head_dim = int(widths.pop())
    return {"denoiser.num_heads": number, "denoiser.head_dim": head_dim}


def _write_heads(config: Any) -> dict[str, Any]:
    own = config.denoiser
    if own.middle_attention == "joint":
        return {"attention_head_dim": own.head_dim}
    if own.head_dim is None:
        return {"attention_head_dim": own.num_heads}
    return {"attention_head_dim": [own.heads(level.width)[0] for level in own.levels]}


def _read_each(key: str, field: str, default: int) -> Linked:
    """Returns the entry of a number for each level, or one for all."""

    def read(values: Values) -> dict[str, Any]:
        found = values.get(key, default)
        each = (found,) if isinstance(found, int) else tuple(checked(key, found, (list,)))
        return {f"denoiser.{field}": tuple(checked(key, one, (int,)) for one in each)}

    def write(config: Any) -> dict[str, Any]:
        each = getattr(config.denoiser, field)
        return {key: list(each) if len(each) > 1 else each[0]}

    return Linked((key,), read, write)


def _read_vector(values: Values) -> dict[str, Any]:
    kind = among("addition_embed_type", values.get("addition_embed_type"), (None, "text_time"))
    if kind is None:
        return {}
    width = checked(_VECTOR[2], values.get(_VECTOR[2]), (int,))
    return {"denoiser.pooled_dim": width, "denoiser.pooled_join": "layers"}


def _write_vector(config: Any) -> dict[str, Any]:
    width = config.denoiser.pooled_dim
    if width is None:
        return dict.fromkeys(_VECTOR)
    return dict(zip(_VECTOR, ("text_time", _TIME_WAVES, width), strict=True))


_FIXED = {
    "center_input_sample": False, "flip_sin_to_cos": True, "freq_shift": 0,
    "only_cross_attention": False, "downsample_padding": 1, "mid_block_scale_factor": 1,
    "act_fn": "silu", "encoder_hid_dim": None, "encoder_hid_dim_type": None,
    "dual_cross_attention": False, "class_embed_type": None, "num_class_embeds": None,
    "resnet_skip_time_act": False, "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional", "time_embedding_dim": None,
    "time_embedding_act_fn": None, "timestep_post_act": None, "time_cond_proj_dim": None,
    "conv_in_kernel": 3, "conv_out_kernel": 3, "attention_type": "default",
    "class_embeddings_concat": False, "mid_block_only_cross_attention": None,
    "cross_attention_norm": None, "reverse_transformer_layers_per_block": None,
}  # fmt: skip


def _way_rows(way: str, change: str, is_linear: bool) -> tuple[TensorRow, ...]:
    """Returns the rows of the levels of a way, "down" or "up"."""
    ours, theirs = f"denoiser.{way}.{{level}}", f"{way}_blocks.{{level}}"
    attention = f"{ours}.attentions.{{block}}", f"{theirs}.attentions.{{block}}"
    return (
        *residual_rows(f"{ours}.blocks.{{block}}", f"{theirs}.resnets.{{block}}"),
        *transformer_rows(*attention, is_linear),
        *pixel_attention_rows(*attention),
        *convolution_rows(f"{ours}.after.convolution", f"{theirs}.{change}.0.conv"),
        *residual_rows(f"{ours}.after", f"{theirs}.{change}.0"),
    )


def _family(name: str, is_linear: bool) -> Family:
    middle = "denoiser.middle.attention", "mid_block.attentions.0"
    return Family(
        name=name,
        library="diffusers",
        architectures=("UNet2DConditionModel",),
        model_types=(),
        kind=DiffusionConfig,
        denoiser=UNetConfig,
        assemble=_assemble,
        accepts=lambda values: bool(values.get("use_linear_projection")) == is_linear,
        entries=(
            Field("sample_size", "denoiser.size"),
            Linked(_CHANNELS, _read_channels, _write_channels),
            Linked(
                ("block_out_channels",),
                _read_widths,
                lambda config: write_widths(config.denoiser.widths[1:]),
            ),
            Linked(_TYPES, _read_types, _write_types),
            Linked(_HEADS, _read_heads, _write_heads),
            _read_each("layers_per_block", "blocks", 2),
            _read_each("transformer_layers_per_block", "transformer_depth", 1),
            Field("cross_attention_dim", "denoiser.context_dim", 1280),
            Field("norm_num_groups", "denoiser.norm_groups", 32),
            Field("norm_eps", "denoiser.norm_epsilon", 1e-5, (float,)),
            Field(
                "resnet_time_scale_shift", "denoiser.scale_shift", False, (str,),
                {"default": False, "scale_shift": True},
            ),
            Linked(_VECTOR, _read_vector, _write_vector),
            Fixed("use_linear_projection", is_linear),
            *(Fixed(key, value) for key, value in _FIXED.items()),
        ),
        inert=(*INERT, "addition_embed_type_num_heads", "upcast_attention"),
        rows=(
            *two_layers_rows("denoiser.time.layers", "time_embedding"),
            *two_layers_rows("denoiser.pooled", "add_embedding"),
            *convolution_rows("denoiser.first", "conv_in"),
            *_way_rows("down", "downsamplers", is_linear),
            *residual_rows("denoiser.middle.first", "mid_block.resnets.0"),
            *transformer_rows(*middle, is_linear),
            *pixel_attention_rows(*middle),
            *residual_rows("denoiser.middle.second", "mid_block.resnets.1"),
            *_way_rows("up", "upsamplers", is_linear),
            *norm_rows("denoiser.norm", "conv_norm_out"),
            *convolution_rows("denoiser.last", "conv_out"),
        ),
        stacks=(),
    )  # fmt: skip


UNET = _family("unet", is_linear=False)
UNET_LINEAR = _family("unet_linear", is_linear=True)
