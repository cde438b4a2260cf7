"""Layers that attend to a sliding window only, in config.json and in `model.layers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Linked, among, checked
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import Values
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.masks import Causal, Window
from jaxgen.ops.positions import Rope

LOCAL, GLOBAL = "sliding_attention", "full_attention"


def rotary_layers(
    qk_norm: Any = None, scales_logits: bool = False, interleaved: bool | None = False,
    base: float = 10_000.0,
) -> Linked:  # fmt: skip
    """Returns the entry of layers that all attend to everything before them.

    Args:
      qk_norm: of the family.
      scales_logits: see `read_rope`.
      interleaved: likewise; None reads the key `rope_interleave`, whose default is True.
      base: likewise.
    """

    def read(values: Values) -> dict[str, Any]:
        pairs = interleaved
        if pairs is None:
            found = values.get("rope_interleave")
            pairs = True if found is None else checked("rope_interleave", found, (bool,))
        rope = read_rope(values, pairs, scales_logits, base)
        return {"layers": (LayerConfig(rope=rope, qk_norm=qk_norm),)}

    def write(config: TransformerConfig) -> dict[str, Any]:
        rope = config.layers[0].rope or Rope()
        written = write_rope(rope, scales_logits)
        return written | ({} if interleaved is not None else {"rope_interleave": rope.interleaved})

    keys = (*ROPE_KEYS, *(() if interleaved is not None else ("rope_interleave",)))
    return Linked(keys, read, write)


def windowed_layers(
    keys: tuple[str, ...],
    types: Callable[[Values, int], list[str]],
    write_window: Callable[[TransformerConfig, list[str], int | None], dict[str, Any]],
    qk_norm: Any = None,
    local_rope: bool = False,
    base: float = 10_000.0,
) -> Linked:
    """Returns the entry of layers of which some attend to `sliding_window` tokens only.

    Args:
      keys: the keys that tell which, beside those of rotary positions and `sliding_window`.
      types: maps config.json and the number of layers to LOCAL or GLOBAL, layer by layer.
      write_window: the inverse: maps a configuration, its layers' types and the window to keys.
      qk_norm: of the family.
      local_rope: whether windowed layers rotate by `rope_local_base_freq` instead (Gemma 3).
      base: of the rotary positions, where config.json has none.
    """

    def read(values: Values) -> dict[str, Any]:
        kinds = types(values, values["num_hidden_layers"])
        window = values.get("sliding_window")
        if LOCAL in kinds:
            window = checked("sliding_window", window, (int,))
        ropes = _read_ropes(values, local_rope, base)
        layers = {
            GLOBAL: LayerConfig(rope=ropes[GLOBAL], qk_norm=qk_norm),
            LOCAL: LayerConfig((Causal(), Window(window or 1)), ropes[LOCAL], qk_norm),
        }
        return {"layers": tuple(layers[kind] for kind in shortest_period(kinds))}

    def write(config: TransformerConfig) -> dict[str, Any]:
        kinds = layer_types(config)
        layers = dict(zip(kinds, layers_in_order(config), strict=True))
        seen = layers[LOCAL].mask if LOCAL in layers else ()
        windows = [predicate.size for predicate in seen if isinstance(predicate, Window)]
        first = layers.get(GLOBAL) or layers[LOCAL]
        written = write_rope(first.rope or Rope())
        if local_rope:
            written["rope_local_base_freq"] = ((layers.get(LOCAL) or first).rope or Rope()).base
        return written | write_window(config, kinds, windows[0] if windows else None)

    local = ("rope_local_base_freq",) if local_rope else ()
    return Linked((*ROPE_KEYS, "sliding_window", *keys, *local), read, write)


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


def layers_in_order(config: TransformerConfig) -> list[LayerConfig]:
    """Returns the configuration of every layer."""
    return [config.layers[i % len(config.layers)] for i in range(config.num_layers)]


def layer_types(config: TransformerConfig) -> list[str]:
    """Returns LOCAL or GLOBAL, layer by layer."""
    return [
        LOCAL if any(isinstance(predicate, Window) for predicate in layer.mask) else GLOBAL
        for layer in layers_in_order(config)
    ]


def shortest_period(kinds: list[str]) -> list[str]:
    """Returns the shortest list that, repeated and cut to length, is the whole one."""
    for period in range(1, len(kinds) + 1):
        if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            return kinds[:period]
    return kinds


def _read_ropes(values: Values, local_rope: bool, base: float) -> dict[str, Rope]:
    settings = values.get("rope_parameters") or {}
    if local_rope and (LOCAL in settings or GLOBAL in settings):
        return {
            kind: read_rope({**values, "rope_parameters": settings.get(kind)}, base=base)
            for kind in (LOCAL, GLOBAL)
        }
    rope = read_rope(values, base=base)
    if not local_rope:
        return {LOCAL: rope, GLOBAL: rope}
    local = values.get("rope_local_base_freq") or 10_000.0
    local = dataclasses.replace(rope, base=float(local), scaling=None)
    return {LOCAL: local, GLOBAL: rope}
