"""Means of a task's rows, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.evaluation.answers import Row
from jaxgen.evaluation.metrics import (
    calibration_error,
    calibration_interval,
    mean_interval,
    ratio_interval,
    reliability,
    success_interval,
)


def summarise(
    rows: Sequence[Row],
    metrics: Sequence[str],
    chance: float | None = None,
    ratios: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Returns the mean of each metric over the rows.

    Args:
      rows: the rows of one task.
      metrics: names; those that the rows lack are skipped.
      chance: exact matches that guessing gets; None: the rows' own.
      ratios: by name two columns, whose sums over all rows are divided; {} by default.

    Returns:
      By metric the mean, under NAME_interval the 95 % interval over instances (Wilson's of exact
      matches and of other integers that are 0 or 1, a bootstrap of the rest) and likewise each
      ratio whose second column is not all 0, "calibration_error" where the rows have a confidence,
      with its interval and the curve "reliability" where they have an "outcome" beside it,
      "contaminated" (a share) and "exact_match_clean" where rows are flagged, "chance" where it is
      known, and "num_examples".
    """
    summary: dict[str, Any] = {}
    for name in metrics:
        values = [float(row[name]) for row in rows if name in row]
        if not values:
            continue
        summary[name] = float(np.mean(values))
        if name == "exact_match" or _are_outcomes([row[name] for row in rows if name in row]):
            interval = success_interval(int(sum(values)), len(values))
        else:
            interval = mean_interval(values)
        summary[f"{name}_interval"] = list(interval)
    for name, (over, under) in (ratios or {}).items():
        sums, weights = ([float(row[column]) for row in rows] for column in (over, under))
        if sum(weights):
            summary[name] = sum(sums) / sum(weights)
            summary[f"{name}_interval"] = list(ratio_interval(sums, weights))
    if rows and all("confidence" in row for row in rows):
        column = "outcome" if all("outcome" in row for row in rows) else "exact_match"
        confidences, outcomes = ([row[name] for row in rows] for name in ("confidence", column))
        summary["calibration_error"] = calibration_error(confidences, outcomes)
        if column == "outcome":
            interval = calibration_interval(confidences, outcomes)
            summary["calibration_error_interval"] = list(interval)
            summary["reliability"] = reliability(confidences, outcomes)
    if rows and all("contaminated" in row for row in rows):
        clean = [row["exact_match"] for row in rows if not row["contaminated"]]
        summary["contaminated"] = 1 - len(clean) / len(rows)
        summary["exact_match_clean"] = float(np.mean(clean)) if clean else None
    if chance is None and rows and all("chance" in row for row in rows):
        chance = float(np.mean([row["chance"] for row in rows]))
    if chance is not None:
        summary["chance"] = chance
    return summary | {"num_examples": len(rows)}


def _are_outcomes(values: Sequence[Any]) -> bool:
    """Returns whether values are successes and failures: integers, 1 and 0."""
    return all(isinstance(value, int) and value in (0, 1) for value in values)
