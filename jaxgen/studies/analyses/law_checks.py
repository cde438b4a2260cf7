"""Checks of a fitted law: a backtest on larger runs, and refits with one choice changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from jaxgen.studies.analyses.base import LABELS
from jaxgen.studies.formatting import MISSING, between, count, fixed, number, percent
from jaxgen.studies.law_selection import LawChoice, select_law
from jaxgen.studies.plots import Block, Cell, DataTable, Sentence

HOLDOUT_LEVEL = 0.9
REACH = 3.0
"""Times the largest scale, at which changed laws are compared."""
PLAIN = Fitting(bootstraps=0)


def hold_out(choice: LawChoice, table: Table) -> dict[str, Any]:
    """Returns whether larger runs lie within the intervals of laws fitted to smaller ones."""

    def same_law(rows: Table) -> Fit:
        try:
            carried = select_law(rows)
        except StudyError as error:
            raise LawError(str(error)) from error
        if carried.form != choice.form:
            raise LawError(f"the {len(rows)} smaller runs cannot identify {choice.formula}")
        return choice.fit(rows)

    try:
        found = backtest(same_law, table, level=HOLDOUT_LEVEL)
    except LawError as error:
        reason = str(error).removesuffix(" Choose origins=.")
        return {"why_not": f"Coverage on held-out runs cannot be computed: {reason}"}
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


def vary(choice: LawChoice, table: Table, fit: Fit) -> dict[str, Any]:
    """Returns the law refitted with one choice changed, and what it then predicts."""

    def again(rows: Table, fitting: Fitting) -> Fit:
        return choice.fit(rows, fitting)

    if len(table) <= len(fit.vector) + 1:
        return {
            "why_not": f"{len(table)} runs are hardly more than the law's {len(fit.vector)} "
            "parameters, so none can be left out."
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
    predicted = float(one.fit.predict(there).values[0])
    return {
        "change": one.change,
        "parameters": one.fit.parameters,
        "prediction": predicted,
        "difference": predicted / base - 1,
    }


def show_holdout(found: Mapping[str, Any]) -> Sequence[Block]:
    """Returns the coverage on held-out runs as a sentence, and every run as a table."""
    if "why_not" in found:
        return [Sentence(found["why_not"], "soft")]
    level = percent(found["level"])
    rows = [
        (run["run"], number(origin["largest_flops"]), str(origin["fitted"]),
         fixed(run["predicted"], 4), between(run["interval"], 4), fixed(run["actual"], 4),
         ("inside", "good") if run["is_inside"] else ("outside", "bad"))
        for origin in found["origins"]
        for run in origin["runs"]
    ]  # fmt: skip
    columns = ("run", "fitted up to FLOPs", "runs fitted", "predicted", f"{level} interval",
               "actual", "")  # fmt: skip
    sentence = (
        f"Backtest: of {len(rows)} predictions of larger runs by laws fitted to smaller runs, "
        f"{percent(found['coverage'], 3)} lie within their {level} intervals; the mean error is "
        f"{percent(found['mean_error'])}."
    )
    return [Sentence(sentence), DataTable(columns, rows, "Every held-out run")]


def show_variations(found: Mapping[str, Any]) -> Sequence[Block]:
    """Returns how much the law's prediction moves as a sentence, and every change as a table."""
    if "why_not" in found:
        return [Sentence(found["why_not"], "soft")]
    fitted = [one for one in found["variations"] if "why_not" not in one]
    names = list(dict.fromkeys(name for one in fitted for name in one["parameters"]))
    refused = [one for one in found["variations"] if "why_not" in one]
    rows: list[tuple[Cell, ...]] = [
        (one["change"], *(number(one["parameters"].get(name)) for name in names),
         fixed(one["prediction"], 4), f"{100 * one['difference']:.2f}%", *[""] * bool(refused))
        for one in fitted
    ]  # fmt: skip
    rows += [(one["change"], *[MISSING] * (len(names) + 2), one["why_not"]) for one in refused]
    at = found["at"]
    repeats = f" ({count(at['unique_tokens'])} of them unique)" if "unique_tokens" in at else ""
    most = max((abs(one["difference"]) for one in fitted), default=0.0)
    sentence = (
        f"Sensitivity: at {at['times']:g} times the {LABELS[at['axis']]} of {at['run']}{repeats} "
        f"the law predicts a loss of {fixed(found['prediction'], 4)}. Refitted with one choice "
        f"changed at a time, it moves by at most {percent(most)}."
    )
    columns = ("changed", *names, "prediction", "moves by", *["why not"] * bool(refused))
    texts = (0, len(columns) - 1) if refused else (0,)
    return [Sentence(sentence), DataTable(columns, rows, "Every change", texts)]
