"""Results as about ten lines of text, and as plain values for JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.laws.errors import LawError

if TYPE_CHECKING:
    from jaxgen.laws.envelope import Envelope
    from jaxgen.laws.fit import Fit
    from jaxgen.laws.frontier import Frontier
    from jaxgen.laws.isoflop import IsoFlop

WIDTH = 100
MOVES_NOTHING = "E moves no fitted value"
"""What the warning of a floor that is none begins with (identification.py)."""
NOTHING = 1e-30
"""What is less is the logarithm of a parameter gone to minus infinity."""
MOST_BUDGETS = 12
"""Budgets that a text names; more are left out."""


def text_of_fit(fit: Fit, level: float) -> str:
    """Returns a fit's formula, parameters with intervals, best models and warnings."""
    intervals = fit.intervals(level)
    parameters = [
        f"{name} = 0 (no floor found)"
        if name == "E" and _is_nothing(fit, value)
        else f"{name} = {number(value)}{_between(intervals[name])}"
        for name, value in fit.parameters.items()
    ]
    facts = [f"{fit.points} points"]
    if not math.isnan(fit.r_squared):
        facts.append(f"R^2 {fit.r_squared:.4f}")
    if not math.isnan(fit.noise):
        scatter = f"{100 * fit.noise:.2g} %" if fit.fit_loss.space == "log" else number(fit.noise)
        facts.append(f"scatter {scatter}")
    facts.append(f"{fit.search.reached} of {fit.search.starts} starts reached the optimum")
    if len(fit.draws):
        facts.append(f"{100 * level:.3g} % intervals by {len(fit.draws)} bootstraps")
    lines = [f"{fit.name}: {fit.law.formula}" if fit.law.formula else fit.name]
    lines += [", ".join(facts), *_packed(parameters)]
    if fit.law.frontier is not None:
        try:
            lines += lines_of_frontier(fit.law.frontier(fit), level)
        except LawError as error:
            lines.append(f"no best models: {error}")
    return "\n".join([*lines, *_warned(fit.warnings)])


def values_of_fit(fit: Fit, level: float) -> dict[str, Any]:
    """Returns the same as plain values, with numbers that are not finite as None."""
    errors, intervals = fit.standard_errors, fit.intervals(level)
    found: dict[str, Any] = {
        "law": fit.name,
        "formula": fit.law.formula,
        "points": fit.points,
        "level": level,
        "bootstraps": len(fit.draws),
        "parameters": {
            name: {"value": value, "standard_error": errors[name], "interval": intervals[name]}
            for name, value in fit.parameters.items()
        },
        "fit_loss": fit.value,
        "r_squared": fit.r_squared,
        "noise": fit.noise,
        "search": {
            "starts": fit.search.starts,
            "reached": fit.search.reached,
            "unstable": fit.search.unstable,
        },
        "warnings": list(fit.warnings),
    }
    if fit.law.frontier is not None:
        try:
            found["best_models"] = values_of_frontier(fit.law.frontier(fit), level)
        except LawError as error:
            found["best_models"] = {"why_not": str(error)}
    return plain(found)


def lines_of_frontier(frontier: Frontier, level: float) -> list[str]:
    """Returns N*(C), D*(C) and L*(C), without warnings."""
    cost = frontier.token_flops
    power = "" if cost.exponent == 1 else f"^{cost.exponent:.3f}"
    best = [
        f"N* = {number(frontier.coefficient)} C^{frontier.exponent:.3f}"
        f"{_between(frontier.exponent_interval(level))}",
        f"D* = {number(frontier.tokens_coefficient)} C^{frontier.tokens_exponent:.3f}"
        f"{_between(frontier.tokens_exponent_interval(level))}",
    ]
    if (loss := frontier.best_loss) is not None:
        floor = f"{number(loss.floor)} + " if loss.floor > 0 else ""
        best.append(f"L* = {floor}{number(loss.coefficient)} / C^{loss.exponent:.3f}")
    return [*_packed(best), f"a token costs {number(cost.factor)} N{power} FLOPs"]


def values_of_frontier(frontier: Frontier, level: float) -> dict[str, Any]:
    """Returns coefficients and exponents of the best models as plain values."""
    loss = frontier.best_loss
    return plain({
        "parameters": {
            "coefficient": frontier.coefficient,
            "exponent": frontier.exponent,
            "interval": frontier.exponent_interval(level),
        },
        "tokens": {
            "coefficient": frontier.tokens_coefficient,
            "exponent": frontier.tokens_exponent,
            "interval": frontier.tokens_exponent_interval(level),
        },
        "loss": None if loss is None else {
            "floor": loss.floor, "coefficient": loss.coefficient, "exponent": loss.exponent,
        },
        "token_flops": {
            "factor": frontier.token_flops.factor, "exponent": frontier.token_flops.exponent,
        },
        "largest_flops": frontier.largest_flops,
    })  # fmt: skip


def text_of_frontier(frontier: Frontier, level: float) -> str:
    """Returns the best models of any budget, and warnings."""
    lines = [frontier.name, *lines_of_frontier(frontier, level)]
    return "\n".join([*lines, *_warned(frontier.warnings)])


def text_of_isoflop(fit: IsoFlop, level: float) -> str:
    """Returns how budgets were found and weighed, their minima, best models and warnings."""
    known = [
        f"{budget.flops:.3g}: {budget.dropped or number(budget.parameters, 3)}"
        for budget in fit.budgets[:MOST_BUDGETS]
    ]
    more = len(fit.budgets) - len(known)
    listed = f"N* by budget: {'; '.join(known)}{f'; and {more} more' if more else ''}"
    facts = [f"{fit.frontier.name}: {fit.grouping}", f"weights: {fit.weights}"]
    if not math.isnan(fit.noise):
        facts.append(f"noise of the log loss {fit.noise:.2g}")
    if not math.isnan(fit.scatter):
        facts.append(f"minima scatter {fit.scatter:.2g} times as much as noise explains")
    lines = [facts[0], ", ".join(facts[1:]), *lines_of_frontier(fit.frontier, level)]
    return "\n".join([*lines, *textwrap.wrap(listed, WIDTH), *_warned(fit.warnings)])


def values_of_isoflop(fit: IsoFlop, level: float) -> dict[str, Any]:
    """Returns the same as plain values."""
    return plain({
        "law": fit.frontier.name,
        "level": level,
        "bootstraps": len(fit.frontier.exponent_draws),
        "curve": fit.curve,
        "weights": fit.weights,
        "grouping": fit.grouping,
        "noise": fit.noise,
        "scatter": fit.scatter,
        "excess": fit.excess,
        "best_models": values_of_frontier(fit.frontier, level),
        "budgets": [
            {
                "flops": budget.flops, "runs": budget.runs, "parameters": budget.parameters,
                "standard_error": budget.standard_error, "loss": budget.loss,
                "dropped": budget.dropped,
            }
            for budget in fit.budgets
        ],
        "warnings": list(fit.warnings),
    })  # fmt: skip


def text_of_envelope(fit: Envelope, level: float) -> str:
    """Returns what the envelope is made of, best models and warnings."""
    head = (
        f"{fit.frontier.name}: {len(fit.winners)} runs are best somewhere, from "
        f"{fit.flops.min():.3g} to {fit.flops.max():.3g} FLOPs"
    )
    lines = [head, *lines_of_frontier(fit.frontier, level)]
    return "\n".join([*lines, *_warned(fit.warnings)])


def values_of_envelope(fit: Envelope, level: float) -> dict[str, Any]:
    """Returns the same as plain values."""
    return plain({
        "law": fit.frontier.name,
        "level": level,
        "bootstraps": len(fit.frontier.exponent_draws),
        "winners": list(fit.winners),
        "best_models": values_of_frontier(fit.frontier, level),
        "warnings": list(fit.warnings),
    })  # fmt: skip


def _is_nothing(fit: Fit, floor: float) -> bool:
    """Returns whether the floor of a fit is none: its logarithm may be anything small."""
    return abs(floor) < NOTHING or any(one.startswith(MOVES_NOTHING) for one in fit.warnings)


def number(value: float, digits: int = 4) -> str:
    """Returns a number with some significant digits; what is as good as nothing is 0."""
    if abs(value) < NOTHING:
        return "0"
    return f"{float(f'{value:.{digits}g}'):.{digits}g}"


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: numbers of numpy as Python's, those not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, Iterable):
        return [plain(one) for one in value]
    return float(value) if np.isfinite(value) else None


def _between(bounds: Sequence[float]) -> str:
    low, high = bounds
    return "" if math.isnan(low) else f" ({number(low, 3)} to {number(high, 3)})"


def _packed(parts: Sequence[str]) -> list[str]:
    """Returns parts joined by commas into as few lines as they take, without cutting any."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 <= WIDTH:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _warned(warnings: Sequence[str]) -> list[str]:
    return [f"warning: {text}" for text in warnings]
