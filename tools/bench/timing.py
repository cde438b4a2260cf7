"""Timing candidates against one another: in turn, so that a drifting machine is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table


def time_interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 15, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each call, A B A B ...; a candidate must wait for its own result.

    Args:
      candidates: by name.
      rounds: calls that count.
      warm_up: calls before that do not.
    """
    for _ in range(warm_up):
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_table(
    title: str, seconds: Mapping[str, list[float]], baseline: str, tokens: int | None = None
) -> None:
    """Median and best milliseconds, the median's ratio to the baseline, tokens/s if given.

    The ratio is the median of the rounds' ratios, so that it holds when the machine drifts.
    """
    table = Table(title=title, title_justify="left")
    headings = ["", "median ms", "best ms", f"time / {baseline}"]
    for heading in [*headings, "tokens/s"] if tokens else headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for name, times in seconds.items():
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(times, seconds[baseline], strict=True)
        )
        median = statistics.median(times)
        cells = [name, f"{1e3 * median:.1f}", f"{1e3 * min(times):.1f}", f"{ratio:.2f}"]
        table.add_row(*cells, *([f"{tokens / median:,.0f}"] if tokens else []))
    Console().print(table)
