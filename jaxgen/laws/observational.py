"""Laws of capabilities across public models: principal components, families and tasks.

Ruan et al. (2405.10938): a few principal components of a matrix of models by benchmarks are the
models' capabilities S. In a family of models S is linear in the logarithm of training compute; and
a task's score is E = h + (1 - h) sigmoid(weights . S + alpha), with h its floor by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import Fitting, fit_law
from jaxgen.laws.law import Law, by_complex_step, logistic
from jaxgen.laws.objective import LEAST_SQUARES
from jaxgen.laws.table import Columns, check_positive

ROUNDS = 500
"""Of filling in missing scores."""


@dataclasses.dataclass(frozen=True, eq=False)
class Capabilities:
    """Principal components of models' scores.

    Attributes:
      scores: [models, components] S.
      loadings: [components, benchmarks]; each first one is positive in sum, so that more is better.
      middle: [benchmarks] mean score.
      explained: [components] part of the variance.
    """

    scores: np.ndarray
    loadings: np.ndarray
    middle: np.ndarray
    explained: np.ndarray

    def project(self, benchmarks: ArrayLike) -> np.ndarray:
        """[models, benchmarks] of other models, nothing missing -> [models, components]."""
        return (np.asarray(benchmarks, float) - self.middle) @ self.loadings.T


def find_capabilities(benchmarks: ArrayLike, components: int = 3) -> Capabilities:
    """Principal components of a matrix of scores.

    Missing scores are filled in by the components themselves, again and again until they stay (the
    paper's way).

    Args:
      benchmarks: [models, benchmarks] scores; NaN where missing.
      components: how many.
    """
    scores = np.array(benchmarks, float)
    if scores.ndim != 2 or min(scores.shape) < components or components < 1:
        raise LawError(
            f"benchmarks have shape {scores.shape}; {components} components need at least as many "
            "models and benchmarks."
        )
    is_missing = np.isnan(scores)
    if np.any(is_missing.all(axis=0)) or np.any(is_missing.all(axis=1)):
        raise LawError("a model or a benchmark has no score at all; leave it out.")
    scores[is_missing] = np.broadcast_to(np.nanmean(scores, axis=0), scores.shape)[is_missing]
    for _ in range(ROUNDS):
        middle = scores.mean(axis=0)
        left, sizes, loadings = np.linalg.svd(scores - middle, full_matrices=False)
        again = middle + left[:, :components] * sizes[:components] @ loadings[:components]
        change = np.max(np.abs(again - scores)[is_missing], initial=0.0)
        scores[is_missing] = again[is_missing]
        if change < 1e-10:
            break
    kept = loadings[:components]
    kept = kept * np.where(kept.sum(axis=1) < 0, -1.0, 1.0)[:, None]
    explained = sizes[:components] ** 2 / np.sum(sizes**2)
    return Capabilities((scores - middle) @ kept.T, kept, middle, explained)


@dataclasses.dataclass(frozen=True)
class Family:
    """How a family's capabilities grow: S = slopes ln C + intercepts.

    Attributes:
      name: of the family.
      slopes: of each component.
      intercepts: of each component.
      models: fitted.
      r_squared: of each component.
    """

    name: str
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    models: int
    r_squared: tuple[float, ...]

    def equivalent_flops(self, capability: ArrayLike) -> np.ndarray:
        """The compute at which this family has a first component: f-equivalent FLOPs."""
        return np.exp((np.asarray(capability) - self.intercepts[0]) / self.slopes[0])

    def capabilities(self, flops: ArrayLike) -> np.ndarray:
        """[models] FLOPs -> [models, components]."""
        logs = np.log(np.atleast_1d(np.asarray(flops, float)))
        return logs[:, None] * np.array(self.slopes) + np.array(self.intercepts)


def fit_families(
    capabilities: np.ndarray, flops: ArrayLike, families: Sequence[str]
) -> tuple[Family, ...]:
    """Least squares of S by ln C, in each family of two models or more."""
    flops = np.asarray(flops, float)
    check_positive("flops", flops)
    names, found = np.asarray(families), []
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        if len(np.unique(flops[rows])) < 2:
            continue
        x, y = np.log(flops[rows]), capabilities[rows]
        slopes, intercepts = np.polyfit(x, y, 1)
        errors = y - np.outer(x, slopes) - intercepts
        around = np.sum((y - y.mean(axis=0)) ** 2, axis=0)
        parts = 1 - np.sum(errors**2, axis=0) / np.where(around > 0, around, 1.0)
        found.append(
            Family(
                str(name),
                tuple(slopes.tolist()),
                tuple(intercepts.tolist()),
                int(rows.sum()),
                tuple(parts.tolist()),
            )
        )
    return tuple(found)


def task_law(components: int, floor: float | None) -> Law:
    """E = h + (1 - h) sigmoid(weights . S + alpha); h is fitted where no floor is given."""
    weights = tuple(f"weight{i}" for i in range(1, components + 1))
    inputs = tuple(f"component{i}" for i in range(1, components + 1))
    parameters = (*weights, "alpha", *(() if floor is not None else ("logit_floor",)))

    def score(named, columns: Columns) -> np.ndarray:
        pairs = zip(weights, inputs, strict=True)
        total = named["alpha"] + sum(named[weight] * columns[of] for weight, of in pairs)
        least = floor if floor is not None else logistic(named["logit_floor"])
        return least + (1 - least) * logistic(total)

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        design = np.column_stack([*(columns[name] for name in inputs), np.ones(len(target))])
        found = []
        for least in (floor,) if floor is not None else (0.02, 0.2, 0.5):
            part = np.clip((target - least) / (1 - least), 0.02, 0.98)
            linear = np.linalg.lstsq(design, np.log(part / (1 - part)), rcond=None)[0]
            tail = [] if floor is not None else [np.log(least / (1 - least))]
            found += [[*linear, *tail], [*(0.3 * linear), *tail]]
        return np.array(found)

    bind = by_complex_step(score, parameters, inputs)
    return Law("observational", parameters, inputs, bind, starts, is_log=False)


def fit_task(
    capabilities: np.ndarray,
    score: ArrayLike,
    floor: float | None = None,
    fitting: Fitting = Fitting(LEAST_SQUARES),  # noqa: B008  # frozen
    groups: ArrayLike | None = None,
) -> Fit:
    """Fits a task's score by capabilities, by least squares.

    Args:
      capabilities: [models, components].
      score: [models] between 0 and 1.
      floor: of chance; fitted where None.
      fitting: how.
      groups: [models], such as families: models of one label are resampled together.
    """
    if floor is not None and not 0 <= floor < 1:
        raise LawError(f"floor={floor} must be at least 0 and below 1.")
    law = task_law(capabilities.shape[1], floor)
    labels = None if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    columns = as_components(capabilities)
    return fit_law(law, columns, np.asarray(score, float), fitting, groups=labels)


def as_components(capabilities: np.ndarray) -> dict[str, np.ndarray]:
    """[models, components] -> columns `component1` and so on, as `Fit.predict` takes them."""
    return {f"component{i}": column for i, column in enumerate(np.atleast_2d(capabilities).T, 1)}
