"""`jaxgen backtest`: how well past ladders would have been forecast, and what was withheld."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxgen.commands.table import table_lines
from jaxgen.errors import StudyError
from jaxgen.studies.backtesting import Record, Trial, backtest_task, half_of, summarise
from jaxgen.studies.task_forecasts import METHODS
from jaxgen.studies.task_runs import TaskRuns, read_csv, read_task_runs, write_csv

COLUMNS = ("", "sizes", "forecast", "inside", "median width", "interval score")


def backtest(arguments: argparse.Namespace) -> int:
    """Forecasts every larger size of past ladders, and prints how often what came was inside.

    Args:
      arguments: `studies`, folders of runs or files of `csv`; `csv`, a file to write the
        measurements to, or None; `method`; `level`; `by_task`; `half`, "fixed" or "judged", or
        None for all tasks.
    """
    tasks = [task for path in arguments.studies for task in _read(Path(path))]
    if arguments.csv:
        write_csv(arguments.csv, tasks)
        print(f"{sum(map(len, tasks))} rows of {len(tasks)} tasks written to {arguments.csv}")
    if arguments.half:
        tasks = [task for task in tasks if half_of(task.task) == arguments.half]
    methods = METHODS[arguments.method]
    trials = [trial for task in tasks for trial in backtest_task(task, methods, arguments.level)]
    if not trials:
        raise StudyError(
            "no size can be forecast: a ladder needs five sizes or more, and seeds that all have."
        )
    rows = [_row(name, summarise(some, arguments.level)) for name, some in _groups(trials)]
    print("\n".join(table_lines([COLUMNS, *rows])))
    if arguments.by_task:
        names = sorted({(trial.task, trial.of) for trial in trials})
        mine = [
            _row(f"{task}, {_noun(of)}", summarise(
                [one for one in trials if (one.task, one.of) == (task, of)], arguments.level
            ))
            for task, of in names
        ]  # fmt: skip
        print("\n".join(["", *table_lines([COLUMNS, *mine])]))
        most = max(len(trial.seeds) for trial in trials)
        withheld = [trial for trial in trials if trial.why_not and len(trial.seeds) == most]
        reasons = sorted({f"{trial.task}, {trial.rung}: {trial.why_not}" for trial in withheld})
        if reasons:
            print("\n".join(["", "withheld:", *(f"  {reason}" for reason in reasons)]))
    return 0


def _read(path: Path) -> list[TaskRuns]:
    return read_csv(path) if path.is_file() else read_task_runs(path)


def _groups(trials: Sequence[Trial]) -> Iterable[tuple[str, list[Trial]]]:
    scored = {(one.study, one.task) for one in trials if one.of == "exact_match"}
    text, answers, scores = [], [], []
    for one in trials:
        kind = answers if (one.study, one.task) in scored else text
        (scores if one.of == "exact_match" else kind).append(one)
    named = {"loss of texts": text, "loss of generated tasks": answers, "exact match": scores}
    return [(name, some) for name, some in named.items() if some]


def _row(name: str, record: Record) -> tuple[str, ...]:
    if not record.made:
        return name, str(record.sizes), "0 %", "", "", ""
    return (
        name,
        str(record.sizes),
        f"{record.made:.0%}",
        f"{record.coverage:.0%}",
        f"{record.width:.3g}",
        f"{record.score:.3g}",
    )


def _noun(of: str) -> str:
    return of.replace("_", " ")
