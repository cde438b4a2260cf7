"""A law: a formula with named parameters, and what a fit needs to know of it.

Parameters are worked on without bounds: those of a name `log_A` are the logarithm of the law's A.
Everything is evaluated for many parameter vectors at once, [replicates, parameters], so that a
grid of starts or a thousand bootstraps cost a few matrix products and not a thousand loops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxgen.scaling.laws.errors import LawError
from jaxgen.scaling.laws.table import Columns

Pullback = Callable[[np.ndarray], np.ndarray]
"""[replicates, points] weights of the points' gradients -> their sum [replicates, parameters]."""
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, Pullback]]
"""[replicates, parameters] -> values [replicates, points] and their pullback."""

COMPLEX_STEP = 1e-30


@dataclasses.dataclass(frozen=True, eq=False)
class Restriction:
    """Free parameters as part of all: whole = free @ spread + offset.

    Attributes:
      names: of all working parameters.
      spread: [free, all].
      offset: [all].
    """

    names: tuple[str, ...]
    spread: np.ndarray
    offset: np.ndarray

    def whole(self, vectors: np.ndarray) -> np.ndarray:
        """[..., free] -> [..., all]."""
        return vectors @ self.spread + self.offset


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """A formula of named parameters and columns.

    Attributes:
      name: as reports write it.
      parameters: names of the working parameters, in the order of a vector.
      inputs: names of the columns it reads.
      bind: columns -> the formula on those points.
      starts: columns and target [points] -> [starts, parameters] where a search begins.
      is_log: the formula gives the logarithm of what is predicted, not itself.
      restriction: by which parameters were fixed or tied, if any were.
    """

    name: str
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    bind: Callable[[Columns], Evaluate]
    starts: Callable[[Columns, np.ndarray], np.ndarray]
    is_log: bool = True
    restriction: Restriction | None = None

    def natural(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """[..., parameters] -> each of the law's own parameters [...], `log_A` as `A`.

        Those of `restrict` that are fixed or tied are among them.
        """
        whole = self.restriction.whole(vector) if self.restriction else vector
        names = self.restriction.names if self.restriction else self.parameters
        return {
            name.removeprefix("log_"): np.exp(whole[..., place])
            if name.startswith("log_")
            else whole[..., place]
            for place, name in enumerate(names)
        }

    def vector(self, natural: Mapping[str, float]) -> np.ndarray:
        """[parameters] of the law's own free parameters; the reverse of `natural`."""
        own = {name.removeprefix("log_"): name for name in self.parameters}
        if missing := own.keys() - natural.keys():
            raise LawError(
                f"{self.name} has parameters {', '.join(own)}; {sorted(missing)[0]} is not given."
            )
        return np.array(
            [
                np.log(natural[short]) if name.startswith("log_") else natural[short]
                for short, name in own.items()
            ]
        )

    def values(self, columns: Columns, vectors: np.ndarray) -> np.ndarray:
        """[..., parameters] -> what is predicted, [..., points], not its logarithm."""
        flat = np.atleast_2d(vectors)
        values = self.bind(columns)(flat)[0]
        with np.errstate(over="ignore"):
            values = np.exp(values) if self.is_log else values
        return values.reshape(*np.shape(vectors)[:-1], values.shape[-1])


def by_complex_step(
    function: Callable[[Mapping[str, np.ndarray], Columns], np.ndarray],
    parameters: Sequence[str],
    inputs: Sequence[str],
) -> Callable[[Columns], Evaluate]:
    """`Law.bind` of a formula, with a gradient that is exact to rounding.

    The imaginary part of f(x + ih) is h f'(x) without any difference being taken, so h can be tiny
    (Squire and Trapp, 1998). The formula must be made of analytic functions alone.

    Args:
      function: parameters by name [replicates, 1] (of the working names) and columns [points] ->
        [replicates, points].
      parameters: working names.
      inputs: columns it reads.
    """

    def bind(columns: Columns) -> Evaluate:
        own = {name: columns[name] for name in inputs}

        def at(vectors: np.ndarray) -> np.ndarray:
            named = {name: vectors[:, [place]] for place, name in enumerate(parameters)}
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return function(named, own)

        def evaluate(vectors: np.ndarray) -> tuple[np.ndarray, Pullback]:
            def pullback(weights: np.ndarray) -> np.ndarray:
                gradients = []
                for place in range(len(parameters)):
                    moved = vectors.astype(complex)
                    moved[:, place] += 1j * COMPLEX_STEP
                    gradients.append(np.sum(weights * at(moved).imag / COMPLEX_STEP, axis=1))
                return np.stack(gradients, axis=1)

            return at(vectors), pullback

        return evaluate

    return bind


def restrict(
    law: Law, fixed: Mapping[str, float] | None = None, tied: Mapping[str, str] | None = None
) -> Law:
    """The same law with fewer free parameters.

    Args:
      law: any.
      fixed: value by working name (`log_E`, not `E`).
      tied: a working name by the one whose value it takes: {"beta": "alpha"}.
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

        def evaluate(vectors: np.ndarray) -> tuple[np.ndarray, Pullback]:
            values, pullback = whole(own.whole(vectors))
            return values, lambda weights: pullback(weights) @ spread.T

        return evaluate

    restriction = own
    if (before := law.restriction) is not None:
        restriction = Restriction(
            before.names, spread @ before.spread, before.whole(offset)
        )
    return dataclasses.replace(
        law,
        parameters=free,
        bind=bind,
        starts=lambda columns, target: np.unique(law.starts(columns, target)[:, kept], axis=0),
        restriction=restriction,
    )


def jacobian(evaluate: Evaluate, vector: np.ndarray) -> np.ndarray:
    """[parameters] -> [points, parameters]: each point's gradient."""
    points = evaluate(vector[None])[0].shape[1]
    return evaluate(np.repeat(vector[None], points, axis=0))[1](np.eye(points))


def grid(*axes: Sequence[float]) -> np.ndarray:
    """[combinations, axes]: every combination of the axes' values."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
