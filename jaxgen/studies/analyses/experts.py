"""Mixtures of experts beside dense models of the same data: the difference, and its worth in FLOPs.

The dense runs of a mixture give a law of compute. Of each sparse rung it says the loss of dense
models at the same FLOPs, and the *compute multiplier*: the FLOPs that the dense law needs for the
rung's loss, over those it took. Where the law of the dense runs is not one of compute alone, only
those that saw the rung's own tokens are asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import Fit, LawError, Table
from jaxgen.laws.fit import EXTRAPOLATION, NOISE_DRAWS
from jaxgen.studies.law_selection import forecast_loss, select_law
from jaxgen.studies.study_runs import Ladder, StudyRun, group_by_ladder, table_of

LEVEL = 0.95
CURVE_POINTS = 40
REACH = 3.0
"""Times the largest compute: how far the curve is drawn."""


def analyse_experts(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Every mixture's sparse rungs against its dense ladder; those of other tokens apart.

    Returns:
      Of each: "mixture", "tokens" (None: of all dense runs); and "why_not", or the dense law
      ("formula", "noise", "points", "curve") and "rungs": loss, "dense" (the law's loss at the same
      FLOPs, with the interval of a mean over as many dense seeds), "difference" with its interval
      and "multiplier", or why there is none.
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
    """Tokens, or None for all; the dense runs of them, and the sparse ones."""
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
        raise StudyError("no dense run of this mixture saw as many tokens.")
    table = table_of(dense)
    choice = select_law(table)
    choice = dataclasses.replace(choice, axis="flops", formula=choice.formula.replace(" N^", " C^"))
    fit = choice.fit(table)
    rungs: dict[str, list[StudyRun]] = {}
    for run in sparse:
        rungs.setdefault(run.rung, []).append(run)
    flops = [run.record["flops"] for run in (*dense, *sparse)]
    x = np.geomspace(min(flops), REACH * max(flops), CURVE_POINTS)
    said = fit.predict({"flops": x}, level=LEVEL)
    return {
        "formula": choice.formula,
        "level": LEVEL,
        "noise": fit.noise,
        "points": [
            {"run": run.name, "flops": run.record["flops"], "loss": run.loss()} for run in dense
        ],
        "curve": {"x": x, "y": said.values, "low": said.lower, "high": said.upper},
        "rungs": [_rung(name, seeds, fit) for name, seeds in rungs.items()],
    }


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
    """By the law; its interval is of the law's bootstraps and of the noise of as many runs."""
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
            "why_not": f"dense models would need {needed / largest:.3g} times the largest dense "
            f"run's compute, and their law is not asked beyond {EXTRAPOLATION:.0f} times."
        }
    if needed < least / EXTRAPOLATION:
        return {
            "why_not": f"dense models would need {needed / least:.3g} of the smallest dense run's "
            f"compute, and their law is not asked below {1 / EXTRAPOLATION:.2g} of it."
        }
    vectors = np.repeat(fit.draws, NOISE_DRAWS, axis=0)
    noise = fit.noise_of_mean((len(vectors),), seeds)
    draws = flops_for(fit, loss * np.exp(noise), vectors)
    # Beyond what the law is asked, an interval is open.
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
    """[draws] FLOPs at which L = E + A C^-alpha is a loss; infinite at or below E.

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
