"""Most laws of the loss of language models are sums of products of powers.

L = sum over terms of coefficient * product over columns of column ** -exponent. In logarithms a
term is linear in the parameters, so log L is a log-sum-exp of linear functions and its gradient a
softmax. One implementation with an analytic gradient serves Chinchilla's law, the over-training
law and the published laws at the end of this file.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.law import Evaluate, Law, Slopes
from jaxgen.laws.table import Columns, check_positive, find_column

EXPONENTS = (0.1, 0.25, 0.5, 1.0)
"""Starts of each exponent."""
SHARES = (0.2, 1.0)
"""Starts of each term as shares of a typical loss, before they are made to sum to one."""
MAX_STARTS = 300
SYMBOLS = {"parameters": "N", "tokens": "D", "flops": "C"}
SCALES = ("parameters", "tokens", "flops")


@dataclasses.dataclass(frozen=True)
class Term:
    """A term is a positive coefficient times powers of columns.

    Attributes:
      coefficient: name of its positive factor.
      powers: column -> name of the exponent; the column is raised to minus the exponent.
    """

    coefficient: str
    powers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def power_terms(name: str, terms: Sequence[Term]) -> Law:
    """Returns the law that is a sum of terms.

    Its working parameters are the logarithms of the coefficients, then the exponents, each in the
    order of their first use. Several terms may share an exponent.
    """
    if not any(term.powers for term in terms):
        raise LawError(f"{name}: no term has a power of a column, so there is nothing to fit.")
    coefficients = [f"log_{term.coefficient}" for term in terms]
    exponents = list(dict.fromkeys(power for term in terms for power in term.powers.values()))
    parameters = (*coefficients, *exponents)
    inputs = tuple(dict.fromkeys(column for term in terms for column in term.powers))

    def design(columns: Columns) -> np.ndarray:
        """Returns a matrix [terms, points, parameters] that maps parameters to log terms."""
        logs = {}
        for column in inputs:
            check_positive(column, find_column(columns, column))
            logs[column] = np.log(columns[column])
        points = len(next(iter(logs.values())))
        matrix = np.zeros((len(terms), points, len(parameters)))
        for place, term in enumerate(terms):
            matrix[place, :, place] = 1.0
            for column, power in term.powers.items():
                matrix[place, :, parameters.index(power)] -= logs[column]
        return matrix

    def bind(columns: Columns) -> Evaluate:
        matrix = design(columns)

        def evaluate(vectors: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, Slopes]:
            logs = [vectors @ of_term.T for of_term in matrix]
            largest = logs[0]
            for log in logs[1:]:
                largest = np.maximum(largest, log)
            parts = [np.exp(log - largest) for log in logs]
            total = sum(parts[1:], start=parts[0])
            along = matrix @ directions.T

            def vjp(weights: np.ndarray) -> np.ndarray:
                scaled = weights / total
                pairs = zip(parts, along, strict=True)
                return np.sum([(scaled * part) @ of_term for part, of_term in pairs], axis=0)

            def jacobian() -> np.ndarray:
                pairs = zip(parts, along, strict=True)
                return np.sum([(part / total)[:, :, None] * of for part, of in pairs], axis=0)

            return np.log(total) + largest, Slopes(vjp, jacobian)

        return evaluate

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        matrix = design(columns)
        typical = np.median(matrix, axis=1)
        shares = np.array(list(itertools.product(SHARES, repeat=len(terms))))
        shares = np.unique(np.round(shares / shares.sum(axis=1, keepdims=True), 12), axis=0)
        powers = np.array(list(itertools.product(EXPONENTS, repeat=len(exponents))))
        pairs = np.array(list(itertools.product(range(len(shares)), range(len(powers)))))
        if len(pairs) > MAX_STARTS:
            chosen = np.random.default_rng(0).choice(len(pairs), MAX_STARTS, replace=False)
            pairs = pairs[np.sort(chosen)]
        vectors = np.zeros((len(pairs), len(parameters)))
        vectors[:, len(terms) :] = powers[pairs[:, 1]]
        # With these coefficients a term has its share of a typical loss at a typical point.
        without = vectors @ typical.T
        vectors[:, : len(terms)] = np.log(shares[pairs[:, 0]] * np.median(target)) - without
        return vectors

    falling = tuple(column for column in inputs if column in SCALES)
    return Law(name, parameters, inputs, bind, starts, formula=formula_of(terms), falling=falling)


def formula_of(terms: Sequence[Term]) -> str:
    """Returns the sum of terms in the usual notation, "L = A / N^alpha + E"."""
    found = []
    for term in terms:
        powers = [f"{SYMBOLS.get(c, c)}^{power}" for c, power in term.powers.items()]
        below = (
            f" / ({' '.join(powers)})" if len(powers) > 1 else "".join(f" / {p}" for p in powers)
        )
        found.append(term.coefficient + below)
    return f"L = {' + '.join(found)}"


GRANULARITY = power_terms(
    "MoE granularity (Krajewski)",
    [
        Term("g", {"granularity": "gamma", "parameters": "alpha"}),
        Term("a", {"parameters": "alpha"}),
        Term("b", {"tokens": "beta"}),
        Term("c"),
    ],
)
"""L = c + (g / G^gamma + a) / N^alpha + b / D^beta (2402.07871), with `granularity` G."""

SPARSITY = power_terms(
    "MoE sparsity (Abnar)",
    [
        Term("a", {"parameters": "alpha"}),
        Term("b", {"tokens": "beta"}),
        Term("c", {"active_fraction": "lambda"}),
        Term("d", {"active_fraction": "delta", "parameters": "gamma"}),
        Term("e"),
    ],
)
"""L = a / N^alpha + b / D^beta + c / (1-S)^lambda + d / ((1-S)^delta N^gamma) + e (2501.12370).

N counts all experts, and `active_fraction` is 1 - S, the share of experts that a token uses."""

WIDTH_DEPTH = power_terms(
    "width and depth (Gemstones)",
    [
        Term("A", {"width": "a"}),
        Term("B", {"depth": "b"}),
        Term("C", {"parameters": "c"}),
        Term("D", {"tokens": "e"}),
        Term("E"),
    ],
)
"""L = A / w^a + B / d^b + C / N^c + D / T^e + E (2502.06857), with `width` w and `depth` d.

The paper warns that the exponents depend strongly on the shapes fitted: where width and depth grow
together, as in most ladders, the first three terms cannot be told apart."""
