"""`jaxgen laws`: fit a scaling law to anybody's table of runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import (
    GRANULARITY,
    LEAST_SQUARES,
    LOG_LEAST_SQUARES,
    ROBUST,
    SPARSITY,
    WIDTH_DEPTH,
    Fit,
    Fitting,
    LawError,
    Table,
    chinchilla_optimum,
    fit_broken,
    fit_chinchilla,
    fit_data_constrained,
    fit_envelope,
    fit_isoflop,
    fit_kaplan,
    fit_overfitting,
    fit_overtraining,
    fit_table,
)
from jaxgen.laws.summary import number, plain

OPTIONS = {
    "chinchilla": (),
    "isoflop": ("curve", "weights", "budgets", "noise"),
    "envelope": ("envelope",),
    "kaplan": ("of",),
    "broken": ("of", "target", "breaks"),
    "overtraining": (),
    "data_constrained": (),
    "overfitting": (),
    "granularity": (),
    "sparsity": (),
    "width_depth": (),
}
"""The laws, and the flags that are each law's own."""
BY_NOISE = ("isoflop", "envelope")
"""Laws whose resamples are not those of a `Fitting`."""


def laws(arguments: argparse.Namespace) -> int:
    """Fits a law to a file and prints it, with intervals, warnings and the best models of budgets.

    Args:
      arguments: `file`, `law`, `columns`, `skip_incomplete`, `bootstraps`, `resample`, `seed`,
        `level`, `flops`, `plot`, `json`, and the laws' own of OPTIONS.
    """
    options = _options(arguments)
    try:
        table = Table.read_csv(
            arguments.file, _columns(arguments.columns), arguments.skip_incomplete
        )
        fit = _fit(table, arguments, options)
        text = fit.summary(arguments.level)
        values = {"file": arguments.file, "notes": list(table.notes)}
        values |= fit.to_dict(arguments.level)
        if arguments.flops:
            best, values["budgets_asked"] = _best(fit, arguments.flops, arguments.level)
            text = f"{text}\n{best}"
        figure = fit.plot(arguments.level) if arguments.plot else None
    except LawError as error:
        raise StudyError(str(error)) from error
    if arguments.json == "-":
        print(json.dumps(values, indent=2, allow_nan=False))
    else:
        print("\n".join([f"{table!r}", *(f"note: {note}" for note in table.notes), text]))
    try:
        if arguments.json and arguments.json != "-":
            Path(arguments.json).write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        if figure is not None:
            figure.savefig(arguments.plot, dpi=160)
    except (OSError, ValueError) as error:
        raise StudyError(f"cannot write: {error}.") from error
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the law's own flags that were given; refuses those of other laws."""
    own = OPTIONS[arguments.law]
    for name in sorted({name for names in OPTIONS.values() for name in names} - set(own)):
        if getattr(arguments, name) is not None:
            laws_of = [law for law, names in OPTIONS.items() if name in names]
            raise StudyError(
                f"--{name} means nothing to --law={arguments.law}; it is of {', '.join(laws_of)}."
            )
    if arguments.resample is not None and arguments.law in BY_NOISE:
        raise StudyError(f"--resample means nothing to --law={arguments.law}.")
    given = {name: getattr(arguments, name) for name in own}
    return {name: value for name, value in given.items() if value is not None}


def _columns(text: str | None) -> dict[str, str]:
    """Returns the mapping of "N=params,D=tokens*1e9,L=loss"."""
    found = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, of = part.partition("=")
        if not (name.strip() and equals and of.strip()):
            raise StudyError(f"--columns: {part!r} must be NAME=COLUMN, such as N=params.")
        found[name.strip()] = of.strip()
    return found


def _fit(table: Table, arguments: argparse.Namespace, options: dict[str, Any]) -> Any:
    law = arguments.law
    if law in BY_NOISE:
        call = fit_isoflop if law == "isoflop" else fit_envelope
        count = 1000 if arguments.bootstraps is None else arguments.bootstraps
        return call(table, bootstraps=count, seed=arguments.seed, **options)
    losses = {"broken": LOG_LEAST_SQUARES, "overtraining": LEAST_SQUARES}
    fitting = Fitting(
        losses.get(law, ROBUST.fit_loss),
        ROBUST.bootstraps if arguments.bootstraps is None else arguments.bootstraps,
        arguments.resample or ROBUST.resample,
        arguments.seed,
    )
    calls: dict[str, Callable[..., Fit]] = {
        "chinchilla": fit_chinchilla,
        "kaplan": fit_kaplan,
        "broken": fit_broken,
        "overtraining": fit_overtraining,
        "data_constrained": fit_data_constrained,
        "overfitting": fit_overfitting,
        "granularity": lambda table, fitting: fit_table(GRANULARITY, table, fitting),
        "sparsity": lambda table, fitting: fit_table(SPARSITY, table, fitting),
        "width_depth": lambda table, fitting: fit_table(WIDTH_DEPTH, table, fitting),
    }
    return calls[law](table, fitting, **options)


def _best(fit: Any, flops: list[float], level: float) -> tuple[str, list[dict[str, Any]]]:
    """Returns the best models of budgets as text and as values."""
    if isinstance(fit, Fit):
        fit.frontier  # noqa: B018  # says so where the law has none
        best = chinchilla_optimum(fit, flops, level)
    else:
        best = fit.frontier.optimum(flops, level)
    lines, values = [], []
    for place, budget in enumerate(best.flops):
        found: dict[str, Any] = {"flops": budget, "is_extrapolated": best.is_extrapolated[place]}
        parts = []
        for symbol, name in (("N*", "parameters"), ("D*", "tokens"), ("L*", "loss")):
            value = getattr(best, name)[place]
            interval = getattr(best, f"{name}_interval")[place]
            found |= {name: value, f"{name}_interval": interval}
            if np.isfinite(value):
                ends = [number(end, 3) for end in interval]
                between = f" ({ends[0]} to {ends[1]})" if np.all(np.isfinite(interval)) else ""
                parts.append(f"{symbol} = {number(value)}{between}")
        beyond = "; beyond ten times the largest run" if best.is_extrapolated[place] else ""
        lines.append(f"at {budget:.3g} FLOPs: {', '.join(parts)}{beyond}")
        values.append(plain({**found, "is_extrapolated": bool(best.is_extrapolated[place])}))
    return "\n".join(lines), values
