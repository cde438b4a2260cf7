"""The table of faults by kind, and its place in docs/reliability.md."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Sequence

from chaos_faults.faults import KINDS
from chaos_faults.injecting import Outcome

BEGIN, END = "<!-- tools/chaos writes from here -->", "<!-- to here -->"
HEAD = (
    "| fault | injected | detected | recovered | steps lost | seconds lost |",
    "|---|---|---|---|---|---|",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the table in Markdown; figures that are lost are the median and the largest."""
    lines: list[str] = [*HEAD]
    for kind in KINDS:
        mine = [one for one in outcomes if one.kind == kind.name]
        tried = [one for one in mine if one.possible]
        if not tried:
            why = f"not possible here: {mine[0].problem}" if mine else "not tried"
            lines.append(f"| {kind.name} | {why} | | | | |")
            continue
        detected = "nothing to detect"
        if kind.seen is not None:
            detected = str(sum(one.detected is True for one in tried))
        recovered = sum(one.recovered for one in tried)
        steps = _figures([one.steps_lost for one in tried], "g")
        seconds = _figures([one.seconds_lost for one in tried], ".0f")
        lines.append(
            f"| {kind.name} | {len(tried)} | {detected} | {recovered} | {steps} | {seconds} |"
        )
    return "\n".join(lines) + "\n"


def _figures(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}}, {max(values):{form}}"


def write_into(page: pathlib.Path, text: str) -> None:
    """Replaces what is between the two marks of a page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")
