"""An offline HTML page about the data of a mixture, to be read before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from jaxgen.data.mixtures import Mixture
from jaxgen.data.statistics import ReadingPlan, TaskStatistics, describe
from jaxgen.errors import DataError


def write_data_report(mixture: Mixture, plan: ReadingPlan, path: Path) -> list[TaskStatistics]:
    """Writes the page, whole or not at all, and returns its statistics.

    Raises:
      DataError: if a task cannot be read, or the page cannot be written.
    """
    statistics = describe(mixture, plan)
    page = _page(mixture, plan, statistics)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
    return statistics


def _page(mixture: Mixture, plan: ReadingPlan, statistics: Sequence[TaskStatistics]) -> str:
    import jinja2

    text = resources.files("jaxgen.data").joinpath("assets", "data_report.html")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"number": _number, "percent": _percent}
    positions = plan.num_rows * (plan.length + (plan.source_length or 0))
    used = sum(one.share_of_rows * one.share_used for one in statistics)
    return environment.from_string(text.read_text(encoding="utf-8")).render(
        mixture=mixture,
        plan=plan,
        tasks=[(one, _histogram(one.lengths), _quantiles(one.lengths)) for one in statistics],
        positions=positions,
        used=used,
        most_repeated=max(statistics, key=lambda one: one.epochs),
        most_tokens=max(one.share_of_tokens for one in statistics),
    )


def _histogram(lengths: np.ndarray) -> list[tuple[str, float]]:
    """Returns (range of lengths, share of the documents), ranges doubling."""
    if not len(lengths):
        return []
    places = np.floor(np.log2(np.maximum(lengths, 1))).astype(int)
    counts = np.bincount(places)
    first = int(places.min())
    return [
        (f"{2**place} to {2 ** (place + 1) - 1}", float(counts[place] / len(lengths)))
        for place in range(first, len(counts))
    ]


def _quantiles(lengths: np.ndarray) -> list[int]:
    shares = (0.0, 0.1, 0.5, 0.9, 1.0)
    return [int(np.quantile(lengths, share)) for share in shares] if len(lengths) else []


def _number(value: float | None) -> str:
    if value is None:
        return "made on the spot"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def _percent(share: float) -> str:
    digits = 1 if share == 0 or share >= 0.01 else min(6, 1 - math.floor(math.log10(share)) - 1)
    return f"{100 * share:.{digits}f} %"
