"""Law selection: the richest law that a study's runs can identify, and its forecasts.

Chinchilla's law L = E + A N^-alpha + B D^-beta needs sizes and tokens that vary independently. A
ladder whose tokens are constant, or proportional to the size, cannot tell its two terms apart and
gets a law of a single axis: L = E + A x^-alpha, or without E if there are fewer than four scales.
Where some runs repeat data and others do not, Chinchilla's law becomes that of repeated data; where
more epochs made some of these runs worse, it becomes the one with a term for over-fitting.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import (
    CHINCHILLA,
    DATA_CONSTRAINED,
    LEAST_SQUARES,
    OVERFITTING,
    ROBUST,
    Fit,
    Fitting,
    LawError,
    Table,
    Term,
    fit_chinchilla,
    fit_data_constrained,
    fit_overfitting,
    fit_table,
    fit_task_accuracy,
    interval,
    power_terms,
)
from jaxgen.laws.repeats import HARM, LEAST_HARMED, ONCE, epochs_of, harmed_runs

SPARE = 3
"""Points beyond the law's parameters, for Chinchilla's law and that of repeated data."""
LEAST_LEVELS = 3
"""Sizes and token counts, for Chinchilla's law; how often data are seen, for repeated data."""
STEP_OF_REPEATS = 1.1
"""Ratio from which two numbers of epochs are distinct levels."""
TIED = 0.98
"""Correlation of log size and log tokens above which they count as a single axis."""
LEAST_SCORE_RUNS = 6
LEAST_SCORE_RANGE = 0.1
"""Range of exact match over the runs below which no sigmoid is fitted."""


@dataclasses.dataclass(frozen=True)
class LawChoice:
    """A form of law, selected for a table.

    Attributes:
      form: "chinchilla", "data-constrained", "over-fitting", "floor" (E + A x^-alpha) or "power"
        (A x^-alpha).
      axis: the column x; "" for the first three.
      formula: in the usual notation.
      why: one sentence.
    """

    form: str
    axis: str
    formula: str
    why: str

    def fit(self, table: Table, fitting: Fitting = ROBUST) -> Fit:
        """Returns the fitted law; raises a LawError if it cannot be fitted."""
        if self.form == "chinchilla":
            return fit_chinchilla(table, fitting)
        if self.form == "data-constrained":
            return fit_data_constrained(table, fitting)
        if self.form == "over-fitting":
            return fit_overfitting(table, fitting)
        terms = [Term("A", {self.axis: "alpha"})]
        if self.form == "floor":
            terms.insert(0, Term("E"))
        return fit_table(power_terms(f"power law of {self.axis}", terms), table, fitting)


def select_law(table: Table) -> LawChoice:
    """Selects the richest law that the runs of a table can identify.

    Raises:
      StudyError: fewer than three scales, or no run beyond the parameters.
    """
    epochs = epochs_of(table)
    if not np.any(epochs > ONCE):
        return _select(table)
    if is_repeated_enough(table):
        harmed = len(harmed_runs(table, HARM))
        if harmed >= LEAST_HARMED and len(table) >= len(OVERFITTING.parameters) + SPARE:
            return LawChoice(
                "over-fitting",
                "",
                "L = E + A N^-alpha + B D^-beta + P R^kappa (N/U)^lambda",
                f"{np.sum(epochs > ONCE)} of {len(table)} runs see data again, up to "
                f"{epochs.max():.3g} times, and {harmed} are worse than a shorter run on the same "
                "data, so the law has a term for over-fitting: R is how often the U unique tokens "
                "are seen again.",
            )
        return LawChoice(
            "data-constrained",
            "",
            "L = E + A N'^-alpha + B D'^-beta",
            f"{np.sum(epochs > ONCE)} of {len(table)} runs see data again, up to "
            f"{epochs.max():.3g} times. D' is the number of new tokens that a run's tokens are "
            "worth (set by token_decay), and N' the number of parameters that so few unique "
            "tokens can use (set by parameter_decay).",
        )
    choice = _select(table)
    why = (
        f"{choice.why} {np.sum(epochs > ONCE)} of {len(table)} runs see data again, up to "
        f"{epochs.max():.3g} times, but this law counts all tokens as new: sizes, token counts and "
        "numbers of epochs are too few, or too correlated, to fit a law of repeated data."
    )
    return dataclasses.replace(choice, why=why)


def is_repeated_enough(table: Table) -> bool:
    """Returns whether runs can identify a law of repeated data: some repeat them, some do not."""
    epochs = epochs_of(table)
    is_new, repeated = epochs <= ONCE, np.log(epochs[epochs > ONCE])
    levels = np.unique(np.round(repeated / np.log(STEP_OF_REPEATS)))
    free = len(DATA_CONSTRAINED.parameters)
    return (
        len(levels) >= LEAST_LEVELS
        and int(np.sum(is_new)) >= LEAST_LEVELS
        and len(table) >= free + SPARE
        and _is_crossed(table)
    )


def _select(table: Table) -> LawChoice:
    """Selects the richest law that counts all tokens as new."""
    tokens = np.unique(table.tokens)
    if _is_crossed(table) and len(table) >= len(CHINCHILLA.parameters) + SPARE:
        return LawChoice(
            "chinchilla",
            "",
            "L = E + A N^-alpha + B D^-beta",
            f"{len(np.unique(table.parameters))} sizes and {len(tokens)} token counts vary "
            "independently, so both terms of Chinchilla's law can be fitted.",
        )
    axis = "parameters" if len(tokens) == 1 else "flops"
    scales = len(np.unique(table.column(axis)))
    why = (
        "All runs saw the same number of tokens, so the law is of size alone."
        if axis == "parameters"
        else "Size and tokens do not vary independently, or too few do, so the law is of compute."
    )
    symbol = {"parameters": "N", "flops": "C"}[axis]
    if scales >= 4 and len(table) >= 4:
        return LawChoice("floor", axis, f"L = E + A {symbol}^-alpha", why)
    if scales >= 3:
        return LawChoice(
            "power",
            axis,
            f"L = A {symbol}^-alpha",
            f"{why} {scales} scales are too few to fit an irreducible loss E.",
        )
    raise StudyError(
        f"too few for a law: {len(table)} run(s) at {scales} scale(s) of {axis}; train three "
        "scales or more."
    )


def _is_crossed(table: Table) -> bool:
    """Returns whether there are several sizes and token counts that vary independently."""
    columns = table.parameters, table.tokens
    if min(len(np.unique(column)) for column in columns) < LEAST_LEVELS:
        return False
    sizes, tokens = np.log(columns)
    return abs(float(np.corrcoef(sizes, tokens)[0, 1])) <= TIED


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A forecast for a rung.

    Attributes:
      value: of the law.
      seed_mean: interval of the mean over the rung's seeds.
      new_run: interval of a single run.
    """

    value: float
    seed_mean: tuple[float, float]
    new_run: tuple[float, float]


def forecast_loss(fit: Fit, columns: dict[str, float], seeds: int, level: float = 0.9) -> Forecast:
    """Forecasts the loss of a rung, with intervals for the mean over its seeds and for one run.

    A run's noise is the scatter about the law. If the law itself is wrong, all seeds of a rung are
    wrong together, and the interval of their mean is too narrow.

    Raises:
      LawError: there is no run beyond the law's parameters, so the noise is unknown.
    """
    inputs = fit.inputs_of(columns)
    value = float(fit.law.values(inputs, fit.vector)[0])
    bounds = [interval(fit.sample(inputs, count)[:, 0], level) for count in (seeds, 1)]
    return Forecast(value, _pair(bounds[0]), _pair(bounds[1]))


def forecast_score(
    loss: Fit, score: Fit, columns: dict[str, float], seeds: int, level: float = 0.9
) -> Forecast:
    """Forecasts the exact match of a rung from the forecast loss of its answers."""
    inputs = loss.inputs_of(columns)
    best = loss.law.values(inputs, loss.vector)
    value = float(score.law.values({"loss": best}, score.vector)[0])
    bounds = []
    for count in (seeds, 1):
        losses = loss.sample(inputs, count)[:, 0]
        scores = draw_scores(score, losses)
        scores += score.noise_of_mean(scores.shape, count, stream=2)
        bounds.append(interval(np.clip(scores, 0, 1), level))
    return Forecast(value, _pair(bounds[0]), _pair(bounds[1]))


def draw_scores(curve: Fit, losses: np.ndarray) -> np.ndarray:
    """Returns scores [draws] of losses [draws], each by one of a curve's resamples in turn."""
    which = np.arange(len(losses)) % len(curve.draws)
    scores = np.empty(len(losses))
    for draw in range(len(curve.draws)):
        mine = which == draw
        scores[mine] = curve.law.values({"loss": losses[mine]}, curve.draws[draw])
    return scores


def fit_score(
    answer_loss: np.ndarray,
    exact_match: np.ndarray,
    bootstraps: int = 200,
    runs: np.ndarray | None = None,
) -> Fit:
    """Fits exact match as a function of the answers' loss (nats/token), over runs or checkpoints.

    Args:
      answer_loss: [points].
      exact_match: [points].
      bootstraps: resamples of runs.
      runs: [points] names; by default each point is a run.

    Raises:
      StudyError: too few runs, or scores that hardly differ.
    """
    if len(exact_match) < LEAST_SCORE_RUNS:
        raise StudyError(
            f"{len(exact_match)} runs are too few for a curve of scores by loss; "
            f"{LEAST_SCORE_RUNS} are needed."
        )
    extent = float(np.ptp(exact_match))
    if extent < LEAST_SCORE_RANGE:
        raise StudyError(
            f"exact match lies between {exact_match.min():.3f} and {exact_match.max():.3f} in all "
            f"fitted runs, a range under {LEAST_SCORE_RANGE}: nothing tells where it will rise."
        )
    try:
        fitting = Fitting(LEAST_SQUARES, bootstraps=bootstraps)
        return fit_task_accuracy(answer_loss, exact_match, runs=runs, fitting=fitting)
    except LawError as error:
        raise StudyError(str(error)) from error


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
