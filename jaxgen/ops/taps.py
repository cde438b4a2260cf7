"""A tap collects what modules report of their outputs while it is open; none open costs nothing.

    with open_tap(lambda x: jnp.mean(jnp.abs(x))) as reports:
        model(batch)                       # reports: (name, measured), in the order of the calls

It is a matter of tracing: open it inside the function that is jitted. A function that is traced on
its own (the body of a scan, or what is rematerialised) collects its reports and returns them.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class _Tap:
    measure: Callable[[jax.Array], Any]
    reports: list[tuple[str, Any]]


_OPEN: contextvars.ContextVar[_Tap | None] = contextvars.ContextVar("tap", default=None)


@contextlib.contextmanager
def open_tap(measure: Callable[[jax.Array], Any]) -> Iterator[list[tuple[str, Any]]]:
    """Collects (name, measure(value)) of everything that is reported until it closes."""
    reports: list[tuple[str, Any]] = []
    token = _OPEN.set(_Tap(measure, reports))
    try:
        yield reports
    finally:
        _OPEN.reset(token)


def report(name: str, value: jax.Array) -> jax.Array:
    """Returns `value`, after telling the open tap of it, if there is one."""
    tap = _OPEN.get()
    if tap is not None:
        tap.reports.append((name, tap.measure(value)))
    return value


@contextlib.contextmanager
def collected() -> Iterator[list[dict[str, Any]]]:
    """Keeps the reports of a function that is traced on its own, for it to return as a pytree."""
    tap, kept = _OPEN.get(), []
    if tap is None:
        yield kept
        return
    with open_tap(tap.measure) as reports:
        yield kept
    kept += [{name: value} for name, value in reports]


def report_scanned(stacked: list[dict[str, Any]], repeats: int) -> None:
    """Reports what the body of a scan `collected`, [repeats, ...], in the order of its calls."""
    tap = _OPEN.get()
    if tap is None:
        return
    for repeat in range(repeats):
        for one in stacked:
            tap.reports.extend((name, value[repeat]) for name, value in one.items())
