"""Layers that attend to a sliding window only, in config.json and in `model.layers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Linked, among, checked
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import Values
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import Causal, Window
from jaxgen.ops.positions import Rope

T = TypeVar("T")
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def rotary_layers(
    qk_norm: Any = None, scales_logits: bool = False, interleaved: bool | None = False,
    base: float = 10_000.0, fraction: float | None = None, qk_norm_key: str | None = None,
) -> Linked:  # fmt: skip
    """Returns the entry of layers that all attend to everything before them.

    Args:
      qk_norm: of the family.
      scales_logits: see `read_rope`.
      interleaved: likewise; None reads the key `rope_interleave`, whose default is True.
      base: likewise.
      fraction: likewise.
      qk_norm_key: the key that says whether queries and keys have norms, each head its own.
    """

    def read(values: Values) -> dict[str, Any]:
        pairs, normed = interleaved, qk_norm
        if pairs is None:
            found = values.get("rope_interleave")
            pairs = True if found is None else checked("rope_interleave", found, (bool,))
        if qk_norm_key and checked(qk_norm_key, values.get(qk_norm_key) or False, (bool,)):
            normed = "heads"
        rope = read_rope(values, pairs, scales_logits, base, fraction)
        return {"layers": (LayerConfig(rope=rope, qk_norm=normed),)}

    def write(config: TransformerConfig) -> dict[str, Any]:
        rope = config.layers[0].rope or Rope()
        written = write_rope(rope, scales_logits)
        if fraction is not None:
            written["partial_rotary_factor"] = rope.fraction
        if qk_norm_key is not None:
            written[qk_norm_key] = config.layers[0].qk_norm == "heads"
        return written | ({} if interleaved is not None else {"rope_interleave": rope.interleaved})

    keys = (*ROPE_KEYS, *(() if interleaved is not None else ("rope_interleave",)))
    keys += () if qk_norm_key is None else (qk_norm_key,)
    keys += () if fraction is None else ("partial_rotary_factor",)
    return Linked(keys, read, write)


def windowed_layers(
    keys: tuple[str, ...],
    types: Callable[[Values, int], list[str]],
    write_window: Callable[[TransformerConfig, list[str], int | None], dict[str, Any]],
    qk_norm: Any = None,
    local_base: float | None = None,
    local_base_key: str | None = None,
    base: float = 10_000.0,
    window: int | None = None,
    fraction: float | None = None,
) -> Linked:
    """Returns the entry of layers of which some attend to `sliding_window` tokens only.

    Args:
      keys: the keys that tell which, beside those of rotary positions and `sliding_window`.
      types: maps config.json and the number of layers to LOCAL or GLOBAL, layer by layer.
      write_window: the inverse: maps a configuration, its layers' types and the window to keys.
      qk_norm: of the family.
      local_base: the base of windowed layers, which no scaling changes, where it is another.
      local_base_key: its key.
      base: of the rotary positions, where config.json has none.
      window: likewise, of the tokens.
      fraction: see `read_rope`.
    """

    def read_ropes(values: Values) -> dict[str, Rope]:
        settings = values.get("rope_parameters") or {}
        if local_base is None or not {LOCAL, GLOBAL} & set(settings):
            rope = read_rope(values, base=base, fraction=fraction)
            if local_base is None:
                return {LOCAL: rope, GLOBAL: rope}
            own = values.get(local_base_key) if local_base_key else None
            local = dataclasses.replace(rope, base=float(own or local_base), scaling=None)
            return {LOCAL: local, GLOBAL: rope}
        return {
            kind: read_rope({**values, "rope_parameters": settings.get(kind)}, base=base)
            for kind in (LOCAL, GLOBAL)
        }

    def read(values: Values) -> dict[str, Any]:
        kinds = types(values, values["num_hidden_layers"])
        size = values.get("sliding_window", window)
        if LOCAL in kinds:
            size = checked("sliding_window", size, (int,))
        ropes = read_ropes(values)
        layers = {
            GLOBAL: LayerConfig(rope=ropes[GLOBAL], qk_norm=qk_norm),
            LOCAL: LayerConfig((Causal(), Window(size or 1)), ropes[LOCAL], qk_norm),
        }
        return {"layers": tuple(layers[kind] for kind in shortest_period(kinds))}

    def write(config: TransformerConfig) -> dict[str, Any]:
        kinds = layer_types(config)
        layers = dict(zip(kinds, layers_in_order(config), strict=True))
        seen = layers[LOCAL].mask if LOCAL in layers else ()
        windows = [predicate.size for predicate in seen if isinstance(predicate, Window)]
        first = layers.get(GLOBAL) or layers[LOCAL]
        written = write_rope(first.rope or Rope())
        if fraction is not None:
            written["partial_rotary_factor"] = (first.rope or Rope()).fraction
        if local_base_key is not None:
            written[local_base_key] = ((layers.get(LOCAL) or first).rope or Rope()).base
        return written | write_window(config, kinds, windows[0] if windows else None)

    local = () if local_base_key is None else (local_base_key,)
    local += () if fraction is None else ("partial_rotary_factor",)
    return Linked((*ROPE_KEYS, "sliding_window", *keys, *local), read, write)


def all_windowed(
    base: float = 10_000.0, window: int | None = None, fraction: float | None = None
) -> Linked:
    """Returns the entry of layers that are all windowed, or none where `sliding_window` is null.

    Args:
      base: see `windowed_layers`.
      window: likewise.
      fraction: likewise.
    """
    return windowed_layers(
        (),
        lambda values, count: [LOCAL if values.get("sliding_window", window) else GLOBAL] * count,
        lambda config, kinds, window: {"sliding_window": window},
        base=base,
        window=window,
        fraction=fraction,
    )


def read_types(default: Callable[[Values, int], list[str]]) -> Callable[[Values, int], list[str]]:
    """Returns a reader of config.json's `layer_types`; `default` is for a file without them."""

    def types(values: Values, num_layers: int) -> list[str]:
        kinds = values.get("layer_types")
        if kinds is None:
            return default(values, num_layers)
        for kind in kinds:
            among("layer_types", kind, (LOCAL, GLOBAL))
        if len(kinds) != num_layers:
            raise InterchangeError(
                f"config.json has {len(kinds)} layer_types for num_hidden_layers={num_layers}."
            )
        return kinds

    return types


def layers_in_order(config: StackConfig) -> list[LayerConfig]:
    """Returns the configuration of every layer."""
    return [config.layer_of(number) for number in range(config.num_layers)]


def layer_types(config: TransformerConfig) -> list[str]:
    """Returns LOCAL or GLOBAL, layer by layer."""
    return [
        LOCAL if any(isinstance(predicate, Window) for predicate in layer.mask) else GLOBAL
        for layer in layers_in_order(config)
    ]


def shortest_period(kinds: list[T]) -> list[T]:
    """Returns the shortest list that, repeated and cut to length, is the whole one."""
    for period in range(1, len(kinds) + 1):
        if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            return kinds[:period]
    return kinds
