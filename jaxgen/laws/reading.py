"""Tables of runs are read from CSV files, with columns found by name and units checked."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.laws.errors import LawError

NAMES = {
    "parameters": (
        "parameters", "parameter", "params", "param", "n", "numparameters", "numparams", "nparams",
        "nparameters", "modelsize", "size", "parametercount", "totalparams", "modelparams",
        "nonembeddingparameters", "nonembeddingparams", "activeparameters",
    ),
    "tokens": (
        "tokens", "token", "d", "numtokens", "ntokens", "trainingtokens", "traintokens",
        "tokensseen", "datasetsize", "datasize", "totaltokens", "tokencount",
    ),
    "flops": (
        "flops", "flop", "c", "compute", "trainingflops", "trainingflop", "trainflops",
        "computebudget", "budget", "totalflops", "trainingcompute",
    ),
    "loss": (
        "loss", "l", "valloss", "validationloss", "testloss", "evalloss", "finalloss",
        "heldoutloss", "trainloss", "trainingloss", "crossentropy",
    ),
    "seeds": ("seed", "seeds"),
    "runs": ("run", "runs", "runname", "runid"),
}  # fmt: skip
"""Names that a column may have, without case and what is not a letter or a digit."""
SCALES = ("parameters", "tokens", "flops")
"""Columns that may have a unit."""
SHORT = {
    "n": "parameters",
    "d": "tokens",
    "c": "flops",
    "l": "loss",
    "run": "runs",
    "seed": "seeds",
}
"""Short names of columns that a mapping may use."""
UNITS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "million": 1e6, "millions": 1e6,
    "b": 1e9, "g": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12, "trillion": 1e12,
    "trillions": 1e12, "pfdays": 8.64e19, "pflopsdays": 8.64e19, "pflopdays": 8.64e19,
    "eflops": 1e18, "eflop": 1e18, "zflops": 1e21, "zflop": 1e21,
}  # fmt: skip
"""Units of a header, such as "params (M)" or "tokens [B]", and suffixes of values."""
LEAST_SCALE = 100.0
"""Parameters or tokens of the largest run below which a unit must be missing."""
FEW_TOKENS = 1e5
"""Tokens of the largest run below which a unit may be missing, though runs of toys have so few."""
MOST_LOSS = 20.0
"""Loss above which a column is no loss in nats or bits; a vocabulary of 10^8 has 18 nats."""
COST = (0.5, 100.0)
"""FLOPs over 6ND that are plausible; attention and logits weigh much in small models."""
NUMBER = re.compile(
    r"^([+-]?(?:\d[\d_]*|\d{1,3}(?:,\d{3})+)?(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)$"
)


def read_columns(
    path: str | Path, columns: Mapping[str, str] | None = None, skip_incomplete: bool = False
) -> dict[str, Any]:
    """Returns the arguments of a `Table` from a file, and what was assumed, as `notes`.

    Args:
      path: a file of comma-, semicolon- or tab-separated values whose first line names columns.
      columns: name in the table -> name in the file, with "*FACTOR" for another unit, such as
        {"parameters": "size*1e6"}; N, D, C and L are short for the first four. Columns that are
        not named are found by their usual names.
      skip_incomplete: whether to leave out rows in which a value is missing, rather than fail.
    """
    header, rows = _read(Path(path))
    asked = _asked(columns or {}, header)
    notes: list[str] = []
    chosen: dict[str, tuple[str, float]] = {}
    for name in NAMES:
        if name in asked:
            chosen[name] = asked.pop(name)
        elif found := _find(name, header):
            chosen[name] = found
    for name, (of, factor) in chosen.items():
        if of != name or factor != 1:
            times = f" times {factor:g}" if factor != 1 else ""
            notes.append(f"{name}: column {of!r}{times}")
    chosen |= asked
    missing = [name for name in ("parameters", "tokens", "flops", "loss") if name not in chosen]
    if "loss" in missing or len(missing) > 1:
        raise LawError(
            f"{path}: no column for {' and '.join(missing)} among {', '.join(header)}. Name it, "
            "such as columns={'parameters': 'size', 'tokens': 'seen', 'loss': 'val'} (on the "
            "command line --columns N=size,D=seen,L=val); with FLOPs, parameters or tokens may "
            "be missing."
        )
    places = {name: header.index(of) for name, (of, _) in chosen.items()}
    rows = _complete(path, rows, places, chosen, skip_incomplete, notes)
    values: dict[str, Any] = {}
    for name, (of, factor) in chosen.items():
        cells = [row[places[name]] for _, row in rows]
        if name in ("seeds", "runs"):
            values[name] = np.array(cells)
        else:
            lines = [line for line, _ in rows]
            # A header's unit is that of cells without one; a factor that was asked for is of all.
            unit = factor if factor == _plain(of)[1] else 1.0
            values[name] = factor / unit * _numbers(path, of, cells, lines, unit)
            if name in NAMES and not np.all(values[name] > 0):
                place = int(np.argmin(values[name] > 0))
                raise LawError(
                    f"{path}, line {lines[place]}: {of!r} is {cells[place]}, and must be positive."
                )
    extra = {name: values.pop(name) for name in list(values) if name not in NAMES}
    extra |= _further(header, rows, {of for of, _ in chosen.values()}, {*NAMES, *extra})
    _check_units(path, values)
    if "tokens" in values and np.max(values["tokens"]) < FEW_TOKENS:
        notes.append(
            f"no run has more than {np.max(values['tokens']):.4g} tokens; if they are counted in "
            "millions or billions, say so (--columns D=column*1e9)"
        )
    _fill(values, notes)
    return {**values, "extra": extra, "notes": tuple(notes)}


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise LawError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LawError(f"{path} is not UTF-8 text: {error}.") from error
    first = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise LawError(f"{path} is not a table of values: {error}.") from error
    if len(lines) < 2:
        raise LawError(
            f"{path} has {'a header alone' if lines else 'no lines'}; a header and a row for each "
            "run are needed."
        )
    header = lines[0][1]
    for name in header:
        if name and header.count(name) > 1:
            raise LawError(f"{path} has two columns {name!r}; rename one.")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise LawError(
                f"{path}, line {number}: {len(row)} values for {len(header)} columns; correct it."
            )
    return header, lines[1:]


def _asked(columns: Mapping[str, str], header: list[str]) -> dict[str, tuple[str, float]]:
    found = {}
    for name, of in columns.items():
        name = SHORT.get(name.lower(), name)
        of, star, factor = of, "", ""
        if of not in header:
            of, star, factor = of.rpartition("*")
        if not star and factor:
            of, factor = factor, ""
        if of not in header:
            raise LawError(f"there is no column {of!r}; there are {', '.join(header)}.")
        try:
            times = float(factor) if star else _plain(of)[1]
        except ValueError as error:
            raise LawError(f"{name}={of}*{factor}: {factor!r} must be a number.") from error
        if not (np.isfinite(times) and times > 0):
            raise LawError(f"{name}={of}*{factor}: the factor must be positive.")
        found[name] = (of, times)
    return found


def _find(name: str, header: list[str]) -> tuple[str, float] | None:
    """Returns the file's column for a name of the table, and the factor of its unit."""
    ranked = []
    for column in header:
        plain, factor = _plain(column)
        if plain in NAMES[name] and (factor == 1 or name in SCALES):
            ranked.append((NAMES[name].index(plain), column, factor))
    if not ranked:
        return None
    rank, column, factor = min(ranked)
    others = [other for _, other, _ in ranked if other != column]
    if others and name in ("parameters", "tokens", "flops", "loss") and rank > 0:
        raise LawError(
            f"{name} may be {column!r} or {' or '.join(map(repr, others))}; say which, such as "
            f"columns={{{name!r}: {column!r}}} (on the command line --columns {name}={column})."
        )
    return column, factor


def _plain(column: str) -> tuple[str, float]:
    """Returns a column's name in small letters and digits alone, and the factor of its unit."""
    inside = re.search(r"[(\[]([^)\]]*)[)\]]\s*$", column)
    name = column[: inside.start()] if inside else column
    factor = 1.0
    if inside:
        unit = re.sub(r"[^a-z]", "", inside.group(1).lower())
        factor = UNITS.get(unit, 1.0)
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    tail = re.search(
        r"[_ -]([kmbt]|bn|millions?|billions?|trillions?|pf_?days)$", name.strip().lower()
    )
    if tail and not inside:
        factor = UNITS[tail.group(1).replace("_", "")]
        plain = re.sub(r"[^a-z0-9]", "", name.strip().lower()[: tail.start()])
    return plain, factor


def _complete(
    path: str | Path,
    rows: list[tuple[int, list[str]]],
    places: Mapping[str, int],
    chosen: Mapping[str, tuple[str, float]],
    skip_incomplete: bool,
    notes: list[str],
) -> list[tuple[int, list[str]]]:
    kept = []
    for number, row in rows:
        empty = [name for name, place in places.items() if _is_missing(row[place])]
        if not empty:
            kept.append((number, row))
        elif not skip_incomplete:
            cell = row[places[empty[0]]] or "empty"
            raise LawError(
                f"{path}, line {number}: {chosen[empty[0]][0]!r} is {cell}; "
                "correct the row, or leave such rows out with skip_incomplete."
            )
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} rows lack a value and are left out")
    if not kept:
        raise LawError(
            f"{path}: every row lacks a value of {', '.join(of for of, _ in chosen.values())}."
        )
    return kept


def _is_missing(cell: str) -> bool:
    return cell.lower() in ("", "nan", "na", "n/a", "none", "null", "-", "inf", "-inf")


def _numbers(
    path: str | Path, column: str, cells: Iterable[str], lines: list[int], factor: float
) -> np.ndarray:
    """Returns a column's numbers; those that have no unit of their own are in its `factor`."""
    found = []
    for line, cell in zip(lines, cells, strict=True):
        value = _number(cell, factor)
        if value is None:
            raise LawError(f"{path}, line {line}: {column!r} is {cell!r:.60}, which is no number.")
        found.append(value)
    return np.array(found)


def _number(cell: str, factor: float = 1.0) -> float | None:
    """Returns the number of text such as "1.3B", "70 M", "1,300,000" or "2e9"; None if none."""
    match = NUMBER.match(cell)
    if not match or not match.group(1):
        return None
    unit = match.group(2).lower()
    if unit and unit not in UNITS:
        return None
    try:
        return float(match.group(1).replace(",", "").replace("_", "")) * UNITS.get(unit, factor)
    except ValueError:
        return None


def _further(
    header: list[str], rows: list[tuple[int, list[str]]], used: set[str], taken: set[str]
) -> dict[str, np.ndarray]:
    """Returns the other columns in which every row has a number."""
    found = {}
    for place, name in enumerate(header):
        if not name or name in used or name in taken:
            continue
        values = [_number(row[place]) for _, row in rows]
        if all(value is not None and np.isfinite(value) for value in values):
            found[name] = np.array(values, float)
    return found


def _check_units(path: str | Path, values: Mapping[str, np.ndarray]) -> None:
    for name in ("parameters", "tokens"):
        if name in values and np.max(values[name]) < LEAST_SCALE:
            ends = f"{values[name].min():.3g} to {values[name].max():.3g}"
            raise LawError(
                f"{path}: {name} are {ends}; in which "
                f"unit? Say it, such as columns={{{name!r}: 'column*1e9'}} (on the command line "
                f"--columns {name}=column*1e9)."
            )
    if np.median(values["loss"]) > MOST_LOSS:
        raise LawError(
            f"{path}: the loss is {np.median(values['loss']):.3g} in the middle, too much for nats "
            "or bits a token. Is it a perplexity? Then take its logarithm."
        )
    if {"parameters", "tokens", "flops"} <= set(values):
        cost = values["flops"] / (6 * values["parameters"] * values["tokens"])
        middle = float(np.median(cost))
        if not COST[0] <= middle <= COST[1]:
            raise LawError(
                f"{path}: FLOPs are {middle:.3g} times 6ND, so a unit is missing. Say it, such as "
                "columns={'tokens': 'column*1e9'} (on the command line --columns D=column*1e9); or "
                "leave FLOPs out."
            )


def _fill(values: dict[str, np.ndarray], notes: list[str]) -> None:
    if "parameters" not in values:
        values["parameters"] = values["flops"] / 6 / values["tokens"]
        notes.append("parameters are FLOPs / 6D, as there is no column of them")
    elif "tokens" not in values:
        values["tokens"] = values["flops"] / 6 / values["parameters"]
        notes.append("tokens are FLOPs / 6N, as there is no column of them")
    elif "flops" not in values:
        notes.append("FLOPs are 6ND, as there is no column of them")
