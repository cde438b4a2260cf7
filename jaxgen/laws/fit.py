"""A fitted law: its parameters, how sure they are, and what it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.law import Law
from jaxgen.laws.objective import Objective
from jaxgen.laws.resampling import interval
from jaxgen.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN, Columns, find_column

EXTRAPOLATION = 10.0
"""Times the largest compute of a fit, beyond which a prediction is labelled."""
NOISE_DRAWS = 20
"""Of a new run's noise, for each bootstrap."""


@dataclasses.dataclass(frozen=True)
class Search:
    """How far the search for the optimum can be trusted.

    Attributes:
      starts: searches begun.
      reached: of them, those that ended within 1e-6 of the best objective, relatively.
      spread: the largest difference of a working parameter between those.
      worst: of all ends, the objective over the best one.
      unstable: part of the bootstraps for which a perturbed start found a better optimum than
        the start at the full optimum did, by more than 1e-3 relatively; the better one is kept.
    """

    starts: int
    reached: int
    spread: float
    worst: float
    unstable: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a law says of some points.

    Attributes:
      values: [points].
      lower: [points] of the interval; NaN where the fit has no bootstraps.
      upper: [points].
      level: of the interval.
      of_new_run: the interval is for what a new run will show, its noise included, and not for
        the law's curve alone.
      is_extrapolated: [points] bool: beyond 10 times the largest compute of the fit; where no
        compute is known, outside the range of the fit's inputs.
    """

    values: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    of_new_run: bool
    is_extrapolated: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A law fitted to points.

    Attributes:
      law: its formula and name.
      objective: what was made small.
      columns: of the points fitted, the law's inputs and `flops` where known.
      target: [points] what was to be predicted.
      weights: [points] of the objective.
      vector: [parameters] working parameters at the optimum.
      value: the objective there, a sum over points.
      search: how the optimum was found.
      draws: [bootstraps, parameters] the optima of the resamples.
      seed: of the resamples and of the noise of predictions.
    """

    law: Law
    objective: Objective
    columns: Columns
    target: np.ndarray
    weights: np.ndarray
    vector: np.ndarray
    value: float
    search: Search
    draws: np.ndarray
    seed: int = 0

    @property
    def name(self) -> str:
        """Of the law."""
        return self.law.name

    @property
    def points(self) -> int:
        """How many were fitted."""
        return len(self.target)

    @property
    def parameters(self) -> dict[str, float]:
        """The law's own parameters, by name."""
        return {name: float(value) for name, value in self.law.natural(self.vector).items()}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard deviation of each over the bootstraps; NaN without any."""
        if not len(self.draws):
            return dict.fromkeys(self.parameters, float("nan"))
        # What the points say nothing of may run off beyond what can be squared.
        with np.errstate(over="ignore", invalid="ignore"):
            return {n: float(np.std(v, ddof=1)) for n, v in self.law.natural(self.draws).items()}

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Percentile interval of each parameter over the bootstraps; NaN without any."""
        draws = self.law.natural(self.draws)
        return {name: _pair(interval(values, level)) for name, values in draws.items()}

    @property
    def residuals(self) -> np.ndarray:
        """[points] target minus fitted, of the logarithms where the objective is of them."""
        fitted = self.law.values(self.columns, self.vector)
        return self.objective.target(self.target) - self.objective.target(fitted)

    @property
    def r_squared(self) -> float:
        """One minus the residual over the total sum of squares, of the target itself."""
        errors = self.target - self.law.values(self.columns, self.vector)
        around = self.target - np.mean(self.target)
        return float(1 - np.sum(errors**2) / np.sum(around**2))

    @property
    def noise(self) -> float:
        """Standard deviation of a run about the law, in the space of the objective."""
        freedom = self.points - len(self.vector)
        if freedom < 1:
            return float("nan")
        return float(np.sqrt(np.sum(self.residuals**2) / freedom))

    def predict(
        self,
        columns: Mapping[str, ArrayLike] | None = None,
        *,
        level: float = 0.95,
        of_new_run: bool = False,
        **named: ArrayLike,
    ) -> Prediction:
        """What the law says of points.

        For a new run the spread of the bootstraps and a run's noise are added: Student's t of as
        many degrees of freedom as points are left over, times `noise`.

        Args:
          columns: the law's inputs, [points] or numbers, and optionally `flops`; others pass.
          level: of the interval.
          of_new_run: the interval is of what a run will show.
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
        """Of columns, those that the law or the label of extrapolation read; [points] each."""
        kept = {*self.law.inputs, "flops", "parameters", "tokens"}
        return broadcast({name: values for name, values in columns.items() if name in kept})

    def sample(self, columns: Columns, seeds: int | None = None) -> np.ndarray:
        """[draws, points]: predictions of the bootstraps.

        Args:
          columns: the law's inputs.
          seeds: new runs that the mean is taken of, whose noise is then added; None: the curve's.
        """
        draws = self.law.values(columns, self.draws)
        if seeds is None or not len(draws):
            return draws
        draws = np.repeat(draws, NOISE_DRAWS, axis=0)
        noise = self.noise_of_mean(draws.shape, seeds)
        return draws * np.exp(noise) if self.objective.space == "log" else draws + noise

    def noise_of_mean(self, shape: tuple[int, ...], seeds: int, stream: int = 1) -> np.ndarray:
        """Draws of what the mean of new runs is off the law, in the space of the objective.

        Args:
          shape: of the draws.
          seeds: new runs of a mean.
          stream: other numbers give other draws of the fit's seed.

        Raises:
          LawError: no run beyond the law's parameters to tell the noise by.
        """
        freedom = self.points - len(self.vector)
        if freedom < 1:
            raise LawError(
                f"{self.name} was fitted to {self.points} points with {len(self.vector)} "
                "parameters: nothing is left to tell a run's noise by; add runs."
            )
        random = np.random.default_rng([self.seed, stream])
        return self.noise * random.standard_t(freedom, size=shape) / np.sqrt(seeds)

    def extrapolates(self, columns: Columns) -> np.ndarray:
        """[points] bool; see `Prediction.is_extrapolated`."""
        asked, known = compute_of(columns), compute_of(self.columns)
        if asked is not None and known is not None:
            return asked > EXTRAPOLATION * known.max()
        outside = []
        for name in self.law.inputs:
            values, fitted = find_column(columns, name), self.columns[name]
            outside.append((values < fitted.min()) | (values > fitted.max()))
        return np.any(outside, axis=0)


def compute_of(columns: Columns) -> np.ndarray | None:
    """[points] FLOPs as given, or of parameters and tokens, or None."""
    if "flops" in columns:
        return np.asarray(columns["flops"], float)
    if "parameters" in columns and "tokens" in columns:
        return FLOPS_PER_PARAMETER_AND_TOKEN * columns["parameters"] * columns["tokens"]
    return None


def broadcast(columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Columns of equal length [points] from arrays and numbers."""
    if not columns:
        raise LawError("no columns were given; name the law's inputs, such as parameters=1e9.")
    try:
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(v, float)) for v in columns.values())
        )
    except ValueError as error:
        shapes = {name: np.shape(values) for name, values in columns.items()}
        raise LawError(f"columns of shapes {shapes} do not go together: {error}.") from error
    if arrays[0].ndim != 1:
        raise LawError(f"columns have shape {arrays[0].shape}; they must be one number a point.")
    return dict(zip(columns, arrays, strict=True))


def _pair(bounds: np.ndarray) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
