"""Chinchilla's first approach fits N*(C) to the best points of training curves.

Hoffmann et al. (2203.15556): at 1500 FLOPs, evenly spaced in logarithms, the run whose curve is
lowest gives N* and D*; both are fitted to C by least squares of logarithms. McLeish et al.
(2502.06857) take the corners of the convex hull of all checkpoints instead, in ln C and ln L: a
stretch of the lower envelope that bulges upward then counts for nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.frontier import Frontier
from jaxgen.laws.lines import fit_best_loss, weighted_line
from jaxgen.laws.plotting import figure_of_envelope
from jaxgen.laws.resampling import bootstrap_weights
from jaxgen.laws.summary import text_of_envelope, values_of_envelope
from jaxgen.laws.table import Table, check_bootstraps, check_positive, check_varies, floats
from jaxgen.laws.token_flops import OFF_COST, token_flops_of, worst_cost

PLACES = 1500
ENVELOPES = ("lower", "hull")
Finder = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Runs -> the best run [points], and ln C, ln L and ln D there [3, points]."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Envelope:
    """The first approach's result.

    Attributes:
      frontier: N*(C), D*(C) and L*(C).
      flops: [places] where the best run was looked up, or corners of the hull.
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

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, level: float = 0.95) -> str:
        """Returns what the envelope is made of, best models and warnings as text."""
        return text_of_envelope(self, level)

    def to_dict(self, level: float = 0.95) -> dict[str, Any]:
        """Returns the same as plain values for JSON; numbers that are not finite are None."""
        return values_of_envelope(self, level)

    def plot(self, level: float = 0.95) -> Any:
        """Returns a matplotlib figure of the envelope and the line of the best sizes."""
        return figure_of_envelope(self, level)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns why not to trust it, a sentence each."""
        return self.frontier.warnings


def fit_envelope(
    table: Table,
    flops: ArrayLike | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    is_inner: bool = True,
    envelope: str = "lower",
) -> Envelope:
    """Fits N*(C) to the best points of training curves.

    Args:
      table: checkpoints; those of one run share a name in `runs`. Smooth noisy curves first.
      flops: FLOPs to find the best run at; by default 1500 over the table's range. Not for a hull.
      bootstraps: resamples of whole runs; 0 for none.
      seed: seed of the resamples.
      is_inner: whether to leave out places at which the smallest or the largest size is best,
        since a smaller or larger size might have been better there.
      envelope: `lower` for the lowest curve at each of many FLOPs, or `hull` for the corners of
        the convex hull of all checkpoints.

    Raises:
      LawError: the table has no run names, or fewer than two sizes are on the envelope.
    """
    if envelope not in ENVELOPES:
        raise LawError(f"envelope={envelope!r} must be one of {', '.join(ENVELOPES)}.")
    if table.runs is None:
        raise LawError("the envelope needs Table.runs: the run that each checkpoint belongs to.")
    check_bootstraps(bootstraps)
    check_varies("the loss", table.loss)
    names, which = np.unique(table.runs, return_inverse=True)
    curves = []
    for run in range(len(names)):
        rows = np.flatnonzero(which.ravel() == run)
        rows = rows[np.lexsort((table.loss[rows], table.flops[rows]))]
        if len(np.unique(table.parameters[rows])) > 1:
            raise LawError(f"run {names[run]} has checkpoints of different sizes; rename them.")
        columns = (table.flops[rows], table.loss[rows], table.tokens[rows])
        curves.append(np.log(np.array(columns)))
    sizes = np.array([table.parameters[which.ravel() == run][0] for run in range(len(names))])
    if envelope == "hull":
        if flops is not None:
            raise LawError("flops= are of the lower envelope; a hull has corners of its own.")
        find = _hull(curves)
    else:
        places = np.geomspace(table.flops.min(), table.flops.max(), PLACES)
        if flops is not None:
            places = np.atleast_1d(floats("flops", flops))
        check_positive("flops", places)
        find = _lower(curves, places)

    def line(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the line through the best points of some runs, and those points, or None."""
        best, points = find(runs)
        if is_inner:
            size = sizes[best]
            is_kept = (size > sizes[runs].min()) & (size < sizes[runs].max())
            best, points = best[is_kept], points[:, is_kept]
        if len(np.unique(sizes[best])) < 2:
            return None
        fitted = weighted_line(points[0], np.log(sizes[best]), np.ones(len(best)))
        return np.array(fitted), np.vstack([best, points])

    found = line(np.arange(len(names)))
    if found is None:
        raise LawError(
            f"of {len(names)} runs fewer than two sizes are on the envelope (smallest and largest "
            f"{'do not count' if is_inner else 'count'}); add sizes or longer runs."
        )
    (log_size, exponent), points = found
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(np.arange(len(names)), bootstraps, 2, rng) if bootstraps else ()
    again = [line(np.flatnonzero(counts)) for counts in weights]
    draws = np.array([one[0] for one in again if one is not None]).reshape(-1, 2)
    best = points[0].astype(int)
    at = np.exp(points[1:])
    kind = "lower envelope" if envelope == "lower" else "convex hull"
    frontier = Frontier(
        f"Chinchilla approach 1, {kind}",
        float(log_size),
        float(exponent),
        draws[:, 0],
        draws[:, 1],
        token_flops_of(table),
        float(table.flops.max()),
        best_loss=fit_best_loss(at[0], at[1]),
        warnings=_warnings(table, sizes, best, bootstraps, len(draws)),
    )
    winners = tuple(str(names[run]) for run in np.unique(best))
    return Envelope(frontier, at[0], sizes[best], at[2], at[1], winners)


def _lower(curves: Sequence[np.ndarray], flops: np.ndarray) -> Finder:
    """Returns a function of runs that finds the lowest of them at each of some FLOPs."""
    log_flops = np.log(flops)
    losses = np.full((len(curves), len(flops)), np.inf)
    tokens = np.full((len(curves), len(flops)), np.nan)
    for run, (x, loss, seen) in enumerate(curves):
        inside = (log_flops >= x[0] - 1e-9) & (log_flops <= x[-1] + 1e-9)
        losses[run, inside] = np.interp(log_flops[inside], x, loss)
        tokens[run, inside] = np.interp(log_flops[inside], x, seen)

    def find(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best = runs[losses[runs].argmin(axis=0)]
        at = np.flatnonzero(np.isfinite(losses[runs].min(axis=0)))
        best = best[at]
        return best, np.array([log_flops[at], losses[best, at], tokens[best, at]])

    return find


def _hull(curves: Sequence[np.ndarray]) -> Finder:
    """Returns a function of runs that finds the corners of their checkpoints' convex hull."""
    # Only the corners of a run's own hull can be corners of the hull of several.
    own = [curve[:, _corners(curve[0], curve[1])] for curve in curves]

    def find(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = np.concatenate([own[run] for run in runs], axis=1)
        belongs = np.repeat(runs, [own[run].shape[1] for run in runs])
        kept = _corners(points[0], points[1])
        return belongs[kept], points[:, kept]

    return find


def _corners(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the points of the lower convex hull as far as it falls, by rising x."""
    kept: list[int] = []
    for point in np.lexsort((y, x)):
        while len(kept) > 1:
            (a, b), c = kept[-2:], point
            turn = (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a])
            if turn > 0:
                break
            kept.pop()
        if kept and x[point] == x[kept[-1]]:
            continue
        kept.append(point)
    falls = np.minimum.accumulate(y[kept])
    return np.array([p for p, least, rank in zip(kept, falls, range(len(kept)), strict=True)
                     if rank == 0 or y[p] < falls[rank - 1]], int)  # fmt: skip


def _warnings(
    table: Table, sizes: np.ndarray, best: np.ndarray, bootstraps: int, drawn: int
) -> tuple[str, ...]:
    told = []
    if (count := len(np.unique(sizes[best]))) == 2:
        told.append("Two sizes are on the envelope, so nothing shows whether N* is a line.")
    elif count < 4:
        told.append(f"Only {count} sizes are on the envelope.")
    if drawn < bootstraps:
        told.append(
            f"{bootstraps - drawn} of {bootstraps} bootstraps had fewer than two sizes on the "
            "envelope and do not count."
        )
    if (off := worst_cost(table)) > OFF_COST:
        told.append(
            f"A token's FLOPs are off a power of the size by up to {100 * off:.0f} %, and D* with "
            "them."
        )
    return tuple(told)
