"""Every law is fitted to a table of training runs.

Columns have the same names everywhere: `parameters` (N), `tokens` (D), `flops` (C), `loss`, and any
others that a law reads, such as `unique_tokens` or `width`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.errors import LawError
from jaxgen.laws.reading import read_columns

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""Forward and backward pass of a dense model (Kaplan et al., 2001.08361)."""

MOST_NAMED = 8
"""Further columns that a table's text names."""
SAME = 1e-9
"""Relative range of values that are one, but for rounding."""
FEWEST_BOOTSTRAPS = 20
"""Of fewer resamples even the least and the largest lie closer together than 9 in 10 do."""
MOST_BOOTSTRAPS = 10**6
"""Intervals by a few thousand are no wider or narrower than by more."""

Columns = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A table has one training run a row; several rows may be checkpoints of one run.

    Attributes:
      parameters: [rows] of the model, with or without embeddings as the law should count them.
      tokens: [rows] trained on, repetitions included.
      loss: [rows] in nats a token, or any other positive measure that falls with scale.
      flops: [rows] of training; 6 * parameters * tokens by default.
      seeds: [rows] seeds of runs that repeat a configuration; None without repetitions.
      runs: [rows] names; None where every row is a separate run.
      extra: further columns by name, [rows] finite numbers each.
      notes: what was assumed when it was read, a sentence each.

    Raises:
      LawError: a value is missing, not finite or not positive, or a run is in the table twice.
    """

    parameters: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    flops: np.ndarray = None  # pyright: ignore[reportAssignmentType]  # filled in below
    seeds: np.ndarray | None = None
    runs: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def read_csv(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        skip_incomplete: bool = False,
    ) -> Table:
        """Reads a table from a file of comma-, semicolon- or tab-separated values.

        Columns are found by their usual names, with a unit as in "params (M)" or "tokens_b", and
        values may have one, as in "1.3B". With FLOPs, parameters or tokens may be missing: they
        follow from C = 6ND. Further columns of numbers become `extra`.

        Args:
          path: of the file; its first line names the columns.
          columns: name in the table -> name in the file, with "*FACTOR" for another unit:
            {"parameters": "size*1e6", "loss": "val"}; N, D, C and L are short for the first four.
          skip_incomplete: whether to leave out rows in which a value is missing, rather than fail.

        Raises:
          LawError: the file is no table, a column is missing or ambiguous, or a unit seems wrong.
        """
        return cls(**read_columns(path, columns, skip_incomplete))

    def __post_init__(self):
        names = ["parameters", "tokens", "loss"]
        for name in names:
            _set(self, name, _numbers(name, getattr(self, name), None))
        rows = len(self.parameters)
        for name in names:
            _check_length(name, getattr(self, name), rows)
        if self.flops is None:
            _set(self, "flops", FLOPS_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens)
        else:
            _set(self, "flops", _numbers("flops", self.flops, rows))
        for name in (*names, "flops"):
            check_positive(name, getattr(self, name))
        for name in ("seeds", "runs"):
            if (labels := getattr(self, name)) is not None:
                _set(self, name, np.asarray(labels))
                _check_length(name, getattr(self, name), rows)
        extra = {name: _numbers(name, values, rows) for name, values in self.extra.items()}
        if clash := extra.keys() & {*names, "flops", "seeds", "runs"}:
            raise LawError(
                f"extra column {sorted(clash)[0]!r} has the name of a field; use the field."
            )
        _set(self, "extra", extra)
        self._check_duplicates()

    def __repr__(self) -> str:
        ranges = [
            f"{name} {float(values.min()):.4g} to {float(values.max()):.4g}"
            for name, values in self.columns.items()
            if name not in self.extra and len(self)
        ]
        further = [f"columns {', '.join(list(self.extra)[:MOST_NAMED])}"] if self.extra else []
        if (more := len(self.extra) - MOST_NAMED) > 0:
            further[0] += f" and {more} more"
        return f"Table of {len(self)} runs: {', '.join([*ranges, *further])}"

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Returns all columns of numbers by name."""
        own = {name: getattr(self, name) for name in ("parameters", "tokens", "flops", "loss")}
        return own | dict(self.extra)

    def column(self, name: str) -> np.ndarray:
        """Returns a column [rows]; raises a LawError if there is none of this name."""
        return find_column(self.columns, name)

    def select(self, which: ArrayLike) -> Table:
        """Returns the rows of a mask [rows] bool or of indices."""
        which = np.asarray(which)
        if which.dtype == bool and which.shape != (len(self),):
            raise LawError(
                f"which has shape {which.shape}; a mask must be one bool for each of {len(self)} "
                "rows."
            )
        if (
            which.dtype != bool
            and len(which)
            and not -len(self) <= which.min() <= which.max() < len(self)
        ):
            raise LawError(f"which={which.tolist()!s:.60} has rows beyond the table's {len(self)}.")
        return Table(
            parameters=self.parameters[which],
            tokens=self.tokens[which],
            loss=self.loss[which],
            flops=self.flops[which],
            seeds=None if self.seeds is None else self.seeds[which],
            runs=None if self.runs is None else self.runs[which],
            extra={name: values[which] for name, values in self.extra.items()},
            notes=self.notes,
        )

    def with_parameters(self, name: str) -> Table:
        """Returns the same runs with another column as their number of parameters; FLOPs stay."""
        return dataclasses.replace(self, parameters=self.column(name))

    def groups(self, by: str = "run") -> np.ndarray:
        """Returns the group of each row, [rows] int; a group's rows are resampled together.

        Args:
          by: `run`, `seed` or the name of a column.
        """
        if by == "run":
            labels = np.arange(len(self)) if self.runs is None else self.runs
        elif by == "seed":
            if self.seeds is None:
                raise LawError("resample='seed' needs Table.seeds; give them, or resample='run'.")
            labels = self.seeds
        else:
            labels = self.column(by)
        return np.unique(labels, return_inverse=True)[1].ravel()

    def _check_duplicates(self) -> None:
        inputs = [self.parameters, self.tokens, self.flops, *self.extra.values()]
        if self.runs is not None:
            keys, what = [self.runs, self.parameters, self.tokens], "run name, parameters, tokens"
        elif self.seeds is not None:
            keys, what = [*inputs, self.seeds], "inputs and seed"
        else:
            keys, what = [*inputs, self.loss], "inputs and loss"
        first: dict[tuple, int] = {}
        for row, key in enumerate(zip(*(column.tolist() for column in keys), strict=True)):
            if (earlier := first.setdefault(key, row)) != row:
                raise LawError(
                    f"rows {earlier} and {row} are one run twice (the same {what}); drop one, or "
                    "tell them apart by Table.seeds or Table.runs."
                )


def find_column(columns: Mapping[str, ArrayLike], name: str) -> np.ndarray:
    """Returns a column; raises a LawError that names the columns if there is none."""
    if name not in columns:
        raise LawError(
            f"column {name!r} is missing; there are {', '.join(sorted(columns))}. Add it to "
            "Table.extra, or as an argument of predict."
        )
    return np.asarray(columns[name], float)


def check_positive(name: str, values: np.ndarray) -> None:
    """Raises a LawError that names the first row that is not positive and finite."""
    wrong = ~(np.isfinite(values) & (values > 0))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise LawError(
            f"{name}[{row}]={values[row]} must be positive and finite; drop or correct the row."
        )


def floats(name: str, values: ArrayLike | Sequence) -> np.ndarray:
    """Returns values as float64, of whatever shape; a LawError names the first that is none."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise LawError(f"{name}{_wrong(values)} must be numbers, one a row.") from error


def check_bootstraps(bootstraps: int) -> None:
    """Raises a LawError unless there are no resamples, or enough for an interval."""
    is_whole = isinstance(bootstraps, int | np.integer) and not isinstance(bootstraps, bool)
    if not is_whole or bootstraps < 0 or 0 < bootstraps < FEWEST_BOOTSTRAPS:
        raise LawError(
            f"bootstraps={bootstraps} must be 0, for no intervals, or a whole number of "
            f"{FEWEST_BOOTSTRAPS} or more: an interval by fewer is too narrow."
        )
    if bootstraps > MOST_BOOTSTRAPS:
        raise LawError(
            f"bootstraps={bootstraps} must be at most {MOST_BOOTSTRAPS:,}; an interval by a few "
            "thousand is no wider or narrower."
        )


def check_varies(name: str, values: np.ndarray) -> None:
    """Raises a LawError if all values are one, up to rounding, or if there are none."""
    if not len(values):
        raise LawError(f"{name} has no rows, so there is nothing to fit.")
    if np.ptp(values) <= SAME * np.max(np.abs(values)):
        raise LawError(
            f"{name} is {float(values[0]):.6g} in all {len(values)} rows, so no law can be fitted "
            "to it; is it the right column?"
        )


def check_enough(name: str, points: int, parameters: int) -> None:
    """Raises a LawError if there are fewer points than parameters."""
    if points < parameters:
        raise LawError(
            f"{name} has {parameters} free parameters and the table {points} points; add runs or "
            "fix parameters."
        )


def _set(table: Table, name: str, value: object) -> None:
    object.__setattr__(table, name, value)


def _numbers(name: str, values: ArrayLike | Sequence, rows: int | None) -> np.ndarray:
    numbers = np.array(floats(name, values))
    if numbers.ndim == 0 and rows is not None:
        numbers = np.full(rows, float(numbers))
    if numbers.ndim != 1:
        raise LawError(f"{name} has shape {numbers.shape}; it must be one number a row.")
    if rows is not None:
        _check_length(name, numbers, rows)
    if not np.all(np.isfinite(numbers)):
        row = int(np.argmin(np.isfinite(numbers)))
        raise LawError(f"{name}[{row}]={numbers[row]} must be finite; drop or correct the row.")
    numbers.flags.writeable = False
    return numbers


def _wrong(values: ArrayLike | Sequence) -> str:
    """Returns the first value that is no number, with its row, or the values' beginning."""
    plain = np.asarray(values, object)
    for row, value in enumerate(plain.ravel().tolist() if plain.ndim == 1 else ()):
        try:
            float(value)
        except (TypeError, ValueError):
            return f"[{row}]={value if isinstance(value, str) else repr(value):.60}"
    return f"={plain.tolist()!r:.60}"


def _check_length(name: str, values: np.ndarray, rows: int) -> None:
    if values.shape != (rows,):
        raise LawError(f"{name} has shape {values.shape}, the table {rows} rows; they must agree.")
