"""Backtests: what past ladders would have forecast of their larger sizes, beside what came.

Every size of a ladder is forecast from all smaller ones, at the end of training, with all seeds and
with some of them. Forecasts of one task resemble each other, so that rates are means over tasks'
sizes, each with the same weight however many choices of seeds it has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.studies.law_selection import Forecast
from jaxgen.studies.study_runs import LEAST_LOSS
from jaxgen.studies.task_forecasts import Method
from jaxgen.studies.task_runs import TaskRuns

FEWEST = 4
"""Sizes that are forecast from."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial is one forecast that was or was not made, and what came.

    Attributes:
      study, task: whose.
      of: "loss" or "exact_match".
      rung: the size that was forecast.
      seeds: of the runs that it was forecast from, and that it is compared with.
      actual: the mean over them.
      forecast: of that mean; None if it was withheld.
      why_not: the reason; "" if it was made.
    """

    study: str
    task: str
    of: str
    rung: str
    seeds: tuple[int, ...]
    actual: float
    forecast: Forecast | None
    why_not: str = ""

    @property
    def is_inside(self) -> bool:
        """Returns whether what came is in the interval."""
        assert self.forecast is not None
        low, high = self.forecast.seed_mean
        return bool(low <= self.actual <= high)

    def in_own_units(self) -> tuple[float, float, float]:
        """Returns low, high and actual: logarithms of losses, scores as they are."""
        assert self.forecast is not None
        values = (*self.forecast.seed_mean, self.actual)
        low, high, actual = np.log(np.maximum(values, LEAST_LOSS)) if self.of == "loss" else values
        return float(low), float(high), float(actual)

    @property
    def width(self) -> float:
        """Returns the width of the interval, in logarithms for losses."""
        low, high, _ = self.in_own_units()
        return high - low

    def interval_score(self, level: float) -> float:
        """Returns width plus what was missed times 2 / (1 - level) (Gneiting and Raftery, 2007)."""
        low, high, actual = self.in_own_units()
        missed = max(low - actual, 0.0) + max(actual - high, 0.0)
        return self.width + 2 / (1 - level) * missed


@dataclasses.dataclass(frozen=True)
class Record:
    """A record summarises trials.

    Attributes:
      sizes: that were forecast, over tasks.
      made: share of them that were forecast, with any seeds.
      coverage: share of forecasts that were inside.
      width: median width, in logarithms for losses.
      score: mean interval score.
    """

    sizes: int
    made: float
    coverage: float
    width: float
    score: float


def half_of(task: str) -> str:
    """Returns whether priors and rules were fixed on a task, or judged on it; by its name alone."""
    is_even = int(hashlib.sha256(task.encode()).hexdigest(), 16) % 2 == 0
    return "fixed" if is_even else "judged"


def backtest_task(runs: TaskRuns, methods: Mapping[str, Method], level: float = 0.9) -> list[Trial]:
    """Forecasts every size of a ladder but the smallest, from those below it."""
    ends = runs.is_final
    order = {name: runs["flops"][ends & (runs.rung == name)].mean() for name in {*runs.rung[ends]}}
    names = sorted(order, key=lambda name: order[name])
    trials = []
    for place in range(FEWEST, len(names)):
        known, target = names[:place], names[place]
        for seeds in _subsets(runs, [*known, target]):
            mine = runs.select(np.isin(runs["seed"], seeds))
            below = mine.select(np.isin(mine.rung, known))
            came = mine.select((mine.rung == target) & mine.is_final)
            scale = {n: float(came[n].mean()) for n in ("parameters", "tokens", "flops")}
            for of, method in methods.items():
                actual = float(came[of].mean())
                if not np.isfinite(actual):
                    continue
                head = (runs.study, runs.task, of, target, tuple(int(s) for s in seeds), actual)
                try:
                    forecast = method(below, scale, len(seeds), level)
                    trials.append(Trial(*head, forecast))
                except StudyError as error:
                    trials.append(Trial(*head, None, str(error)))
    return trials


def _subsets(runs: TaskRuns, rungs: Sequence[str]) -> list[list[float]]:
    """Returns the seeds that all rungs have: all, every half, and each alone."""
    ends = runs.is_final
    each = [{*runs["seed"][ends & (runs.rung == name)]} for name in rungs]
    shared = sorted(set.intersection(*each))
    halves = [list(one) for one in itertools.combinations(shared, len(shared) // 2)][:8]
    found = {tuple(one): one for one in [shared, *halves, *([seed] for seed in shared)] if one}
    return list(found.values())


def summarise(trials: Iterable[Trial], level: float = 0.9) -> Record:
    """Summarises trials, each size of a task with the same weight."""
    sizes: dict[tuple, list[Trial]] = {}
    for trial in trials:
        sizes.setdefault((trial.study, trial.task, trial.of, trial.rung), []).append(trial)
    made = {k: [t for t in v if t.forecast is not None] for k, v in sizes.items()}
    made = {key: some for key, some in made.items() if some}
    if not made:
        return Record(len(sizes), 0.0, *[float("nan")] * 3)
    widths = [np.mean([trial.width for trial in some]) for some in made.values()]
    return Record(
        len(sizes),
        len(made) / len(sizes),
        float(np.mean([np.mean([t.is_inside for t in some]) for some in made.values()])),
        float(np.median(widths)),
        float(
            np.mean([np.mean([t.interval_score(level) for t in some]) for some in made.values()])
        ),
    )
