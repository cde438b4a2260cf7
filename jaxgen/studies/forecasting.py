"""Forecasts of a larger size on one task, or the reason why none is made.

The loss of a ladder goes on as a drifting power law (`laws.drifting`) of the axis that its sizes
differ in, whose drift and noise are read off the losses of their checkpoints too; where sizes and
tokens vary independently, as the law of both (`law_selection`). Exact match is read off the
answers' loss, forecast in the same way, by the curve on which runs and their checkpoints lie. The
score of what no size can do any of is not forecast: nothing tells when it will rise.

The prior and the rules were set on a past ladder, see docs/findings.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import DriftingFit, DriftPrior, Fit, Fitting, Table, fit_drifting, interval
from jaxgen.studies import law_selection
from jaxgen.studies.law_selection import Forecast, draw_scores, fit_score, select_law

PRIOR = DriftPrior()
LEAST_RISE = 0.05
"""Exact match of a size above chance that counts as a beginning, as a share of what is above it."""
BOOTSTRAPS = 300
CURVE_BOOTSTRAPS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Scored answers of a task: of runs, and of their checkpoints where those were scored.

    Attributes:
      exact_match: [runs] at the end of training, in the order of a table of the answers' losses.
      chance: what guessing scores.
      instances: answers of a run.
      losses: [points] of the answers, at ends and checkpoints, in nats/token.
      scores: [points] exact match.
      of_run: [points] the run's name.
    """

    exact_match: np.ndarray
    chance: float
    instances: float
    losses: np.ndarray
    scores: np.ndarray
    of_run: np.ndarray


def forecast_loss(
    table: Table,
    columns: Mapping[str, float],
    seeds: int,
    level: float = 0.9,
    earlier: Sequence[Table] = (),
) -> tuple[Forecast, dict[str, Any]]:
    """Forecasts the loss of runs at a scale, and says by which law.

    Args:
      table: of smaller runs.
      columns: the scale: parameters, tokens, FLOPs.
      seeds: number of its runs, of seeds that the table has.
      level: of the intervals.
      earlier: tables of the same runs at their checkpoints; a law of both axes has no use for them.

    Raises:
      StudyError, LawError: with the reason why none is made.
    """
    choice = select_law(table)
    if not choice.axis:
        fit = choice.fit(table, Fitting(bootstraps=BOOTSTRAPS))
        law = {"formula": choice.formula, "why": choice.why, "parameters": fit.parameters}
        forecast = law_selection.forecast_loss(fit, dict(columns), seeds, level)
        return forecast, law | {"warnings": list(fit.warnings)}
    fit = _drifting(table, choice.axis, earlier)
    at = columns[choice.axis]
    forecast = Forecast(
        fit.value_at(at),
        fit.interval_at(at, seeds, level),
        fit.interval_at(at, 1, level, are_new=True),
    )
    symbol = {"parameters": "N", "flops": "C"}[choice.axis]
    law = {
        "formula": f"L = A {symbol}^-alpha, whose alpha drifts",
        "why": choice.why,
        "parameters": {"alpha": fit.exponent, "drift": fit.drift, "noise": fit.noise},
        "warnings": [],
    }
    return forecast, law


def forecast_score(
    table: Table,
    answers: Answers,
    columns: Mapping[str, float],
    seeds: int,
    level: float = 0.9,
    earlier: Sequence[Table] = (),
) -> tuple[Forecast, dict[str, Any]]:
    """Forecasts the exact match of runs at a scale, and says by which laws.

    Args:
      table: of smaller runs, its losses those of their answers.
      answers: of the same runs.
      columns: the scale.
      seeds: number of its runs.
      level: of the intervals.
      earlier: see `forecast_loss`.

    Raises:
      StudyError, LawError: with the reason why none is made.
    """
    check_begun(table, answers)
    curve = fit_score(answers.losses, answers.scores, CURVE_BOOTSTRAPS, answers.of_run)
    choice = select_law(table)
    if not choice.axis:
        fit = choice.fit(table, Fitting(bootstraps=BOOTSTRAPS))
        inputs = fit.inputs_of(columns)
        losses = [fit.sample(inputs, count)[:, 0] for count in (seeds, 1)]
        formula = choice.formula
    else:
        fit = _drifting(table, choice.axis, earlier)
        at = columns[choice.axis]
        losses = [fit.sample(at, seeds), fit.sample(at, 1, are_new=True)]
        formula = "a power law whose exponent drifts"
    draws = [
        _scores(curve, one, count * answers.instances)
        for one, count in zip(losses, (seeds, 1), strict=True)
    ]
    bounds = [interval(one, level) for one in draws]
    law = {
        "formula": f"answer loss: {formula}; exact match = ceiling - drop / (1 + exp(-k (L - L0)))",
        "parameters": {"score": curve.parameters},
        "warnings": list(curve.warnings),
    }
    return Forecast(float(np.median(draws[0])), _pair(bounds[0]), _pair(bounds[1])), law


def _drifting(table: Table, axis: str, earlier: Sequence[Table]) -> DriftingFit:
    ladders = [(one.column(axis), one.loss, one.seeds) for one in earlier]
    return fit_drifting(table.column(axis), table.loss, table.seeds, PRIOR, ladders)


def check_begun(table: Table, answers: Answers) -> None:
    """Raises a StudyError if no size can do any of a task."""
    means = [
        answers.exact_match[table.parameters == size].mean() for size in np.unique(table.parameters)
    ]
    if max(means) < answers.chance + LEAST_RISE * (1 - answers.chance):
        raise StudyError(
            f"no size up to {table.parameters.max():.3g} parameters can do any of it (exact match "
            f"{max(means):.3f}, chance {answers.chance:.3g}): nothing tells when one will."
        )


def _scores(curve: Fit, losses: np.ndarray, instances: float) -> np.ndarray:
    """Returns scores [draws] of losses [draws]: of so many answers, about an uncertain curve."""
    scores = draw_scores(curve, losses)
    # Runs of one size may all lie on one side of the curve: seeds do not average that out.
    scores = np.clip(scores + curve.noise_of_mean(scores.shape, 1, stream=2), 0, 1)
    count, random = round(instances), np.random.default_rng([curve.seed, 3])
    # Nobody is right for certain: half an error among so many answers (Jeffreys' prior).
    return random.binomial(count, (count * scores + 0.5) / (count + 1)) / count


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
