"""Agreement of two approaches to the best size of a compute budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.studies.formatting import percent


def compare_approaches(
    second: Mapping[str, Any], third: Mapping[str, Any], level: float
) -> dict[str, Any]:
    """Compares the second and third approach of the tree: "is_agreed" and a "sentence".

    They disagree where their intervals of the exponent of N*, or of N* at the largest compute that
    was measured, have nothing in common.
    """
    apart = []
    if not _overlap(second["exponent_interval"], third["exponent_interval"]):
        grown = [
            f"C^{one['exponent']:.3f} ({_range(one['exponent_interval'], '.3f')})"
            for one in (second, third)
        ]
        apart.append(f"N* grows as {grown[0]} by the minima and as {grown[1]} by Chinchilla's law")
    ends = [
        [best for best in one["optima"] if not best["is_beyond_runs"]][-1]
        for one in (second, third)
    ]
    if not _overlap(*(end["parameters_interval"] for end in ends)):
        grown = [
            f"{end['parameters']:.3g} ({_range(end['parameters_interval'], '.3g')})" for end in ends
        ]
        apart.append(
            f"at {ends[0]['flops']:.3g} FLOPs N* is {grown[0]} by the minima and {grown[1]} by "
            "Chinchilla's law"
        )
    if not apart:
        sentence = f"The two approaches agree within their {percent(level)} intervals."
    else:
        sentence = (
            f"The two approaches disagree beyond their {percent(level)} intervals: "
            f"{'; '.join(apart)}. The intervals cover the noise of the runs, not the error of a "
            "curve or law that does not fit."
        )
    return {"is_agreed": not apart, "sentence": sentence}


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return max(first[0], second[0]) <= min(first[1], second[1])


def _range(bounds: Sequence[float], style: str) -> str:
    return f"{bounds[0]:{style}} to {bounds[1]:{style}}"
