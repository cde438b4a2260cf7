"""Mixtures of experts against dense models of the same data: the difference in loss and in FLOPs.

The dense runs of a mixture give a law of compute. For each sparse rung it gives the loss of dense
models at the same FLOPs, and the *compute multiplier*: the FLOPs at which the dense law reaches the
rung's loss, divided by the rung's own. Where the law of the dense runs is not one of compute alone,
only those with the rung's number of tokens are used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import Fit, LawError, Table
from jaxgen.laws.fit import EXTRAPOLATION, NOISE_DRAWS
from jaxgen.laws.seed_effects import without_seed_effects
from jaxgen.studies.analyses.base import (
    LABELS,
    Analysis,
    Tree,
    figure_name,
    is_mixed,
    scale_axis,
    warned_title,
)
from jaxgen.studies.formatting import between, count, fixed, number, percent
from jaxgen.studies.law_selection import LawChoice, forecast_loss, select_law
from jaxgen.studies.plots import Axis, Block, Cell, DataTable, Figure, Plot, Sentence, line, points
from jaxgen.studies.study_runs import Ladder, StudyRun, group_by_ladder, table_of

LEVEL = 0.95
CURVE_POINTS = 40
REACH = 3.0
"""Times the largest compute: how far the curve is drawn."""
METHOD = (
    "Dense models and mixtures of experts are compared on the same data and by exact FLOPs, the "
    "router's included; memory and wall-clock time are not counted. The interval of a compute "
    "multiplier comes from bootstraps of the dense law, the misfit of dense sizes, and the noise "
    "of as many runs as the rung has seeds, taken to be as large as that of dense runs. Where all "
    "have the same seeds, what a seed adds at every dense size is no noise: both sides of "
    "the comparison share it."
)


def analyse_experts(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Compares every mixture's sparse rungs with its dense ladder, by number of tokens.

    Returns:
      For each: "mixture", "tokens" (None: any number); and "why_not", or the dense law
      ("formula", "noise", "warnings", "points", "curve") and "rungs": loss, "dense" (the law's loss
      at the same FLOPs, with the interval of a mean over as many dense seeds), "difference" with
      its interval and "multiplier", or why there is none.
    """
    found = []
    ladders = group_by_ladder(runs)
    for ladder, sparse in ladders.items():
        if ladder.kind == "dense":
            continue
        dense = ladders.get(Ladder(ladder.mixture, "dense"), [])
        for tokens, rivals, mine in _pairs(dense, sparse):
            head = {"mixture": ladder.mixture, "tokens": tokens}
            try:
                found.append(head | _comparison(rivals, mine))
            except (StudyError, LawError) as error:
                names = ", ".join(sorted({run.rung for run in mine}))
                found.append(head | {"why_not": f"{names} beside dense models: {error}"})
    return found


def _pairs(
    dense: Sequence[StudyRun], sparse: Sequence[StudyRun]
) -> list[tuple[int | None, list[StudyRun], list[StudyRun]]]:
    """Returns (tokens, or None for any; the dense runs; the sparse runs) of each comparison."""
    if dense and _is_of_compute(table_of(dense)):
        return [(None, list(dense), list(sparse))]
    found = []
    for tokens in sorted({run.record["tokens"] for run in sparse}):
        rivals, mine = (
            [run for run in some if run.record["tokens"] == tokens] for some in (dense, sparse)
        )
        found.append((tokens, rivals, mine))
    return found


def _is_of_compute(table: Table) -> bool:
    try:
        return select_law(table).axis == "flops"
    except StudyError:
        return False


def _comparison(dense: Sequence[StudyRun], sparse: Sequence[StudyRun]) -> dict[str, Any]:
    if not dense:
        raise StudyError("no dense run of this mixture saw the same number of tokens.")
    table = table_of(dense)
    choice = select_law(table)
    choice = dataclasses.replace(choice, axis="flops", formula=choice.formula.replace(" N^", " C^"))
    fit = choice.fit(table)
    paired, seeds = _paired_fit(choice, table, fit), {run.seed for run in dense}
    rungs: dict[str, list[StudyRun]] = {}
    for run in sparse:
        rungs.setdefault(run.rung, []).append(run)
    flops = [run.record["flops"] for run in (*dense, *sparse)]
    x = np.geomspace(min(flops), REACH * max(flops), CURVE_POINTS)
    band = fit.predict({"flops": x}, level=LEVEL)
    return {
        "formula": choice.formula,
        "level": LEVEL,
        "noise": fit.noise,
        "warnings": fit.warnings,
        "points": [
            {"run": run.name, "flops": run.record["flops"], "loss": run.loss()} for run in dense
        ],
        "curve": {"x": x, "y": band.values, "low": band.lower, "high": band.upper},
        "rungs": [
            _rung(name, runs, paired if {run.seed for run in runs} == seeds else fit)
            for name, runs in rungs.items()
        ],
    }


def _paired_fit(choice: LawChoice, table: Table, fit: Fit) -> Fit:
    """Returns the fit to losses without what a seed adds at all dense sizes, if seeds are paired.

    It is for the means over the same seeds: those share as much.
    """
    try:
        own, spent = without_seed_effects(table)
    except LawError:
        return fit
    return dataclasses.replace(choice.fit(own), spent=spent)


def _rung(name: str, runs: Sequence[StudyRun], fit: Fit) -> dict[str, Any]:
    flops = float(np.mean([run.record["flops"] for run in runs]))
    loss = float(np.mean([run.loss() for run in runs]))
    expected = forecast_loss(fit, {"flops": flops}, len(runs), LEVEL)
    low, high = expected.seed_mean
    return {
        "rung": name,
        "seeds": len(runs),
        "flops": flops,
        "parameters": runs[0].parameters,
        "tokens": runs[0].record["tokens"],
        "loss": loss,
        "by_run": [{"run": run.name, "loss": run.loss()} for run in runs],
        "dense": {"value": expected.value, "interval": (low, high)},
        "difference": {"value": loss - expected.value, "interval": (loss - high, loss - low)},
        "multiplier": _multiplier(fit, flops, loss, len(runs)),
    }


def _multiplier(fit: Fit, flops: float, loss: float, seeds: int) -> dict[str, Any]:
    """Returns the multiplier with an interval from the law's bootstraps and the runs' noise."""
    floor = fit.parameters.get("E", 0.0)
    if loss <= floor:
        return {
            "why_not": f"its loss, {loss:.4g}, is below the floor of the dense law, E = "
            f"{floor:.4g}, which no compute reaches."
        }
    needed = float(flops_for(fit, np.array([loss]), fit.vector[None])[0])
    least, largest = (end(fit.columns["flops"]) for end in (np.min, np.max))
    if needed > EXTRAPOLATION * largest:
        return {
            "why_not": f"dense models would need {needed / largest:.3g} times the compute of the "
            f"largest dense run, and their law is not used beyond {EXTRAPOLATION:.0f} times."
        }
    if needed < least / EXTRAPOLATION:
        return {
            "why_not": f"dense models would need {needed / least:.3g} of the compute of the "
            f"smallest dense run, and their law is not used below {1 / EXTRAPOLATION:.2g} of it."
        }
    vectors = np.repeat(fit.draws, NOISE_DRAWS, axis=0)
    noise = fit.noise_of_mean((len(vectors),), seeds)
    draws = flops_for(fit, loss * np.exp(noise), vectors)
    # Beyond the range in which the law is used, an interval is open.
    draws = np.where(draws > EXTRAPOLATION * largest, np.inf, draws) / flops
    tail = (1 - LEVEL) / 2
    # Of the nearest draw, as nothing lies between a number and infinity.
    bounds = np.quantile(draws, [tail, 1 - tail], method="nearest")
    return {
        "value": needed / flops,
        "interval": bounds,
        "flops": needed,
        "is_beyond_runs": not least <= needed <= largest,
    }


def flops_for(fit: Fit, loss: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Returns [draws] the FLOPs at which E + A C^-alpha equals a loss; infinite at or below E.

    Args:
      fit: of that law, with or without E.
      loss: [draws].
      vectors: [draws, parameters] working parameters.
    """
    named = fit.law.natural(vectors)
    above = loss - named.get("E", 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        flops = np.exp((np.log(named["A"]) - np.log(above)) / named["alpha"])
    return np.where((above > 0) & (named["alpha"] > 0), flops, np.inf)


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["comparisons"]
    if not found:
        return []
    blocks: list[Block] = [
        Sentence(
            "The compute multiplier is the FLOPs at which the law of the dense models reaches the "
            "loss of a mixture of experts, divided by the FLOPs that the mixture of experts used. "
            "Above 1, the mixture of experts is the cheaper way to that loss."
        )
    ]
    for one in found:
        if is_mixed(tree) or len(found) > 1:
            tokens = f", {count(one['tokens'])} tokens" if one["tokens"] else ""
            blocks.append(Sentence(f"Trained on {one['mixture']}{tokens}", "heading"))
        if "why_not" in one:
            blocks.append(Sentence(one["why_not"], "soft"))
        else:
            blocks += _comparison_blocks(tree, one)
    return blocks


def _comparison_blocks(tree: Tree, found: dict[str, Any]) -> Sequence[Block]:
    name = figure_name(tree, "comparison", {"mixture": found["mixture"]})
    if len(tree["comparisons"]) > 1 and found["tokens"] is not None:
        name += f"-{found['tokens']:.3g}"
    measured = [rung for rung in found["rungs"] if "why_not" not in rung["multiplier"]]
    panels = [_losses(found), *([_multipliers(measured)] if measured else [])]
    tokens = f", each trained on {count(found['tokens'])} tokens" if found["tokens"] else ""
    summary = (
        f"The dense law is {found['formula']}, fitted to {len(found['points'])} runs{tokens}; runs "
        f"scatter about it by {percent(found['noise'])} (one standard deviation)."
    )
    columns = ("mixture of experts", "active", "total", "FLOPs", "seeds", "loss", "dense law",
               "difference (95% interval)", "multiplier (95% interval)")  # fmt: skip
    return [
        Figure(tuple(panels), name),
        Sentence(summary),
        *(Sentence(text, "bad") for text in found["warnings"]),
        DataTable(columns, [_cells(rung) for rung in found["rungs"]]),
        *(
            Sentence(f"{r['rung']} has no multiplier: {r['multiplier']['why_not']}", "soft")
            for r in found["rungs"]
            if "why_not" in r["multiplier"]
        ),
        *(
            Sentence(f"{r['rung']} is as good as dense models beyond those that were run.", "soft")
            for r in found["rungs"]
            if r["multiplier"].get("is_beyond_runs")
        ),
    ]


def _cells(rung: dict[str, Any]) -> Sequence[Cell]:
    low, high = rung["difference"]["interval"]
    difference = f"{fixed(rung['difference']['value'], 4)} ({fixed(low, 4)} to {fixed(high, 4)})"
    worth = rung["multiplier"]
    times = (
        "-" if "why_not" in worth else f"{number(worth['value'])} ({between(worth['interval'])})"
    )
    return (
        rung["rung"], count(rung["parameters"]["active"]), count(rung["parameters"]["total"]),
        number(rung["flops"]), str(rung["seeds"]), fixed(rung["loss"], 4),
        fixed(rung["dense"]["value"], 4),
        (difference, "good" if high < 0 else "bad" if low > 0 else ""), times,
    )  # fmt: skip


def _losses(found: dict[str, Any]) -> Plot:
    rungs = {run["run"]: rung for rung in found["rungs"] for run in rung["by_run"]}
    sparse = [run | {"flops": r["flops"]} for r in found["rungs"] for run in r["by_run"]]

    def tip(run: dict[str, Any]) -> str:
        rung = rungs[run["run"]]
        active, total = (count(rung["parameters"][of]) for of in ("active", "total"))
        return (
            f"{run['run']}\nloss {number(run['loss'], 4)}, dense models at the same FLOPs "
            f"{number(rung['dense']['value'], 4)}\n{active} of {total} parameters active"
        )

    def dense_tip(run: dict[str, Any]) -> str:
        return f"{run['run']}\nloss {number(run['loss'], 4)}"

    look = {"color": "sparse", "label": "mixture of experts"}
    series = (
        line(found["curve"], True, label="dense law"),
        points("circle", found["points"], "flops", "loss", dense_tip, label="dense"),
        points("square", sparse, "flops", "loss", tip, **look),
    )
    return Plot(
        scale_axis("flops"), Axis(LABELS["loss"], "log"), series, warned_title(found["warnings"])
    )


def _multipliers(rungs: Sequence[dict[str, Any]]) -> Plot:
    found = [rung["multiplier"] | {"at": rung["flops"], "rung": rung["rung"]} for rung in rungs]
    ends = [end for one in found for end in (*one["interval"], one["value"]) if end is not None]
    top = 1.1 * max(1.0, *ends)

    def tip(one: dict[str, Any]) -> str:
        times = f"{number(one['value'])} times its FLOPs ({between(one['interval'])})"
        return f"{one['rung']}\nas good as dense models with {times}"

    low = [one["interval"][0] for one in found]
    # An interval without an upper end leaves the plot at the top.
    high = [10 * top if one["interval"][1] is None else one["interval"][1] for one in found]
    flops = [one["at"] for one in found]
    ones = line({"x": [min(flops) / 2, 2 * max(flops)], "y": [1.0, 1.0]}, color="muted")
    values = points("square", found, "at", "value", tip, low=low, high=high, color="sparse")
    return Plot(scale_axis("flops"), Axis("compute multiplier", limits=(0.0, top)), (ones, values))


EXPERTS = Analysis(
    "comparisons", "Mixtures of experts against dense models", "Experts", analyse_experts,
    _present, METHOD,
)  # fmt: skip
