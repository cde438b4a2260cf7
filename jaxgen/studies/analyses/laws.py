"""The laws of a study's losses: parameters, how sure they are, what they hang on, how they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import (
    ROBUST,
    Fit,
    Fitting,
    LawError,
    Table,
    Variation,
    backtest,
    drop_sizes,
    vary_delta,
    vary_parameters,
)
from jaxgen.studies.analyses.law_remarks import remarks
from jaxgen.studies.law_selection import ONCE, LawChoice, epochs_of, select_law
from jaxgen.studies.study_runs import StudyRun, group_by_ladder, table_of

LEVEL = 0.95
HOLDOUT_LEVEL = 0.9
CURVE_POINTS = 40
REACH = 3.0
"""Times the largest scale: how far a curve is drawn."""
PLAIN = Fitting(bootstraps=0)


def analyse_laws(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """The law of the mean held-out loss, then of every task's; of every mixture, and of its dense
    and its sparse runs, apart.

    Returns:
      Of each: "task" (None: the mean), "mixture", "kind", "runs" (how many); and "why_not", or
      "formula", "why", "axis" (of the plot), "parameters" (value, standard error, 95 % interval),
      "points", "curves", "r_squared", "noise", "search", "holdout" and "sensitivity" (of the mean
      alone).
    """
    found = []
    for ladder, mine in group_by_ladder(runs).items():
        for task in (None, *_tasks(mine)):
            head = {"task": task, **ladder._asdict(), "runs": len(mine)}
            try:
                found.append(head | _law(table_of(mine, task), is_main=task is None))
            except (StudyError, LawError) as error:
                found.append(head | {"why_not": str(error)})
            if task is None and "why_not" in found[-1]:
                break  # The same is to be said of every task.
    return found


def _tasks(runs: Sequence[StudyRun]) -> list[str]:
    """Tasks whose held-out loss every run has."""
    having = [
        {name for name, scores in run.record["evaluation"].items() if scores.get("loss")}
        for run in runs
    ]
    common = sorted(set.intersection(*having))
    return common if len(common) > 1 else []


def _law(table: Table, is_main: bool) -> dict[str, Any]:
    choice = select_law(table)
    fit = choice.fit(table)
    errors, intervals = fit.standard_errors, fit.intervals(LEVEL)
    axis = choice.axis or "flops"
    fitted = fit.law.values(fit.columns, fit.vector)
    tree: dict[str, Any] = {
        "formula": choice.formula,
        "why": " ".join([choice.why, *remarks(fit, table)]),
        "axis": axis,
        "level": LEVEL,
        "parameters": [
            {
                "name": name,
                "value": value,
                "standard_error": errors[name],
                "interval": intervals[name],
                "is_fixed": errors[name] == 0,
            }
            for name, value in fit.parameters.items()
        ],
        "r_squared": fit.r_squared,
        "noise": fit.noise,
        "search": fit.search,
        "points": [
            {
                "run": str(name),
                "x": table.column(axis)[row],
                "parameters": table.parameters[row],
                "tokens": table.tokens[row],
                "unique_tokens": table.columns.get("unique_tokens", table.tokens)[row],
                "flops": table.flops[row],
                "loss": table.loss[row],
                "fitted": fitted[row],
            }
            for row, name in enumerate(table.runs if table.runs is not None else [])
        ],
        "curves": _curves(choice, fit, table),
    }
    if is_main:
        tree |= {
            "holdout": _holdout(choice, table),
            "sensitivity": _sensitivity(choice, table, fit),
        }
    return tree


def _curves(choice: LawChoice, fit: Fit, table: Table) -> list[dict[str, Any]]:
    """Lines of the plot; of a law of size and tokens one for each size, all tokens being new, and
    where it knows of repeated data one for each size and number of different tokens."""
    if choice.axis:
        x = table.column(choice.axis)
        points = np.geomspace(x.min(), REACH * x.max(), CURVE_POINTS)
        return [_curve("the law", points, fit, {choice.axis: points})]
    found = []
    for size in np.unique(table.parameters):
        mine = table.parameters == size
        per_token = float(np.median(table.flops[mine] / table.tokens[mine]))
        pools = _pools(table.select(mine)) if "unique_tokens" in fit.law.inputs else []
        for unique in (None, *pools):
            first = table.tokens.min() if unique is None else unique
            tokens = np.geomspace(first, REACH * table.tokens.max(), CURVE_POINTS)
            columns = {"parameters": np.full(CURVE_POINTS, size), "tokens": tokens}
            columns["unique_tokens"] = tokens if unique is None else np.full(CURVE_POINTS, unique)
            of_data = "" if unique is None else f", {unique:.3g} different tokens again and again"
            label = f"{size:.3g} parameters{of_data}"
            curve = _curve(label, per_token * tokens, fit, columns)
            found.append(curve | {"parameters": size, "unique_tokens": unique})
    return found


def _pools(table: Table) -> list[float]:
    """How many different tokens the runs have that see some again; to three digits."""
    is_repeated = epochs_of(table) > ONCE
    unique = table.column("unique_tokens")[is_repeated]
    return sorted({float(f"{one:.3g}") for one in unique})


def _curve(label: str, x: np.ndarray, fit: Fit, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    said = fit.predict(columns, level=LEVEL)
    return {"label": label, "x": x, "y": said.values, "low": said.lower, "high": said.upper}


def _holdout(choice: LawChoice, table: Table) -> dict[str, Any]:
    """Are larger runs within the intervals of laws of the smaller ones?"""

    def same_law(rows: Table) -> Fit:
        try:
            carried = select_law(rows)
        except StudyError as error:
            raise LawError(str(error)) from error
        if carried.form != choice.form:
            raise LawError(f"the {len(rows)} smaller runs do not carry {choice.formula}")
        return choice.fit(rows)

    try:
        found = backtest(same_law, table, level=HOLDOUT_LEVEL)
    except LawError as error:
        reason = str(error).removesuffix(" Choose origins=.")
        return {"why_not": f"Coverage on held-out runs cannot be told: {reason}"}
    names = table.runs if table.runs is not None else np.arange(len(table))
    return {
        "level": found.level,
        "coverage": found.coverage,
        "mean_error": found.mean_error,
        "origins": [
            {
                "largest_flops": origin.largest_flops,
                "fitted": origin.fit.points,
                "runs": [
                    {
                        "run": str(names[row]),
                        "predicted": origin.prediction.values[place],
                        "interval": [
                            origin.prediction.lower[place],
                            origin.prediction.upper[place],
                        ],
                        "actual": origin.actual[place],
                        "is_inside": origin.is_covered[place],
                    }
                    for place, row in enumerate(origin.held_out)
                ],
            }
            for origin in found.origins
        ],
    }


def _sensitivity(choice: LawChoice, table: Table, fit: Fit) -> dict[str, Any]:
    """The same law with one thing changed, and what it then says at three times the compute."""

    def again(rows: Table, fitting: Fitting) -> Fit:
        return choice.fit(rows, fitting)

    if len(table) <= len(fit.vector) + 1:
        return {
            "why_not": f"{len(table)} runs leave none to spare beyond the law's "
            f"{len(fit.vector)} parameters, so nothing can be left out."
        }
    largest = table.select([int(np.argmax(table.flops))])
    there = dict(largest.columns)
    if choice.axis:
        there[choice.axis] = REACH * there[choice.axis]
    else:
        there |= {"tokens": REACH * there["tokens"], "flops": REACH * there["flops"]}
    base = float(fit.predict(there).values[0])
    changed = [
        *drop_sizes(again, table, PLAIN),
        *vary_delta(again, table, PLAIN, deltas=(1e-4, 1e-2, float("inf"))),
    ]
    rows = [_variation(one, there, base) for one in changed]
    if choice.axis != "flops":
        for sense in ("total", "without_embedding"):
            if np.array_equal(table.column(sense), table.parameters):
                continue
            (one,) = vary_parameters(again, table, [sense], PLAIN)
            moved = there | {"parameters": there["parameters"] * there[sense] / largest.parameters}
            rows.append(_variation(one, moved, base))
    at = {"axis": choice.axis or "tokens", "times": REACH, "run": str(largest.runs[0])}  # pyright: ignore[reportOptionalSubscript]
    if "unique_tokens" in fit.law.inputs:
        at["unique_tokens"] = there["unique_tokens"][0]
    return {"at": at, "prediction": base, "variations": rows, "fitting": ROBUST.fit_loss.delta}


def _variation(one: Variation, there: dict[str, np.ndarray], base: float) -> dict[str, Any]:
    if one.fit is None:
        return {"change": one.change, "why_not": one.error}
    said = float(one.fit.predict(there).values[0])
    return {
        "change": one.change,
        "parameters": one.fit.parameters,
        "prediction": said,
        "difference": said / base - 1,
    }
