"""Which law a study's runs can carry, and its predictions for a rung of several seeds.

Chinchilla's law L = E + A N^-alpha + B D^-beta needs sizes and tokens that vary apart. A ladder
whose tokens are all the same, or follow the size, cannot tell its two terms from each other, and
gets one of a single axis: L = E + A x^-alpha, or without E where there are fewer than four scales.
Where runs see data again, and others do not, Chinchilla's law is that of what data are worth.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import (
    CHINCHILLA,
    DATA_CONSTRAINED,
    LEAST_SQUARES,
    ROBUST,
    Fit,
    Fitting,
    LawError,
    Table,
    Term,
    fit_chinchilla,
    fit_data_constrained,
    fit_table,
    fit_task_accuracy,
    interval,
    power_terms,
)

SPARE = 3
"""Points beyond the law's parameters, for Chinchilla's law and that of repeated data."""
LEAST_LEVELS = 3
"""Sizes and token counts, for Chinchilla's law; how often data are seen, for repeated data."""
ONCE = 1.02
"""Times that data are seen, up to which nothing counts as repeated."""
STEP_OF_REPEATS = 1.1
"""Ratio of two numbers of epochs that are two levels."""
TIED = 0.98
"""Correlation of the logarithms of size and tokens, from which they are taken as one axis."""
LEAST_SCORE_RUNS = 6
LEAST_SCORE_RANGE = 0.1
"""Of the mean exact match over the runs, below which no sigmoid is fitted."""


@dataclasses.dataclass(frozen=True)
class LawChoice:
    """The form of law that a table can carry.

    Attributes:
      form: "chinchilla", "data-constrained", "floor" (E + A x^-alpha) or "power" (A x^-alpha).
      axis: the column x; "" for the first two.
      formula: as people write it.
      why: one sentence.
    """

    form: str
    axis: str
    formula: str
    why: str

    def fit(self, table: Table, fitting: Fitting = ROBUST) -> Fit:
        """Fits it; a LawError where that cannot be done."""
        if self.form == "chinchilla":
            return fit_chinchilla(table, fitting)
        if self.form == "data-constrained":
            return fit_data_constrained(table, None, fitting)
        terms = [Term("A", {self.axis: "alpha"})]
        if self.form == "floor":
            terms.insert(0, Term("E"))
        return fit_table(power_terms(f"power law of {self.axis}", terms), table, fitting)


def select_law(table: Table) -> LawChoice:
    """The richest law that a table can carry.

    Raises:
      StudyError: fewer than three scales, or no run to spare.
    """
    epochs = epochs_of(table)
    if not np.any(epochs > ONCE):
        return _choose(table)
    if is_repeated_enough(table):
        return LawChoice(
            "data-constrained",
            "",
            "L = E + A N'^-alpha + B D'^-beta",
            f"{np.sum(epochs > ONCE)} of {len(table)} runs see data again, up to "
            f"{epochs.max():.3g} times: D' is what their tokens are worth in new ones (by "
            "token_decay), and N' what their parameters are to so few (by parameter_decay).",
        )
    choice = _choose(table)
    why = (
        f"{choice.why} {np.sum(epochs > ONCE)} of {len(table)} runs see data again, up to "
        f"{epochs.max():.3g} times, and this law takes all tokens for new ones: sizes, token "
        "counts and repetitions are too few, or vary too much together, for one that does not."
    )
    return dataclasses.replace(choice, why=why)


def epochs_of(table: Table) -> np.ndarray:
    """[rows] how often a run sees its data, on average; 1 where the table does not say."""
    return table.tokens / table.columns.get("unique_tokens", table.tokens)


def is_repeated_enough(table: Table) -> bool:
    """Whether runs can tell what repeated data are worth: some repeat them, and some do not."""
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


def _choose(table: Table) -> LawChoice:
    """The richest law that takes all tokens for new."""
    tokens = np.unique(table.tokens)
    if _is_crossed(table) and len(table) >= len(CHINCHILLA.parameters) + SPARE:
        return LawChoice(
            "chinchilla",
            "",
            "L = E + A N^-alpha + B D^-beta",
            f"{len(np.unique(table.parameters))} sizes and {len(tokens)} token counts vary apart, "
            "so both terms of Chinchilla's law can be told.",
        )
    axis = "parameters" if len(tokens) == 1 else "flops"
    scales = len(np.unique(table.column(axis)))
    why = (
        "All runs saw the same number of tokens, so the law is of size alone."
        if axis == "parameters"
        else "Size and tokens do not vary apart, or in too few runs, so the law is of compute."
    )
    symbol = {"parameters": "N", "flops": "C"}[axis]
    if scales >= 4 and len(table) >= 4:
        return LawChoice("floor", axis, f"L = E + A {symbol}^-alpha", why)
    if scales >= 3:
        return LawChoice(
            "power",
            axis,
            f"L = A {symbol}^-alpha",
            f"{why} {scales} scales are too few to tell the loss that remains at infinite scale.",
        )
    raise StudyError(
        f"too few for a law: {len(table)} run(s) at {scales} scale(s) of {axis}; train three "
        "scales or more."
    )


def _is_crossed(table: Table) -> bool:
    """Whether sizes and token counts are several and vary apart."""
    columns = table.parameters, table.tokens
    if min(len(np.unique(column)) for column in columns) < LEAST_LEVELS:
        return False
    sizes, tokens = np.log(columns)
    return abs(float(np.corrcoef(sizes, tokens)[0, 1])) <= TIED


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What is predicted of a rung.

    Attributes:
      value: by the law.
      seed_mean: interval of the mean over the rung's seeds.
      new_run: interval of a single run.
    """

    value: float
    seed_mean: tuple[float, float]
    new_run: tuple[float, float]


def forecast_loss(fit: Fit, columns: dict[str, float], seeds: int, level: float = 0.9) -> Forecast:
    """The loss of a rung, with intervals for the mean over its seeds and for one run.

    A run's noise is the scatter about the law, so where the law itself is off, seeds of a rung are
    off together and the interval of their mean is too narrow.

    Raises:
      LawError: no run beyond the law's parameters to tell the noise by.
    """
    given = fit.inputs_of(columns)
    value = float(fit.law.values(given, fit.vector)[0])
    bounds = [interval(fit.sample(given, count)[:, 0], level) for count in (seeds, 1)]
    return Forecast(value, _pair(bounds[0]), _pair(bounds[1]))


def forecast_score(
    loss: Fit, score: Fit, columns: dict[str, float], seeds: int, level: float = 0.9
) -> Forecast:
    """The exact match of a rung, by its answers' predicted loss (the second step)."""
    given = loss.inputs_of(columns)
    best = loss.law.values(given, loss.vector)
    value = float(score.law.values({"loss": best}, score.vector)[0])
    bounds = []
    for count in (seeds, 1):
        losses = loss.sample(given, count)[:, 0]
        pairs = np.arange(len(losses)) % len(score.draws)
        scores = np.empty(len(losses))
        for draw in range(len(score.draws)):
            mine = pairs == draw
            scores[mine] = score.law.values({"loss": losses[mine]}, score.draws[draw])
        scores += score.noise_of_mean(scores.shape, count, stream=2)
        bounds.append(interval(np.clip(scores, 0, 1), level))
    return Forecast(value, _pair(bounds[0]), _pair(bounds[1]))


def fit_score(answer_loss: np.ndarray, exact_match: np.ndarray, bootstraps: int = 200) -> Fit:
    """Exact match by the loss of the answers (nats a token), one point a run.

    Raises:
      StudyError: too few runs, or scores that do not yet differ.
    """
    if len(exact_match) < LEAST_SCORE_RUNS:
        raise StudyError(
            f"{len(exact_match)} runs are too few for a curve of scores by loss; "
            f"{LEAST_SCORE_RUNS} are needed."
        )
    extent = float(np.ptp(exact_match))
    if extent < LEAST_SCORE_RANGE:
        raise StudyError(
            f"exact match lies between {exact_match.min():.3f} and {exact_match.max():.3f} at all "
            f"runs fitted, a range under {LEAST_SCORE_RANGE}: nothing says where it will rise."
        )
    try:
        fitting = Fitting(LEAST_SQUARES, bootstraps=bootstraps)
        return fit_task_accuracy(answer_loss, exact_match, fitting=fitting)
    except LawError as error:
        raise StudyError(str(error)) from error


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
