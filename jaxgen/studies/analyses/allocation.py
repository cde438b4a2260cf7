"""The best size and tokens of a compute budget according to a study's ladders: N*(C), D*(C).

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
from jaxgen.laws.budgets import group_by_compute
from jaxgen.laws.minima import CURVES, LEAST_SIZES
from jaxgen.studies.analyses.allocation_plots import present
from jaxgen.studies.analyses.approaches import compare_approaches
from jaxgen.studies.analyses.base import Analysis
from jaxgen.studies.law_selection import LawChoice, select_law
from jaxgen.studies.study_runs import StudyRun, group_by_ladder, table_of

LEVEL = 0.95
DRAWN = "quadratic"
"""The curve whose minima are shown; the others show how much depends on it."""
BEYOND = (3.0, 10.0)
"""Times the largest compute, at which the best model is given too."""
MEASURED_BUDGETS = 3
LINE_POINTS = 40
METHOD = (
    "The best size of a budget is found in two ways (Hoffmann et al., 2203.15556). Approach 2 fits "
    "a parabola of log loss over log parameters to the runs of each budget, and a power law to the "
    "minima. Approach 3 minimises the fitted law of all runs at a fixed cost. The intervals of "
    "approach 2 come from noise as large as the scatter about the parabolas, and wider where the "
    "minima scatter more than that explains; those of approach 3 come from bootstraps over runs. "
    "Neither covers the error of a curve or law of the wrong form."
)


def analyse_allocations(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Finds the best size and tokens of a compute budget for each ladder.

    Returns:
      For each: "mixture", "kind", "runs" (how many); and "why_not", or "token_flops" (what a token
      costs), "budgets" (of equal compute: points, parabola and minimum, or why it is "dropped"),
      "approaches" (exponents with intervals, "warnings", "optima" at some budgets, "line", those of
      budgets also "grouping", "weights" and "scatter"; or "why_not") and
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
    count = _count_budgets(table)
    choice = _chinchilla(table)
    if count < 2 and choice is None:
        raise StudyError(
            "The best size of a budget cannot be estimated: that takes two compute budgets with "
            f"runs of {LEAST_SIZES} sizes each, or sizes and tokens that vary independently."
        )
    budgets: list[dict[str, Any]] = []
    approaches = []
    if count >= 2:
        for curve in CURVES:
            name = {"approach": 2, "name": f"minima of budgets, {curve}"}
            try:
                fit = fit_isoflop(table, curve)
            except LawError as error:
                approaches.append(name | {"why_not": str(error)})
                continue
            how = {"grouping": fit.grouping, "weights": fit.weights, "scatter": fit.scatter}
            approaches.append(name | _approach(fit.frontier, table) | how)
            if curve == DRAWN:
                budgets = _budgets(fit, table)
    if choice is not None:
        fit = choice.fit(table)
        cost = token_flops_of(table)

        def reached(flops: np.ndarray) -> Optimum:
            return chinchilla_optimum(fit, flops, LEVEL, cost)

        found = _approach(chinchilla_frontier(fit, cost), table, reached)
        approaches.append({"approach": 3, "name": "Chinchilla's law"} | found)
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
    """Returns Chinchilla's law, of which the third approach is the closed form, if selected."""
    try:
        choice = select_law(table)
    except StudyError:
        return None
    return choice if choice.form == "chinchilla" else None


def _count_budgets(table: Table) -> int:
    """Returns how many budgets of equal compute runs of several sizes share."""
    try:
        return len(group_by_compute(table).rows)
    except LawError:
        return 0


def _budgets(fit: IsoFlop, table: Table) -> list[dict[str, Any]]:
    """Returns each budget's runs, curve and minimum."""
    found = []
    names = table.runs if table.runs is not None else np.arange(len(table))
    for budget in fit.budgets:
        group = budget.rows
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
    """Returns the exponents, the best models of some budgets, and the line of N*."""
    optimum = optimum or (lambda flops: frontier.optimum(flops, LEVEL))
    least, largest = table.flops.min(), table.flops.max()
    budgets = np.array(
        [*np.geomspace(least, largest, MEASURED_BUDGETS), *np.multiply(BEYOND, largest)]
    )
    best: Optimum = optimum(budgets)
    # Tokens fall as parameters rise, so the ends of one interval go with the other ends.
    ratios = best.tokens_interval / best.parameters_interval[:, ::-1]
    x = np.geomspace(least, max(BEYOND) * largest, LINE_POINTS)
    line: Optimum = optimum(x)
    return {
        "warnings": frontier.warnings,
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
            for place, flops in enumerate(budgets)
        ],
        "line": {
            "x": x,
            "y": line.parameters,
            "low": line.parameters_interval[:, 0],
            "high": line.parameters_interval[:, 1],
        },
    }


def _token_flops(table: Table) -> dict[str, Any]:
    """Returns the cost of a token: its power of N, how far runs are from it, multiples of N."""
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
    """Compares the second approach (by parabolas) with the third, if both could be fitted."""
    fitted = [one for one in approaches if "why_not" not in one]
    second = next((one for one in fitted if one["approach"] == 2), None)
    third = next((one for one in fitted if one["approach"] == 3), None)
    if second is None or third is None:
        return None
    return compare_approaches(second, third, LEVEL)


ALLOCATION = Analysis(
    "allocations", "The best model size for a compute budget", "Allocation", analyse_allocations,
    present, METHOD,
)  # fmt: skip
