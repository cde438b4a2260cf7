"""What the families of diffusers' denoisers share: parts of configurations, rows of tensors."""

from __future__ import annotations

from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import assemble
from jaxgen.interchange.tables import TensorRow, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import Bidirectional

BOTH_WAYS = (LayerConfig(mask=(Bidirectional(),), rope=None),)
INERT = ("dropout",)


def section(fields: dict[str, Any], part: str) -> dict[str, Any]:
    """Returns the fields whose names begin with a part's, by the rest of their names."""
    return {
        name.removeprefix(part): value for name, value in fields.items() if name.startswith(part)
    }


def denoiser_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a denoiser, its stack made of those of "denoiser.stack."."""
    own = section(fields, "denoiser.")
    stack = assemble(section(own, "stack."), StackConfig)
    return {name: value for name, value in own.items() if not name.startswith("stack.")} | {
        "stack": stack
    }


def stack_constants(layers: tuple[LayerConfig, ...], has_norms: bool) -> dict[str, Any]:
    """Returns what the stacks of diffusers' denoisers share."""
    groups = ("qkv", "attention_out", "feed_forward", *(("norm",) if has_norms else ()))
    constants = {"layers": layers, "norm": "layer", "gated": False, "norm_scale": has_norms}
    constants |= {f"biases.{group}": True for group in groups}
    return {f"denoiser.stack.{name}": value for name, value in constants.items()}


def read_heads(values: Values, heads: int, width: int) -> dict[str, Any]:
    """Returns the fields of the heads, and of the widths that follow from them.

    Args:
      values: config.json.
      heads: where it lacks their number.
      width: where it lacks theirs.
    """
    heads = values.get("num_attention_heads") or heads
    width = values.get("attention_head_dim") or width
    fields = {"num_heads": heads, "embed_dim": heads * width, "mlp_dim": 4 * heads * width}
    return {f"denoiser.stack.{name}": value for name, value in fields.items()}


def write_heads(config: Any) -> dict[str, Any]:
    """Returns the keys of the heads."""
    stack = config.denoiser.stack
    return {"num_attention_heads": stack.num_heads, "attention_head_dim": stack.width_of_head}


def must_be(values: Values, key: str, expected: Any, why: str) -> None:
    """Raises InterchangeError if a key has a value other than the one that follows from others."""
    found = values.get(key)
    if found is not None and found != expected:
        raise InterchangeError(
            f"config.json says {key}={found!r}; jaxgen supports {expected!r} here, {why}."
        )


def linear_rows(ours: str, theirs: str, bias: str = "_bias") -> tuple[TensorRow, ...]:
    """Returns the rows of a matrix and its bias."""
    return row(ours, f"{theirs}.weight", "a b", "b a"), row(ours + bias, f"{theirs}.bias", "b")


def module_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a module of a matrix and its bias."""
    return (
        row(f"{ours}.weight", f"{theirs}.weight", "a b", "b a"),
        row(f"{ours}.bias", f"{theirs}.bias", "b"),
    )


def two_layers_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of two layers."""
    return (
        *linear_rows(f"{ours}.first", f"{theirs}.linear_1"),
        *linear_rows(f"{ours}.second", f"{theirs}.linear_2"),
    )


def patch_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of the projection of patches."""
    return (
        row(f"{ours}.weight", f"{theirs}.weight", "p q c d", "d c p q"),
        row(f"{ours}.bias", f"{theirs}.bias", "d"),
    )


def stream_rows(ours: str, names: tuple[str, str, str, str], suffix: str) -> tuple[TensorRow, ...]:
    """Returns the rows of one stream of a block of two, with the suffix of its tensors' names."""
    added = "_added" if suffix else ""
    return (
        *module_rows(f"{ours}.modulation", f"norm1{suffix}.linear"),
        *attention_rows(f"{ours}.attention", "attn", names),
        row(f"{ours}.attention.query_norm.scale", f"attn.norm{added}_q.weight", "w"),
        row(f"{ours}.attention.key_norm.scale", f"attn.norm{added}_k.weight", "w"),
        *feed_forward_rows(f"{ours}.feed_forward", f"ff{suffix}"),
    )


def patch_out_rows(theirs: str, order: str) -> tuple[TensorRow, ...]:
    """Returns the rows of the way back to patches, whose numbers have an order in the file."""
    return (
        row("denoiser.out", f"{theirs}.weight", "d p q c", f"({order}) d"),
        row("denoiser.out_bias", f"{theirs}.bias", "p q c", f"({order})"),
    )


def attention_rows(
    ours: str, theirs: str, names: tuple[str, str, str, str]
) -> tuple[TensorRow, ...]:
    """Returns the rows of attention.

    Args:
      ours: the module's name.
      theirs: likewise.
      names: of the matrices to queries, keys and values, and back to the stream.
    """
    rows = []
    for one, name in zip(("query", "key", "value"), names, strict=False):
        rows.append(row(f"{ours}.{one}", f"{theirs}.{name}.weight", "d h w", "(h w) d"))
        rows.append(row(f"{ours}.{one}_bias", f"{theirs}.{name}.bias", "h w", "(h w)"))
    rows.append(row(f"{ours}.out", f"{theirs}.{names[3]}.weight", "h w d", "d (h w)"))
    rows.append(row(f"{ours}.out_bias", f"{theirs}.{names[3]}.bias", "d"))
    return tuple(rows)


def feed_forward_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a feed-forward without a gate."""
    return (
        *linear_rows(f"{ours}.up", f"{theirs}.net.0.proj"),
        *linear_rows(f"{ours}.down", f"{theirs}.net.2"),
    )


OWN = ("to_q", "to_k", "to_v", "to_out.0")
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
