"""Runs of equal or nearly equal compute form budgets, found by the gaps between their FLOPs.

Runs of exactly equal FLOPs belong together. Otherwise FLOPs are cut at gaps, and of the cuts that
are at least twice as wide as any budget those are taken that make the most budgets: budgets may lie
close together if the runs of each agree closely, and may be loose if they lie far apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.minima import LEAST_SIZES, same_sizes
from jaxgen.laws.table import Table, check_positive, floats

EQUAL = 1e-9
"""Difference in ln C that is mere rounding."""
NEARLY = 1e-3
"""Difference in ln C that a message calls equal."""
MOST_SPREAD = 0.25
"""Most that ln C may differ within a budget."""
SEPARATED = 2.0
"""Ratio of the narrowest gap to the widest budget from which budgets are clearly apart."""
JUMP = 1.3
"""Ratio of two gaps from which a cut between them is tried."""


@dataclasses.dataclass(frozen=True, eq=False)
class Grouping:
    """A grouping divides the runs of a table into budgets.

    Attributes:
      rows: the rows of each budget by rising size, budgets by rising compute.
      left_out: how many runs belong to none.
      sentence: how runs were grouped, in words.
    """

    rows: tuple[np.ndarray, ...]
    left_out: int
    sentence: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Division:
    """One way to cut runs into groups.

    Attributes:
      groups: rows of each.
      budgets: how many of them are budgets.
      covered: runs in those.
      widest: range of ln C of the widest budget.
      gap: the narrowest gap beside a budget.
    """

    groups: list[np.ndarray]
    budgets: int
    covered: int
    widest: float
    gap: float

    @property
    def separation(self) -> float:
        return self.gap / max(self.widest, EQUAL)


def group_by_compute(table: Table, budgets: Sequence[float] | None = None) -> Grouping:
    """Groups a table's runs into budgets.

    Args:
      table: the runs.
      budgets: FLOPs; a run belongs to the nearest, and to none where that is more than 12 % off.
        By default budgets are found by the gaps between the runs' FLOPs.

    Raises:
      LawError: there are no budgets of three sizes; the message names the cause.
    """
    logs = np.log(table.flops)
    if budgets is not None:
        return _nearest(table, logs, budgets)
    # No order of rows changes the result.
    order = np.lexsort((table.loss, table.tokens, table.parameters, logs))
    chains = np.split(order, np.flatnonzero(np.diff(logs[order]) > MOST_SPREAD) + 1)
    divisions = [_divide(table, logs, chain) for chain in chains]
    if not any(divisions):
        raise LawError(_why_none(table, logs, order, chains))
    kept = [
        rows
        for one in divisions
        for rows in (one.groups if one is not None else ())
        if _sizes(table, rows) > 1 and np.ptp(logs[rows]) <= MOST_SPREAD
    ]
    left_out = len(table) - sum(map(len, kept))
    widest = max(float(np.ptp(logs[rows])) for rows in kept)
    text = f"{len(kept)} budgets of equal FLOPs"
    if widest > EQUAL:
        text = f"{len(kept)} budgets whose runs' FLOPs differ by up to {_percent(widest)}"
    ends = np.array([[logs[rows].min(), logs[rows].max()] for rows in kept])
    if len(kept) > 1:
        text += f", at least {_percent(float(np.min(ends[1:, 0] - ends[:-1, 1])))} apart"
    rows = tuple(_by_size(table, of) for of in kept)
    return Grouping(rows, left_out, text + _left_out(table, left_out) + ".")


def _divide(table: Table, logs: np.ndarray, chain: np.ndarray) -> _Division | None:
    """Divides runs, given by rising compute, into budgets; None where their FLOPs do not tell."""
    gaps = np.diff(logs[chain])
    cuts = [_cut(table, logs, chain, gaps > cut) for cut in _cuts(gaps)]
    divisions = [division for division in cuts if division.budgets]
    if not divisions:
        return None
    clear = [one for one in divisions if one.separation >= SEPARATED]
    if clear:
        return max(clear, key=lambda one: (one.budgets, one.covered))
    chosen = max(divisions, key=lambda one: (one.covered, one.separation))
    is_whole = chosen.covered > len(chain) / 2
    return chosen if is_whole and chosen.separation >= 1 else None


def _cuts(gaps: np.ndarray) -> list[float]:
    """Returns where FLOPs may be cut, in rising order: between any two gaps that differ."""
    known = np.unique(gaps[(gaps > EQUAL) & (gaps <= MOST_SPREAD)])
    lower = np.concatenate([[EQUAL], known])
    upper = np.concatenate([known, [np.inf]])
    return list(lower[upper >= JUMP * lower])


def _cut(table: Table, logs: np.ndarray, chain: np.ndarray, is_cut: np.ndarray) -> _Division:
    groups = np.split(chain, np.flatnonzero(is_cut) + 1)
    spread = np.array([np.ptp(logs[rows]) for rows in groups])
    is_budget = np.array([
        wide <= MOST_SPREAD and len(rows) >= LEAST_SIZES and _sizes(table, rows) >= LEAST_SIZES
        for rows, wide in zip(groups, spread, strict=True)
    ])  # fmt: skip
    between = np.concatenate([[np.inf], np.diff(logs[chain])[is_cut], [np.inf]])
    nearest = np.minimum(between[:-1], between[1:])[is_budget]
    return _Division(
        groups,
        int(np.sum(is_budget)),
        sum(len(rows) for rows, is_one in zip(groups, is_budget, strict=True) if is_one),
        float(np.max(spread[is_budget], initial=0.0)),
        float(np.min(nearest, initial=np.inf)),
    )


def _sizes(table: Table, rows: np.ndarray) -> int:
    return len(np.unique(same_sizes(np.log(table.parameters[rows]))))


def _by_size(table: Table, rows: np.ndarray) -> np.ndarray:
    columns = table.loss[rows], table.tokens[rows], table.flops[rows], table.parameters[rows]
    return rows[np.lexsort(columns)]


def _left_out(table: Table, left_out: int) -> str:
    return f"; {left_out} of {len(table)} runs belong to none" if left_out else ""


def _why_none(table: Table, logs: np.ndarray, order: np.ndarray, chains: list[np.ndarray]) -> str:
    equal = np.split(order, np.flatnonzero(np.diff(logs[order]) > NEARLY) + 1)
    largest = max(equal, key=len)
    fix = "Give budgets=, or use runs of several sizes at equal FLOPs."
    if len(largest) >= LEAST_SIZES:
        return (
            f"no budget has {LEAST_SIZES} sizes: the {len(largest)} runs at "
            f"{table.flops[largest[0]]:.3g} FLOPs have {_sizes(table, largest)}. {fix}"
        )
    if sum(len(rows) for rows in equal if len(rows) > 1) > len(table) / 2:
        return (
            f"no budget has {LEAST_SIZES} runs: {len(table)} runs have {len(equal)} numbers of "
            f"FLOPs, each at most {len(largest)} runs. {fix}"
        )
    widest = max(chains, key=lambda rows: float(np.ptp(logs[rows])))
    if np.ptp(logs[widest]) > NEARLY and len(widest) >= LEAST_SIZES:
        return (
            f"the FLOPs of {len(widest)} runs from {table.flops[widest].min():.3g} to "
            f"{table.flops[widest].max():.3g} follow one another without gaps that tell budgets "
            f"apart. {fix}"
        )
    return (
        f"no budget has {LEAST_SIZES} runs: the FLOPs of {len(table)} runs form "
        f"{len(chains)} groups, the largest of {max(map(len, chains))} runs. {fix}"
    )


def _nearest(table: Table, logs: np.ndarray, budgets: Sequence[float]) -> Grouping:
    named = np.sort(np.atleast_1d(floats("budgets", budgets)))
    if not len(named):
        raise LawError("budgets=[] names no budget; leave it out to group runs by their FLOPs.")
    check_positive("budgets", named)
    away = np.abs(logs[:, None] - np.log(named))
    nearest = np.where(away.min(axis=1) <= MOST_SPREAD / 2, away.argmin(axis=1), -1)
    if not np.any(nearest >= 0):
        raise LawError(
            f"no run is within {_percent(MOST_SPREAD / 2)} of any of the {len(named)} budgets, "
            f"{named[0]:.3g} to {named[-1]:.3g}; the runs have {table.flops.min():.3g} to "
            f"{table.flops.max():.3g} FLOPs."
        )
    rows = [np.flatnonzero(nearest == place) for place in np.unique(nearest[nearest >= 0])]
    left_out = int(np.sum(nearest < 0))
    text = f"{len(rows)} budgets, as named{_left_out(table, left_out)}."
    return Grouping(tuple(_by_size(table, of) for of in rows), left_out, text)


def _percent(distance: float) -> str:
    ratio = float(np.exp(distance))
    return f"a factor of {ratio:.2g}" if ratio >= 2 else f"{100 * (ratio - 1):.3g} %"
