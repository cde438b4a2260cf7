"""A law is a formula with named parameters, its gradient and its starting points.

A search needs parameters without bounds, the working parameters: `log_A` is the logarithm of the
law's positive A, and `logit_b` the log-odds of its b, which lies between 0 and 1. Everything is
evaluated for many parameter vectors at once, [replicates, parameters], so that a grid of starts or
a thousand bootstraps cost a few matrix products and not a thousand loops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.table import Columns, find_column

COMPLEX_STEP = 1e-30


@dataclasses.dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes are the derivatives of an evaluation's values along some directions.

    Attributes:
      vjp: [replicates, points] weights -> the weighted sum of the points' gradients, [replicates,
        directions].
      jacobian: -> [replicates, points, directions].
    """

    vjp: Callable[[np.ndarray], np.ndarray]
    jacobian: Callable[[], np.ndarray]


Evaluate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, Slopes]]
"""[replicates, parameters] and directions [directions, parameters] -> values [replicates, points]
and their slopes along those directions."""


@dataclasses.dataclass(frozen=True, eq=False)
class Restriction:
    """A restriction maps free parameters to all of them: whole = free @ spread + offset.

    Attributes:
      names: all working parameters.
      spread: [free, all].
      offset: [all].
    """

    names: tuple[str, ...]
    spread: np.ndarray
    offset: np.ndarray

    def whole(self, vectors: np.ndarray) -> np.ndarray:
        """Maps [..., free] to [..., all]."""
        return vectors @ self.spread + self.offset


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """A law is a formula of named parameters and columns.

    Attributes:
      name: the name in reports.
      parameters: names of the working parameters, in the order of a vector.
      inputs: names of the columns that it reads.
      bind: columns -> the formula on those points.
      starts: columns and target [points] -> [starts, parameters] where a search begins.
      is_log: whether the formula gives the logarithm of the prediction.
      restriction: the parameters that `restrict` fixed or tied, if any.
      formula: in the usual notation, or empty.
      falling: inputs with which the prediction should fall, as a loss does with scale.
      frontier: a fit of this law -> the best models of any budget, where they have a closed form.
    """

    name: str
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    bind: Callable[[Columns], Evaluate]
    starts: Callable[[Columns, np.ndarray], np.ndarray]
    is_log: bool = True
    restriction: Restriction | None = None
    formula: str = ""
    falling: tuple[str, ...] = ()
    frontier: Callable[[Any], Any] | None = None

    def natural(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the law's own parameters [...] of vectors [..., parameters]: `A` for `log_A`.

        Parameters that `restrict` fixed or tied are among them.
        """
        whole = self.restriction.whole(vector) if self.restriction else vector
        names = self.restriction.names if self.restriction else self.parameters
        found = {}
        for place, name in enumerate(names):
            kind, short = _short(name)
            values = whole[..., place]
            # A resample that does not constrain a parameter may let it diverge.
            with np.errstate(over="ignore"):
                found[short] = TRANSFORMS[kind][0](values) if kind else values
        return found

    def vector(self, natural: Mapping[str, float]) -> np.ndarray:
        """Returns the vector [parameters] of the law's own parameters, the inverse of `natural`."""
        vector = []
        for name in self.parameters:
            kind, short = _short(name)
            if short not in natural:
                raise LawError(f"{self.name} has the parameter {short}, which is missing.")
            value = float(natural[short])
            vector.append(TRANSFORMS[kind][1](value) if kind else value)
        return np.array(vector)

    def values(self, columns: Mapping[str, ArrayLike], vectors: np.ndarray) -> np.ndarray:
        """Returns predictions [..., points], not logarithms, of vectors [..., parameters]."""
        flat = np.atleast_2d(vectors)
        arrays = {name: np.asarray(find_column(columns, name)) for name in self.inputs}
        values = self.bind(arrays)(flat, np.eye(flat.shape[1]))[0]
        with np.errstate(over="ignore"):
            values = np.exp(values) if self.is_log else values
        return values.reshape(*np.shape(vectors)[:-1], values.shape[-1])


def by_complex_step(
    function: Callable[[Mapping[str, np.ndarray], Columns], np.ndarray],
    parameters: Sequence[str],
    inputs: Sequence[str],
) -> Callable[[Columns], Evaluate]:
    """Returns the `Law.bind` of a formula, with a gradient that is exact to rounding.

    The imaginary part of f(x + ih) is h f'(x) without any difference being taken, so h can be tiny
    (Squire and Trapp, 1998). The formula must be made of analytic functions alone.

    Args:
      function: parameters by name [replicates, 1] (of the working names) and columns [points] ->
        [replicates, points].
      parameters: working names.
      inputs: columns that it reads.
    """

    def bind(columns: Columns) -> Evaluate:
        own = {name: columns[name] for name in inputs}

        def at(vectors: np.ndarray) -> np.ndarray:
            named = {name: vectors[:, [place]] for place, name in enumerate(parameters)}
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return function(named, own)

        def evaluate(vectors: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, Slopes]:
            def along() -> list[np.ndarray]:
                moved = [vectors + 1j * COMPLEX_STEP * direction for direction in directions]
                return [np.imag(at(vector)) / COMPLEX_STEP for vector in moved]

            def vjp(weights: np.ndarray) -> np.ndarray:
                return np.stack([np.sum(weights * slope, axis=1) for slope in along()], axis=1)

            return at(vectors), Slopes(vjp, lambda: np.stack(along(), axis=2))

        return evaluate

    return bind


def restrict(
    law: Law, fixed: Mapping[str, float] | None = None, tied: Mapping[str, str] | None = None
) -> Law:
    """Returns the same law with fewer free parameters.

    Args:
      law: any law.
      fixed: value by working name (`log_E`, not `E`).
      tied: the name of a working parameter -> the one whose value it takes: {"beta": "alpha"}.
    """
    fixed, tied = dict(fixed or {}), dict(tied or {})
    for name in (*fixed, *tied, *tied.values()):
        if name not in law.parameters:
            raise LawError(
                f"{law.name} has no parameter {name!r} to fix or tie; it has "
                f"{', '.join(law.parameters)}."
            )
    free = tuple(name for name in law.parameters if name not in fixed and name not in tied)
    spread = np.zeros((len(free), len(law.parameters)))
    offset = np.zeros(len(law.parameters))
    for place, name in enumerate(law.parameters):
        if name in fixed:
            offset[place] = fixed[name]
        else:
            spread[free.index(tied.get(name, name)), place] = 1.0
    kept = [law.parameters.index(name) for name in free]
    own = Restriction(law.parameters, spread, offset)

    def bind(columns: Columns) -> Evaluate:
        whole = law.bind(columns)

        def evaluate(vectors: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, Slopes]:
            return whole(own.whole(vectors), directions @ spread)

        return evaluate

    restriction = own
    if (before := law.restriction) is not None:
        restriction = Restriction(before.names, spread @ before.spread, before.whole(offset))
    return dataclasses.replace(
        law,
        parameters=free,
        bind=bind,
        starts=lambda columns, target: np.unique(law.starts(columns, target)[:, kept], axis=0),
        restriction=restriction,
    )


def grid(*axes: Sequence[float]) -> np.ndarray:
    """Returns every combination of the axes' values, [combinations, axes]."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def logistic(values: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-values)) without overflow, also for complex numbers."""
    is_high = np.real(values) > 0
    small = np.exp(np.where(is_high, -values, values))
    return np.where(is_high, 1.0, small) / (1 + small)


def short_name(name: str) -> str:
    """Returns the name that a working parameter has in the law, `A` for `log_A`."""
    return _short(name)[1]


def _short(name: str) -> tuple[str, str]:
    """Returns a working parameter's transform and its name in the law."""
    for kind in TRANSFORMS:
        if name.startswith(f"{kind}_"):
            return kind, name.removeprefix(f"{kind}_")
    return "", name


TRANSFORMS = {"log": (np.exp, np.log), "logit": (logistic, lambda part: np.log(part / (1 - part)))}
"""By the first word of a working parameter's name: to the law's own parameter, and back."""
