"""Whether training on further tasks helps or hurts a task, at equal tokens of it.

Of each task the mixture with the fewest tasks is where it is (nearly) alone. Runs of another
mixture are compared with runs of that one which have the same size and seed, by held-out loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.studies.analyses.base import Analysis, Tree
from jaxgen.studies.formatting import between, count, number
from jaxgen.studies.plots import Axis, Block, Cell, DataTable, Figure, Plot, Sentence, Series
from jaxgen.studies.study_runs import StudyRun, group_by_ladder

UNEQUAL = 0.02
"""Relative difference of a task's tokens from which a comparison is not of equal tokens."""
METHOD = (
    "A difference is the held-out loss of a task in runs of the larger mixture minus that in runs "
    "of the mixture where it has the fewest companions, paired by size and seed. Intervals are "
    "Student's over the pairs, so of few pairs they are wide; a size is one of several and not a "
    "repetition, so differences that grow with size widen them too. Below 0 the further tasks help."
)


def analyse_transfer(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Compares every task of a mixture whose tasks others have too, with more.

    Returns:
      For each task: "task", "alone" (the mixture with the fewest tasks) and "others", for each
      other mixture: "mixture", "further" (tasks that it adds), "differences" (of each pair, with
      "parameters", "seed", "alone", "together"), "mean", "low", "high" (in nats/token; None of one
      pair), "tokens_alone" and "tokens" (of the task, on average).
    """
    by_mixture: dict[str, list[StudyRun]] = {}
    for ladder, mine in group_by_ladder(runs).items():
        by_mixture.setdefault(ladder.mixture, []).extend(mine)
    tasks_of = {name: _tasks(mine) for name, mine in by_mixture.items()}
    found = []
    for task in sorted(set().union(*tasks_of.values()) if tasks_of else ()):
        mixtures = sorted(
            (name for name, tasks in tasks_of.items() if task in tasks),
            key=lambda name: (len(tasks_of[name]), name),
        )
        alone, others = mixtures[0], []
        for other in mixtures[1:]:
            if not tasks_of[alone] < tasks_of[other]:
                continue  # Something was left out too, so that nothing tells what mattered.
            pairs = _pairs(by_mixture[alone], by_mixture[other])
            if pairs:
                further = sorted(tasks_of[other] - tasks_of[alone])
                others.append({"mixture": other, "further": further, **_compare(task, pairs)})
        if others:
            found.append({"task": task, "alone": alone, "others": others})
    return found


def _tasks(runs: Sequence[StudyRun]) -> set[str]:
    """Returns the tasks that were trained on and have a held-out loss, in all of the runs."""
    sets = [set(run.losses) & set(run.record.get("shares", run.losses)) for run in runs]
    return set.intersection(*sets)


def _pairs(
    alone: Sequence[StudyRun], others: Sequence[StudyRun]
) -> list[tuple[StudyRun, StudyRun]]:
    """Returns the runs of two mixtures that have one size and seed."""
    partners = {(run.parameters["active"], run.seed): run for run in alone}
    return [
        (partner, run)
        for run in others
        if (partner := partners.get((run.parameters["active"], run.seed)))
    ]


def _compare(task: str, pairs: Sequence[tuple[StudyRun, StudyRun]]) -> dict[str, Any]:
    differences = [
        {
            "parameters": run.parameters["active"],
            "seed": run.seed,
            "alone": partner.loss(task),
            "together": run.loss(task),
            "difference": run.loss(task) - partner.loss(task),
        }
        for partner, run in pairs
    ]
    mean, low, high = _mean_and_interval(np.array([one["difference"] for one in differences]))
    tokens_alone, tokens = (
        float(np.mean([_tokens(run, task) for run in side])) for side in zip(*pairs, strict=True)
    )
    return {
        "differences": differences, "mean": mean, "low": low, "high": high,
        "tokens_alone": tokens_alone, "tokens": tokens,
    }  # fmt: skip


def _tokens(run: StudyRun, task: str) -> float:
    return run.record["tokens"] * run.record.get("shares", {}).get(task, 1.0)


def _mean_and_interval(values: np.ndarray) -> tuple[float, float | None, float | None]:
    """Returns the mean and Student's 95 % interval, None of a single value."""
    from scipy.stats import t

    mean = float(values.mean())
    if len(values) == 1:
        return mean, None, None
    reach = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["transfer"]
    if not found:
        return []
    text = Sentence(
        "The held-out loss of a task where others are trained beside it, less that where it has "
        "the fewest companions, at equal tokens of the task itself: below 0 they help it, above 0 "
        "they hurt."
    )
    rows: list[tuple[Cell, ...]] = []
    for entry in found:
        for other in entry["others"]:
            rows.append(_row(entry, other))
    columns = ("task", "alone in", "together in", "difference (nats/token)", "95%", "pairs",
               "tokens of it in each")  # fmt: skip
    return [text, _figure(found), DataTable(columns, rows, text_columns=(0, 1, 2))]


def _row(entry: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Cell, ...]:
    low, high = other["low"], other["high"]
    is_known = low is not None
    tone = "good" if is_known and high < 0 else "bad" if is_known and low > 0 else ""
    interval = between([low, high]) if is_known else "one pair"
    tokens, alone = other["tokens"], other["tokens_alone"]
    is_equal = abs(tokens - alone) <= UNEQUAL * alone
    counts = f"{count(alone)}, {count(tokens)}"
    return (
        entry["task"], entry["alone"], other["mixture"], (number(other["mean"]), tone), interval,
        str(len(other["differences"])), counts if is_equal else (f"{counts}: not equal", "bad"),
    )  # fmt: skip


def _figure(found: Sequence[Mapping[str, Any]]) -> Figure:
    tasks = [entry["task"] for entry in found]
    mixtures = sorted({other["mixture"] for entry in found for other in entry["others"]})
    series = []
    for place, mixture in enumerate(mixtures):
        rows = [
            (row, entry, other)
            for row, entry in enumerate(found)
            for other in entry["others"]
            if other["mixture"] == mixture
        ]
        shift = 0.5 * ((place + 1) / (len(mixtures) + 1) - 0.5)
        lows, highs = ([other[end] for *_, other in rows] for end in ("low", "high"))
        has_intervals = all(end is not None for end in (*lows, *highs))
        series.append(
            Series(
                ("circle", "square", "diamond")[place % 3],
                [other["mean"] for *_, other in rows],
                [row + shift for row, *_ in rows],
                lows if has_intervals else (),
                highs if has_intervals else (),
                is_horizontal=True,
                shade=1 - place / max(1, len(mixtures)),
                label=f"in {mixture}",
                tips=[
                    f"{entry['task']} in {mixture}\n{number(other['mean'])} nats/token against "
                    f"{entry['alone']}\nbeside {', '.join(other['further'])}"
                    for _, entry, other in rows
                ],
            )
        )
    none = Series("line", [0, 0], [-0.5, len(tasks) - 0.5], color="muted", is_open=True)
    x = Axis("difference of held-out loss (nats/token)")
    return Figure((Plot(x, Axis("", categories=tuple(tasks)), (none, *series)),), "transfer")


TRANSFER = Analysis(
    "transfer", "Does one task help another", "Transfer", analyse_transfer, _present, METHOD
)
