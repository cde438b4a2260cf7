"""Chinchilla's first approach fits N*(C) to the lower envelope of training curves.

Hoffmann et al. (2203.15556): at 1500 FLOPs, evenly spaced in logarithms, the run whose curve is
lowest gives N* and D*; both are fitted to C by least squares of logarithms.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.frontier import Frontier
from jaxgen.laws.lines import weighted_line
from jaxgen.laws.resampling import bootstrap_weights
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import token_flops_of

PLACES = 1500


@dataclasses.dataclass(frozen=True, eq=False)
class Envelope:
    """The first approach's result.

    Attributes:
      frontier: N*(C) and D*(C).
      flops: [places].
      parameters: [places] of the best run there.
      tokens: [places] that it has seen by then.
      loss: [places] of the envelope.
      winners: names of the runs that are best anywhere.
    """

    frontier: Frontier
    flops: np.ndarray
    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    winners: tuple[str, ...]


def fit_envelope(
    table: Table,
    flops: ArrayLike | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    is_inner: bool = True,
) -> Envelope:
    """Fits N*(C) to the lower envelope of training curves.

    Args:
      table: checkpoints; those of one run share a name in `runs`. Smooth noisy curves first.
      flops: FLOPs to find the best run at; by default 1500 over the table's range.
      bootstraps: resamples of whole runs; 0 for none.
      seed: seed of the resamples.
      is_inner: whether to leave out FLOPs at which the smallest or the largest size is best,
        since a smaller or larger size might have been better there.

    Raises:
      LawError: the table has no run names, or fewer than two sizes are on the envelope.
    """
    if table.runs is None:
        raise LawError("the envelope needs Table.runs: the run that each checkpoint belongs to.")
    names, which = np.unique(table.runs, return_inverse=True)
    if flops is None:
        flops = np.geomspace(table.flops.min(), table.flops.max(), PLACES)
    flops = np.asarray(flops, float)
    curves = np.full((len(names), len(flops)), np.inf)
    tokens = np.full((len(names), len(flops)), np.nan)
    sizes = np.empty(len(names))
    for run in range(len(names)):
        rows = np.flatnonzero(which.ravel() == run)
        rows = rows[np.argsort(table.flops[rows])]
        if len(np.unique(table.parameters[rows])) > 1:
            raise LawError(f"run {names[run]} has checkpoints of different sizes; rename them.")
        sizes[run] = table.parameters[rows[0]]
        x = np.log(table.flops[rows])
        inside = (np.log(flops) >= x[0] - 1e-9) & (np.log(flops) <= x[-1] + 1e-9)
        of_place = np.log(flops[inside])
        curves[run, inside] = np.interp(of_place, x, np.log(table.loss[rows]))
        tokens[run, inside] = np.interp(of_place, x, np.log(table.tokens[rows]))

    best, kept = _best(curves, sizes, is_inner)
    if len(np.unique(sizes[best[kept]])) < 2:
        raise LawError(
            f"of {len(names)} runs fewer than two sizes are on the envelope (smallest and largest "
            f"{'do not count' if is_inner else 'count'}); add sizes or longer runs."
        )
    x = np.log(flops)
    log_size, exponent = weighted_line(x[kept], np.log(sizes[best[kept]]), np.ones(kept.sum()))
    rng = np.random.default_rng(seed)
    groups = np.arange(len(names))
    draws = []
    for counts in bootstrap_weights(groups, bootstraps, 2, rng) if bootstraps else ():
        runs = np.flatnonzero(counts)
        again, inner = _best(curves[runs], sizes[runs], is_inner)
        if len(np.unique(sizes[runs][again[inner]])) > 1:
            logs = np.log(sizes[runs][again[inner]])
            draws.append(weighted_line(x[inner], logs, np.ones(inner.sum())))
    pairs = np.array(draws).reshape(-1, 2)
    frontier = Frontier(
        "Chinchilla approach 1",
        float(log_size),
        float(exponent),
        pairs[:, 0],
        pairs[:, 1],
        token_flops_of(table),
        float(table.flops.max()),
    )
    best = best[kept]
    at = np.flatnonzero(kept)
    return Envelope(
        frontier,
        flops[kept],
        sizes[best],
        np.exp(tokens[best, at]),
        np.exp(curves[best, at]),
        tuple(str(names[run]) for run in np.unique(best)),
    )


def _best(curves: np.ndarray, sizes: np.ndarray, is_inner: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best run at each place, and whether the place counts."""
    best = curves.argmin(axis=0)
    kept = np.isfinite(curves.min(axis=0))
    if is_inner:
        kept &= (sizes[best] > sizes.min()) & (sizes[best] < sizes.max())
    return best, kept
