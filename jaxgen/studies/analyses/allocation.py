"""How a study's ladders say that a compute budget should be spent: N*(C) and D*(C).

Chinchilla's second approach where runs of several sizes share budgets, its third where the runs
carry the parametric law (Hoffmann et al., 2203.15556). FLOPs are the exact ones of the runs, so D*
is C over what a token costs at N*, see `laws.token_flops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import (
    Frontier,
    IsoFlop,
    LawError,
    Optimum,
    Table,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_isoflop,
    token_flops_of,
)
from jaxgen.laws.isoflop import GAP
from jaxgen.laws.minima import CURVES, LEAST_SIZES, same_sizes
from jaxgen.studies.law_selection import LawChoice, select_law
from jaxgen.studies.study_runs import StudyRun, group_by_ladder, table_of

LEVEL = 0.95
DRAWN = "quadratic"
"""The curve whose minima are shown; the others say what hangs on it."""
BEYOND = (3.0, 10.0)
"""Times the largest compute, at which a best model is said too."""
MEASURED_BUDGETS = 3
LINE_POINTS = 40


def analyse_allocations(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """The best size and tokens of a budget; of every mixture, its dense and its sparse runs, apart.

    Returns:
      Of each: "mixture", "kind", "runs" (how many); and "why_not", or "token_flops" (what a token
      costs), "budgets" (of equal compute: points, parabola and minimum, or why it is "dropped"),
      "approaches" (exponents with intervals, "optima" at some budgets, "line"; or "why_not") and
      "agreement" (None, or whether approaches 2 and 3 agree, in a sentence).
    """
    found = []
    for ladder, mine in group_by_ladder(runs).items():
        head = {**ladder._asdict(), "runs": len(mine)}
        try:
            found.append(head | _allocation(table_of(mine)))
        except (StudyError, LawError) as error:
            found.append(head | {"why_not": str(error)})
    return found


def _allocation(table: Table) -> dict[str, Any]:
    groups = equal_compute(table)
    choice = _chinchilla(table)
    if len(groups) < 2 and choice is None:
        raise StudyError(
            "The best size of a budget cannot be told: that takes two budgets of compute with runs "
            f"of {LEAST_SIZES} sizes each, or sizes and tokens that vary apart."
        )
    budgets: list[dict[str, Any]] = []
    approaches = []
    if len(groups) >= 2:
        middles = [_middle(table.flops[group]) for group in groups]
        for curve in CURVES:
            name = {"approach": 2, "name": f"minima of budgets, {curve}"}
            try:
                fit = fit_isoflop(table, curve, budgets=middles)
            except LawError as error:
                approaches.append(name | {"why_not": str(error)})
                continue
            approaches.append(name | _approach(fit.frontier, table) | {"scatter": fit.scatter})
            if curve == DRAWN:
                budgets = _budgets(fit, table, groups)
    if choice is not None:
        fit = choice.fit(table)
        cost = token_flops_of(table)

        def reached(flops: np.ndarray) -> Optimum:
            return chinchilla_optimum(fit, flops, LEVEL, cost)

        said = _approach(chinchilla_frontier(fit, cost), table, reached)
        approaches.append({"approach": 3, "name": "Chinchilla's law"} | said)
    if all("why_not" in one for one in approaches):
        raise StudyError(approaches[0]["why_not"])
    return {
        "level": LEVEL,
        "token_flops": _token_flops(table),
        "budgets": budgets,
        "approaches": approaches,
        "agreement": _agreement(approaches),
    }


def _chinchilla(table: Table) -> LawChoice | None:
    """The choice of Chinchilla's law, of which the third approach is the closed form."""
    try:
        choice = select_law(table)
    except StudyError:
        return None
    return choice if choice.form == "chinchilla" else None


def equal_compute(table: Table) -> list[np.ndarray]:
    """Rows of each budget that runs of several sizes share, in rising order of compute."""
    logs = np.log(table.flops)
    order = np.argsort(logs, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(logs[order]) > GAP) + 1)
    return [
        group
        for group in groups
        # Runs a little apart each may make a chain from one budget to another.
        if np.ptp(logs[group]) <= GAP
        and len(np.unique(same_sizes(np.log(table.parameters[group])))) >= LEAST_SIZES
    ]


def _middle(flops: np.ndarray) -> float:
    return float(np.sqrt(flops.min() * flops.max()))


def _budgets(fit: IsoFlop, table: Table, groups: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Each budget's runs, its curve and its minimum."""
    found = []
    names = table.runs if table.runs is not None else np.arange(len(table))
    for budget, group in zip(fit.budgets, groups, strict=True):
        sizes = table.parameters[group]
        curve = np.polynomial.Polynomial.fit(np.log(sizes), np.log(table.loss[group]), 2)
        x = np.geomspace(sizes.min(), sizes.max(), LINE_POINTS)
        found.append(
            {
                "flops": budget.flops,
                "parameters": budget.parameters,
                "loss": budget.loss,
                # Of ln N*, so about the relative error of N* itself.
                "standard_error": budget.standard_error,
                "dropped": budget.dropped,
                "curve": {"x": x, "y": np.exp(curve(np.log(x)))},
                "points": [
                    {
                        "run": str(names[row]),
                        "parameters": table.parameters[row],
                        "tokens": table.tokens[row],
                        "flops": table.flops[row],
                        "loss": table.loss[row],
                    }
                    for row in group
                ],
            }
        )
    return found


def _approach(frontier: Frontier, table: Table, optimum: Any = None) -> dict[str, Any]:
    """Exponents, the best models of some budgets, and the line of N*."""
    optimum = optimum or (lambda flops: frontier.optimum(flops, LEVEL))
    least, largest = table.flops.min(), table.flops.max()
    asked = np.array(
        [*np.geomspace(least, largest, MEASURED_BUDGETS), *np.multiply(BEYOND, largest)]
    )
    best: Optimum = optimum(asked)
    # Tokens fall as parameters rise, so the ends of one interval go with the other ends.
    ratios = best.tokens_interval / best.parameters_interval[:, ::-1]
    x = np.geomspace(least, max(BEYOND) * largest, LINE_POINTS)
    line: Optimum = optimum(x)
    return {
        "exponent": frontier.exponent,
        "exponent_interval": frontier.exponent_interval(LEVEL),
        "tokens_exponent": frontier.tokens_exponent,
        "tokens_exponent_interval": frontier.tokens_exponent_interval(LEVEL),
        "optima": [
            {
                "flops": flops,
                "is_beyond_runs": flops > largest,
                "parameters": best.parameters[place],
                "parameters_interval": best.parameters_interval[place],
                "tokens": best.tokens[place],
                "tokens_interval": best.tokens_interval[place],
                "ratio": best.tokens[place] / best.parameters[place],
                "ratio_interval": ratios[place],
                "loss": best.loss[place],
                "loss_interval": best.loss_interval[place],
            }
            for place, flops in enumerate(asked)
        ],
        "line": {
            "x": x,
            "y": line.parameters,
            "low": line.parameters_interval[:, 0],
            "high": line.parameters_interval[:, 1],
        },
    }


def _token_flops(table: Table) -> dict[str, Any]:
    """What a token costs: the power of N, how far runs are off it, and multiples of N."""
    cost = token_flops_of(table)
    per_token = table.flops / table.tokens
    products = per_token / table.parameters
    order = np.argsort(table.parameters)
    return {
        "factor": cost.factor,
        "exponent": cost.exponent,
        "worst": np.max(np.abs(per_token / cost.of(table.parameters) - 1)),
        "of_smallest": products[order[0]],
        "of_largest": products[order[-1]],
    }


def _agreement(approaches: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of the second approach (by parabolas) and the third, where both could be fitted."""
    fitted = [one for one in approaches if "why_not" not in one]
    second = next((one for one in fitted if one["approach"] == 2), None)
    third = next((one for one in fitted if one["approach"] == 3), None)
    if second is None or third is None:
        return None
    return compare_approaches(second, third)


def compare_approaches(second: Mapping[str, Any], third: Mapping[str, Any]) -> dict[str, Any]:
    """Whether two approaches of the tree agree: "is_agreed" and a "sentence".

    They disagree where their intervals of the exponent of N*, or of N* at the largest compute that
    was measured, have nothing in common.
    """
    apart = []
    if not _overlap(second["exponent_interval"], third["exponent_interval"]):
        said = [
            f"C^{one['exponent']:.3f} ({_range(one['exponent_interval'], '.3f')})"
            for one in (second, third)
        ]
        apart.append(f"N* grows as {said[0]} by the minima and as {said[1]} by Chinchilla's law")
    ends = [
        [best for best in one["optima"] if not best["is_beyond_runs"]][-1]
        for one in (second, third)
    ]
    if not _overlap(*(end["parameters_interval"] for end in ends)):
        said = [
            f"{end['parameters']:.3g} ({_range(end['parameters_interval'], '.3g')})" for end in ends
        ]
        apart.append(
            f"at {ends[0]['flops']:.3g} FLOPs N* is {said[0]} by the minima and {said[1]} by "
            "Chinchilla's law"
        )
    level = f"{100 * LEVEL:.0f} %"
    if not apart:
        return {
            "is_agreed": True,
            "sentence": f"The two approaches agree within their {level} intervals.",
        }
    return {
        "is_agreed": False,
        "sentence": f"The two approaches disagree beyond their {level} intervals: "
        f"{'; '.join(apart)}. The intervals are of the runs' noise, not of a curve or law that "
        "does not fit.",
    }


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return max(first[0], second[0]) <= min(first[1], second[1])


def _range(bounds: Sequence[float], style: str) -> str:
    return f"{bounds[0]:{style}} to {bounds[1]:{style}}"
