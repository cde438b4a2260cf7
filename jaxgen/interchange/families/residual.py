"""Rows of the tensors of residual blocks and of attention of pixels, as diffusers names them."""

from __future__ import annotations

from jaxgen.interchange.families.diffusion import OWN, attention_rows, module_rows
from jaxgen.interchange.tables import TensorRow, row


def convolution_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a convolution."""
    return (
        row(f"{ours}.weight", f"{theirs}.weight", "p q c d", "d c p q"),
        row(f"{ours}.bias", f"{theirs}.bias", "d"),
    )


def norm_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a norm."""
    return row(f"{ours}.scale", f"{theirs}.weight", "d"), row(f"{ours}.bias", f"{theirs}.bias", "d")


def residual_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a residual block."""
    return (
        *norm_rows(f"{ours}.norm", f"{theirs}.norm1"),
        *convolution_rows(f"{ours}.first", f"{theirs}.conv1"),
        *module_rows(f"{ours}.time", f"{theirs}.time_emb_proj"),
        *norm_rows(f"{ours}.second_norm", f"{theirs}.norm2"),
        *convolution_rows(f"{ours}.second", f"{theirs}.conv2"),
        *convolution_rows(f"{ours}.skip", f"{theirs}.conv_shortcut"),
    )


def pixel_attention_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of an attention of pixels, perhaps to a sequence too."""
    rows = [*norm_rows(f"{ours}.group_norm", f"{theirs}.group_norm")]
    rows += attention_rows(ours, theirs, OWN)
    for one, name in (("context_key", "add_k_proj"), ("context_value", "add_v_proj")):
        rows.append(row(f"{ours}.{one}", f"{theirs}.{name}.weight", "d h w", "(h w) d"))
        rows.append(row(f"{ours}.{one}_bias", f"{theirs}.{name}.bias", "h w", "(h w)"))
    return tuple(rows)


def transformer_rows(ours: str, theirs: str, is_linear: bool) -> tuple[TensorRow, ...]:
    """Returns the rows of a spatial transformer, whose ends may be convolutions of one pixel."""
    end = "b a" if is_linear else "b a () ()"
    own, other = f"{ours}.blocks.{{number}}", f"{theirs}.transformer_blocks.{{number}}"
    up = f"{own}.feed_forward.up", f"{own}.feed_forward.gate"
    return (
        *norm_rows(f"{ours}.norm", f"{theirs}.norm"),
        row(f"{ours}.first.weight", f"{theirs}.proj_in.weight", "a b", end),
        row(f"{ours}.first.bias", f"{theirs}.proj_in.bias", "b"),
        *norm_rows(f"{own}.attention_norm", f"{other}.norm1"),
        *attention_rows(f"{own}.attention", f"{other}.attn1", OWN),
        *norm_rows(f"{own}.cross_norm", f"{other}.norm2"),
        *attention_rows(f"{own}.cross_attention", f"{other}.attn2", OWN),
        *norm_rows(f"{own}.feed_forward_norm", f"{other}.norm3"),
        row(" ".join(up), f"{other}.ff.net.0.proj.weight", "d f", "(part f) d"),
        row(" ".join(f"{one}_bias" for one in up), f"{other}.ff.net.0.proj.bias", "f", "(part f)"),
        row(f"{own}.feed_forward.down", f"{other}.ff.net.2.weight", "f d", "d f"),
        row(f"{own}.feed_forward.down_bias", f"{other}.ff.net.2.bias", "d"),
        row(f"{ours}.last", f"{theirs}.proj_out.weight", "a b", end),
        row(f"{ours}.last_bias", f"{theirs}.proj_out.bias", "b"),
    )
