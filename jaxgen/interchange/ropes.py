"""Rotary positions in config.json: `rope_theta` with `rope_scaling`, or `rope_parameters`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import among, checked
from jaxgen.interchange.tables import Values
from jaxgen.ops.positions import Rope, RopeScaling

ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
_OF_ALL = ("rope_type", "type", "rope_theta", "factor", "partial_rotary_factor")
_ORIGINAL = "original_max_position_embeddings"
_OF_KIND = {
    "default": ("mrope_section", "mrope_interleaved"),
    "linear": (),
    "dynamic": (_ORIGINAL,),
    "llama3": ("low_freq_factor", "high_freq_factor", _ORIGINAL),
    "yarn": (
        "beta_fast", "beta_slow", _ORIGINAL, "attention_factor", "mscale", "mscale_all_dim",
        "truncate",
    ),
    "longrope": (_ORIGINAL, "attention_factor", "short_factor", "long_factor"),
}  # fmt: skip
# Of text, whose positions are the same along each axis, "mrope" rotates as "default" does.
_SYNONYMS = {"su": "longrope", "mrope": "default"}


def read_rope(
    values: Values,
    interleaved: bool = False,
    scales_logits: bool = False,
    base: float = 10_000.0,
    fraction: float | None = None,
) -> Rope:
    """Returns the rotary positions that config.json describes.

    Args:
      values: config.json, with one flat `rope_parameters` or the two older keys.
      interleaved: whether the family turns neighbouring pairs.
      scales_logits: whether it reads `mscale_all_dim` as DeepSeek does, for attention's logits too.
      base: of the family, where config.json has none.
      fraction: likewise, of a head that is turned; None: the family turns whole heads.

    Raises:
      InterchangeError: naming what is not supported.
    """
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    checked("rope_parameters", rope, (dict,))
    base = rope.get("rope_theta") or values.get("rope_theta") or base
    kind = rope.get("rope_type") or rope.get("type") or "default"
    kind = "longrope" if "short_factor" in rope else _SYNONYMS.get(kind, kind)
    among("rope_scaling.rope_type", kind, tuple(_OF_KIND))
    for key, value in rope.items():
        if key not in (*_OF_ALL, *_OF_KIND[kind]) and value is not None:
            raise InterchangeError(
                f"config.json says rope_scaling.{key}={value!r}, which jaxgen does not know for "
                f"{kind!r}; it supports {sorted({*_OF_ALL, *_OF_KIND[kind]})}."
            )
    share = rope.get("partial_rotary_factor")
    if fraction is None:
        among("rope_scaling.partial_rotary_factor", share or 1.0, (1.0,))
    share = share or values.get("partial_rotary_factor") or fraction or 1.0
    scaling = None if kind == "default" else _read_scaling(kind, rope, values, scales_logits)
    share = checked("partial_rotary_factor", share, (float,))
    return Rope(float(base), share, interleaved, scaling)


def write_rope(rope: Rope, scales_logits: bool = False) -> dict[str, Any]:
    """Returns `rope_theta` and `rope_scaling`, which every version of transformers reads."""
    written = {"rope_theta": rope.base, "rope_scaling": _write_scaling(rope.scaling, scales_logits)}
    if rope.scaling is not None and rope.scaling.kind == "dynamic":
        written["max_position_embeddings"] = rope.scaling.original_length
    return written


def _read_scaling(
    kind: Any, rope: Mapping[str, Any], values: Values, scales_logits: bool
) -> RopeScaling:
    if kind == "linear":
        return RopeScaling("linear", _number(rope, "factor"))
    longest = values.get("max_position_embeddings")
    length = rope.get(_ORIGINAL) or values.get(_ORIGINAL) or longest
    if kind == "dynamic":
        length = longest  # transformers reads nothing else here.
    length = checked(f"rope_scaling.{_ORIGINAL}", length, (int,))
    if kind == "dynamic":
        return RopeScaling("dynamic", _number(rope, "factor"), length)
    if kind == "llama3":
        low, high = _number(rope, "low_freq_factor"), _number(rope, "high_freq_factor")
        return RopeScaling("llama3", _number(rope, "factor"), length, low, high)
    if kind == "longrope":
        short, long = (
            tuple(map(float, checked(f"rope_scaling.{key}", rope.get(key), (list,))))
            for key in ("short_factor", "long_factor")
        )
        size = rope.get("attention_factor")
        if size is None:
            factor = max(_number(rope, "factor", (longest or length) / length), 1.0)
            size = math.sqrt(1 + math.log(factor) / math.log(length))
        size = checked("rope_scaling.attention_factor", size, (float,))
        return RopeScaling(
            "longrope", original_length=length, magnitude=size, short=short, long=long
        )
    factor = rope.get("factor")
    factor = (longest or 0) / length if factor is None else _number(rope, "factor")
    low, high = _number(rope, "beta_slow", 1.0), _number(rope, "beta_fast", 32.0)
    magnitude, logit_magnitude = _read_magnitudes(rope, factor, scales_logits)
    truncate = checked("rope_scaling.truncate", rope.get("truncate", True), (bool,))
    return RopeScaling("yarn", factor, length, low, high, magnitude, logit_magnitude, truncate)


def _read_magnitudes(
    rope: Mapping[str, Any], factor: float, scales_logits: bool
) -> tuple[float, float]:
    """Returns yarn's magnitudes of cosine and sine, and of attention's logits."""
    magnitude = _number(rope, "mscale", 0.0)
    logit_magnitude = _number(rope, "mscale_all_dim", 0.0)
    size = rope.get("attention_factor")
    if size is None and not (magnitude and logit_magnitude):
        if scales_logits and logit_magnitude:
            raise InterchangeError(
                f"config.json says rope_scaling.mscale_all_dim={logit_magnitude} without mscale; "
                "jaxgen supports both or neither."
            )
        return 1.0, 0.0
    if size is None and scales_logits:
        return magnitude, logit_magnitude
    if size is None:
        size = _growth(magnitude, factor) / _growth(logit_magnitude, factor)
        logit_magnitude = 0.0
    elif not scales_logits:
        logit_magnitude = 0.0
    grown = checked("rope_scaling.attention_factor", size, (float,))
    grown *= _growth(logit_magnitude, factor)
    return (grown - 1) / (0.1 * math.log(factor)) if factor > 1 else 1.0, logit_magnitude


def _write_scaling(scaling: RopeScaling | None, scales_logits: bool) -> dict[str, Any] | None:
    if scaling is None or scaling.kind == "ntk":
        return None
    written: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind in ("linear", "dynamic"):
        return written
    written[_ORIGINAL] = scaling.original_length
    if scaling.kind == "longrope":
        del written["factor"]
        written |= {"short_factor": list(scaling.short), "long_factor": list(scaling.long)}
        return written | {"attention_factor": scaling.magnitude}
    if scaling.kind == "llama3":
        return written | {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    written |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
    if not scaling.truncate:
        written["truncate"] = False
    if scales_logits and scaling.logit_magnitude:
        return written | {"mscale": scaling.magnitude, "mscale_all_dim": scaling.logit_magnitude}
    if scaling.magnitude != 1.0:
        written["attention_factor"] = scaling.magnification()
    return written


def _growth(magnitude: float, factor: float) -> float:
    return 1 + 0.1 * magnitude * math.log(factor)


def _number(rope: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = rope.get(key)
    if value is None and default is not None:
        return default
    return checked(f"rope_scaling.{key}", value, (float,))
