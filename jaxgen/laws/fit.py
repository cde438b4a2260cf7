"""A fit has a law's parameters with their intervals, and predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.huber_loss import HuberLoss
from jaxgen.laws.law import Law
from jaxgen.laws.plotting import figure_of_fit
from jaxgen.laws.resampling import interval
from jaxgen.laws.summary import text_of_fit, values_of_fit
from jaxgen.laws.table import (
    FLOPS_PER_PARAMETER_AND_TOKEN,
    Columns,
    check_positive,
    find_column,
    floats,
)

EXTRAPOLATION = 10.0
"""A prediction beyond so many times the largest compute of a fit is labelled as extrapolated."""
NOISE_DRAWS = 20
"""Draws of a new run's noise for each bootstrap."""


@dataclasses.dataclass(frozen=True)
class Search:
    """A search record shows how far the optimum can be trusted.

    Attributes:
      starts: how many searches began.
      reached: how many of them ended within a factor of 1 + 1e-6 of the least fit loss.
      spread: the largest difference of a working parameter between those.
      worst: the largest fit loss at the end of a search over the least.
      unstable: share of the bootstraps for which a perturbed start found an optimum that is better
        by more than a part in 1,000 than the one found from the full optimum; the better is kept.
    """

    starts: int
    reached: int
    spread: float
    worst: float
    unstable: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction has a law's values at some points, with intervals.

    Attributes:
      values: [points].
      lower: [points] lower ends of the intervals; NaN where the fit has no bootstraps.
      upper: [points] upper ends.
      level: the level of the intervals.
      of_new_run: whether the intervals are for a new run, its noise included, or for the law's
        curve alone.
      is_extrapolated: [points] bool: beyond 10 times the largest compute of the fit; where no
        compute is known, outside the range of the fit's inputs.
    """

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    of_new_run: bool
    is_extrapolated: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """A fit is a law with the parameters that describe some points best.

    Attributes:
      law: the formula that was fitted.
      fit_loss: the loss that was minimised.
      columns: the law's inputs at the points fitted, and `flops` where known.
      target: [points] the values to be predicted.
      vector: [parameters] working parameters at the optimum.
      value: the fit loss there, summed over points.
      search: how the optimum was found.
      draws: [bootstraps, parameters] the optima of the resamples.
      seed: seed of the resamples and of the noise of predictions.
      warnings: why not to trust it, a sentence each.
      spent: degrees of freedom of the points that were used up before, as by effects of seeds.
    """

    law: Law
    fit_loss: HuberLoss
    columns: Columns
    target: np.ndarray
    vector: np.ndarray
    value: float
    search: Search
    draws: np.ndarray
    seed: int = 0
    warnings: tuple[str, ...] = ()
    spent: int = 0

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, level: float = 0.95) -> str:
        """Returns formula, parameters with intervals, best models and warnings as text."""
        return text_of_fit(self, level)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Returns the same as plain values for JSON; numbers that are not finite are None."""
        return values_of_fit(self, level)

    def plot(self, level: float = 0.95) -> Any:
        """Returns a matplotlib figure of the points, the law and the best models."""
        return figure_of_fit(self, level)

    @property
    def frontier(self) -> Any:
        """Returns N*(C), D*(C) and L*(C), a `Frontier`, of a law that has them in closed form."""
        if self.law.frontier is None:
            raise LawError(f"{self.name} has no best models in closed form; see search_optimum.")
        return self.law.frontier(self)

    @property
    def name(self) -> str:
        """Returns the law's name."""
        return self.law.name

    @property
    def points(self) -> int:
        """Returns the number of points fitted."""
        return len(self.target)

    @property
    def parameters(self) -> dict[str, float]:
        """Returns the law's own parameters by name."""
        return {name: float(value) for name, value in self.law.natural(self.vector).items()}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Returns each parameter's standard deviation over the bootstraps; NaN without any."""
        if not len(self.draws):
            return dict.fromkeys(self.parameters, float("nan"))
        # A parameter that the points do not constrain may be too large to be squared.
        with np.errstate(over="ignore", invalid="ignore"):
            return {n: float(np.std(v, ddof=1)) for n, v in self.law.natural(self.draws).items()}

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Returns each parameter's percentile interval over the bootstraps; NaN without any."""
        draws = self.law.natural(self.draws)
        return {name: _pair(interval(values, level)) for name, values in draws.items()}

    @property
    def residuals(self) -> np.ndarray:
        """Returns target minus fitted value [points], in logarithms where the fit loss is."""
        fitted = self.law.values(self.columns, self.vector)
        return self.fit_loss.target(self.target) - self.fit_loss.target(fitted)

    @property
    def r_squared(self) -> float:
        """Returns one minus the residual over the total sum of squares of the target itself.

        NaN where there are no more points than parameters: it would be 1 for any points.
        """
        if self.points <= len(self.vector):
            return float("nan")
        errors = self.target - self.law.values(self.columns, self.vector)
        around = self.target - np.mean(self.target)
        return float(1 - np.sum(errors**2) / np.sum(around**2))

    @property
    def noise(self) -> float:
        """Returns the standard deviation of a run about the law, in the space of the fit loss."""
        freedom = self.points - len(self.vector) - self.spent
        if freedom < 1:
            return float("nan")
        return float(np.sqrt(np.sum(self.residuals**2) / freedom))

    @property
    def noise_parts(self) -> tuple[float, float]:
        """Returns the deviations of the law from the means of like runs, and of runs from those.

        Like runs have the same inputs. Their squares add up to that of `noise`. Where no runs are
        alike the two cannot be told apart, and all of it counts as the law's: no number of seeds
        then averages it out.
        """
        inputs = np.stack([self.columns[name] for name in self.law.inputs], axis=1)
        _, group, counts = np.unique(inputs, axis=0, return_inverse=True, return_counts=True)
        freedom = self.points - len(counts) - self.spent
        if freedom < 1:
            return self.noise, 0.0
        residuals, group = self.residuals, group.ravel()
        own = residuals - (np.bincount(group, residuals) / counts)[group]
        of_run = min(float(np.sqrt(np.sum(own**2) / freedom)), self.noise)
        return float(np.sqrt(self.noise**2 - of_run**2)), of_run

    def predict(
        self,
        columns: Mapping[str, ArrayLike] | None = None,
        *,
        level: float = 0.95,
        of_new_run: bool = False,
        **named: ArrayLike,
    ) -> Prediction:
        """Predicts points.

        For a new run, a run's noise is added to the spread of the bootstraps: Student's t times
        `noise`, with as many degrees of freedom as there are points beyond the parameters.

        Args:
          columns: the law's inputs, [points] or numbers, and optionally `flops`; others are
            ignored.
          level: the level of the intervals.
          of_new_run: whether the intervals are for a new run or for the law's curve.
          **named: columns by name.
        """
        given = self.inputs_of({**(columns or {}), **named})
        values = self.law.values(given, self.vector)
        draws = self.sample(given, seeds=1 if of_new_run else None)
        bounds = interval(draws, level)
        return Prediction(
            values, bounds[..., 0], bounds[..., 1], level, of_new_run, self.extrapolates(given)
        )

    def inputs_of(self, columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """Returns those columns [points] that the law or the label of extrapolation reads."""
        kept = {*self.law.inputs, "flops", "parameters", "tokens"}
        found = broadcast({name: values for name, values in columns.items() if name in kept})
        for name, values in found.items():
            check_positive(name, values)
        return found

    def sample(self, columns: Columns, seeds: int | None = None) -> np.ndarray:
        """Returns predictions of the bootstraps, [draws, points].

        Args:
          columns: the law's inputs.
          seeds: number of new runs whose mean is predicted, with its noise; None for the curve.
        """
        draws = self.law.values(columns, self.draws)
        if seeds is None or not len(draws):
            return draws
        draws = np.repeat(draws, NOISE_DRAWS, axis=0)
        noise = self.noise_of_mean(draws.shape, seeds)
        return self.fit_loss.moved(draws, noise)

    def noise_of_mean(self, shape: tuple[int, ...], seeds: int, stream: int = 1) -> np.ndarray:
        """Draws the distance of a mean of new runs from the law, in the space of the fit loss.

        What a run's seed adds is averaged out over seeds, the law's own error is not.

        Args:
          shape: of the draws.
          seeds: number of new runs in a mean, of one size.
          stream: other numbers give other draws from the fit's seed.

        Raises:
          LawError: there are no runs beyond the law's parameters to estimate the noise from.
        """
        freedom = self.points - len(self.vector) - self.spent
        if freedom < 1:
            raise LawError(
                f"{self.name} was fitted to {self.points} points with {len(self.vector)} "
                "parameters: none is left to estimate the noise of a run from; add runs."
            )
        random = np.random.default_rng([self.seed, stream])
        of_law, of_run = self.noise_parts
        return np.sqrt(of_law**2 + of_run**2 / seeds) * random.standard_t(freedom, size=shape)

    def extrapolates(self, columns: Columns) -> np.ndarray:
        """Returns [points] bool, see `Prediction.is_extrapolated`."""
        asked, known = compute_of(columns), compute_of(self.columns)
        if asked is not None and known is not None:
            return asked > EXTRAPOLATION * known.max()
        outside = []
        for name in self.law.inputs:
            values, fitted = find_column(columns, name), self.columns[name]
            outside.append((values < fitted.min()) | (values > fitted.max()))
        return np.any(outside, axis=0)


def compute_of(columns: Columns) -> np.ndarray | None:
    """Returns FLOPs [points] from their column or from parameters and tokens, else None."""
    if "flops" in columns:
        return np.asarray(columns["flops"], float)
    if "parameters" in columns and "tokens" in columns:
        return FLOPS_PER_PARAMETER_AND_TOKEN * columns["parameters"] * columns["tokens"]
    return None


def broadcast(columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Returns columns of equal length [points] from arrays and numbers."""
    if not columns:
        raise LawError("there are no columns; name the law's inputs, such as parameters=1e9.")
    try:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(floats(name, values)) for name, values in columns.items())
        )
    except ValueError as error:
        shapes = {name: np.shape(values) for name, values in columns.items()}
        raise LawError(f"columns of shapes {shapes} do not broadcast: {error}.") from error
    if arrays[0].ndim != 1:
        raise LawError(f"columns have shape {arrays[0].shape}; they must be one number a point.")
    return dict(zip(columns, arrays, strict=True))


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
