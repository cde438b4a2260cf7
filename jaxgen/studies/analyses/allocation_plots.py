"""The report's section on the best size of a compute budget: sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxgen.studies.analyses.base import (
    LABELS,
    Tree,
    color_of,
    figure_name,
    ladder_name,
    mark_of,
    scale_axis,
    shade_of,
    warned_title,
)
from jaxgen.studies.formatting import (
    MISSING,
    between,
    between_counts,
    count,
    fixed,
    number,
    percent,
)
from jaxgen.studies.plots import (
    Axis,
    Block,
    Cell,
    DataTable,
    Figure,
    Plot,
    Sentence,
    Series,
    line,
    menu_of,
    points,
)

WEIGHTS = {
    "equal": "All budgets weigh the same.",
    "variance": "Budgets weigh by one over the variance of their best size.",
}
SIX_N = 0.05
"""Relative error up to which a token's FLOPs count as 6N."""


def present(tree: Tree) -> Sequence[Block]:
    """Returns the section's blocks."""
    found = [one for one in tree["allocations"] if "why_not" not in one]
    if not found:
        reasons = dict.fromkeys(one["why_not"] for one in tree["allocations"])
        return [Sentence(reason, "soft") for reason in reasons]
    return menu_of("Of", {ladder_name(tree, one): _ladder_blocks(tree, one) for one in found})


def _ladder_blocks(tree: Tree, found: dict[str, Any]) -> Sequence[Block]:
    fitted = [one for one in found["approaches"] if "why_not" not in one]
    # The first curve that could be fitted stands for its approach.
    first = [next((one for one in fitted if one["approach"] == n), None) for n in (2, 3)]
    shown = [one for one in first if one is not None]
    blocks: list[Block] = [Sentence(_summary(one)) for one in shown]
    if agreement := found["agreement"]:
        blocks.append(Sentence(agreement["sentence"], "" if agreement["is_agreed"] else "bad"))
    blocks += [Sentence(text, "bad") for one in shown for text in _warnings(one)]
    profiles = [_profiles(found)] if found["budgets"] else []
    figure = Figure((*profiles, _sizes(found, shown)), figure_name(tree, "allocation", found))
    level = percent(found["level"])
    best = [
        (one["name"], number(best["flops"]), count(best["parameters"]),
         between_counts(best["parameters_interval"]), count(best["tokens"]),
         between_counts(best["tokens_interval"]), number(best["ratio"]),
         between(best["ratio_interval"]), "beyond the runs" if best["is_beyond_runs"] else "")
        for one in shown
        for best in one["optima"]
    ]  # fmt: skip
    exponents = [
        (one["name"], str(one["approach"]), one["why_not"])
        if "why_not" in one
        else (one["name"], str(one["approach"]), number(one["exponent"]),
              between(one["exponent_interval"]), number(one["tokens_exponent"]),
              between(one["tokens_exponent_interval"]))
        for one in found["approaches"]
    ]  # fmt: skip
    of_best = ("approach", "FLOPs", "N*", level, "D*", level, "D*/N*", level, "")
    of_exponents = ("by", "approach", "a in N* ~ C^a", level, "b in D* ~ C^b", level)
    blocks += [
        figure,
        Sentence(_cost(found["token_flops"])),
        DataTable(of_best, best, "The best model of some budgets"),
        DataTable(of_exponents, exponents, "Exponents by every approach and curve"),
    ]
    if found["budgets"]:
        rows = [_budget_cells(budget) for budget in found["budgets"]]
        columns = ("FLOPs", "runs", "N*", "standard error", "lowest loss", "")
        blocks.append(DataTable(columns, rows, "The minimum of each budget"))
    return blocks


def _warnings(one: dict[str, Any]) -> list[str]:
    return [f"Approach {one['approach']}: {text}" for text in one["warnings"]]


def _summary(one: dict[str, Any]) -> str:
    optima = one["optima"]
    last = [
        best
        for best, after in zip(optima, [*optima[1:], None], strict=True)
        if after is None or best["is_beyond_runs"] != after["is_beyond_runs"]
    ]
    bought = "; ".join(
        f"at {number(best['flops'])} FLOPs{' (beyond the runs)' if best['is_beyond_runs'] else ''} "
        f"the best model has {count(best['parameters'])} parameters "
        f"({between_counts(best['parameters_interval'])}) and sees {count(best['tokens'])} tokens "
        f"({between_counts(best['tokens_interval'])})"
        for best in last
    )
    how = f" {one['grouping']} {WEIGHTS[one['weights']]}" if "grouping" in one else ""
    return (
        f"By {one['name']} (approach {one['approach']}), N* grows as C^{number(one['exponent'])} "
        f"({between(one['exponent_interval'])}) and D* as C^{number(one['tokens_exponent'])} "
        f"({between(one['tokens_exponent_interval'])}): {bought}.{how}"
    )


def _cost(cost: dict[str, Any]) -> str:
    products = cost["of_smallest"], cost["of_largest"]
    holds = all(abs(product / 6 - 1) < SIX_N for product in products)
    smallest, largest = (f"{number(product, 2)} N" for product in products)
    return (
        f"C = 6ND {'nearly holds' if holds else 'does not hold'} here: FLOPs are counted exactly, "
        f"attention and logits included, and a token costs {smallest} with the smallest model and "
        f"{largest} with the largest. D* is C divided by {number(cost['factor'])} "
        f"N*^{number(cost['exponent'])}, which is within {percent(cost['worst'])} of the cost of "
        "every run."
    )


def _budget_cells(budget: dict[str, Any]) -> Sequence[Cell]:
    head = number(budget["flops"]), str(len(budget["points"]))
    if budget["dropped"]:
        return *head, MISSING, MISSING, MISSING, (f"dropped: {budget['dropped']}", "bad")
    error, loss = percent(budget["standard_error"]), fixed(budget["loss"], 4)
    return *head, count(budget["parameters"]), error, loss, ""


def _profiles(found: dict[str, Any]) -> Plot:
    """Returns loss over parameters at each budget, with parabolas and their minima."""
    flops = [budget["flops"] for budget in found["budgets"]]
    series = []
    for budget in found["budgets"]:
        look = {"color": color_of(found["kind"]), "shade": shade_of(budget["flops"], flops)}
        label, mark = f"{number(budget['flops'])} FLOPs", mark_of(found["kind"])
        series.append(line(budget["curve"], **look))
        series.append(
            points(mark, budget["points"], "parameters", "loss", _tip, label=label, **look)
        )
    series.append(_minima(found, "parameters", "loss"))
    return Plot(scale_axis("parameters"), Axis(LABELS["loss"], "log"), tuple(series))


def _tip(run: dict[str, Any]) -> str:
    return (
        f"{run['run']}\nloss {number(run['loss'], 4)} at {number(run['flops'])} FLOPs\n"
        f"{count(run['parameters'])} parameters, {count(run['tokens'])} tokens"
    )


def _minima(found: dict[str, Any], x: str, y: str) -> Series:
    kept = [budget for budget in found["budgets"] if not budget["dropped"]]

    def tip(budget: dict[str, Any]) -> str:
        at = f"minimum at {number(budget['flops'])} FLOPs"
        return f"{at}\nloss {number(budget['loss'], 4)}, {count(budget['parameters'])} parameters"

    return points("diamond", kept, x, y, tip, color="accent", label="minimum" if kept else "")


def _sizes(found: dict[str, Any], shown: Sequence[dict[str, Any]]) -> Plot:
    """Returns the best size over compute: the minima, and each approach's line and optima."""
    series = []
    for place, one in enumerate(shown):
        color = "muted" if place else color_of(found["kind"])

        def tip(best: dict[str, Any], name: str = one["name"]) -> str:
            beyond = ", beyond the runs" if best["is_beyond_runs"] else ""
            return f"{name}, {number(best['flops'])} FLOPs{beyond}\n" + "\n".join(
                f"{symbol} {count(best[of])} ({between_counts(best[f'{of}_interval'])})"
                for symbol, of in (("N*", "parameters"), ("D*", "tokens"))
            )

        label = f"{one['name']}: C^{number(one['exponent'])}"
        series.append(line(one["line"], True, color=color, is_open=bool(place), label=label))
        look = {"color": color, "is_open": True}
        series.append(points("circle", one["optima"], "flops", "parameters", tip, **look))
    series.append(_minima(found, "flops", "parameters"))
    sizes = [y for one in series for y in one.y if y is not None]
    limits = min(sizes) / 2, 2 * max(sizes)
    y = Axis("best size N* (active parameters)", "log", limits, is_count=True)
    warnings = [text for one in shown for text in one["warnings"]]
    return Plot(scale_axis("flops"), y, tuple(series), warned_title(warnings))
