"""What tuning by rewards gains and costs: win rates, and reward against the distance gone.

Runs are compared prompt by prompt on what they wrote by themselves (`rewarded_completions`). Of
runs that learn from rewards, the reward is shown against the KL divergence from their reference,
with the parts that it has: where a reward is known to be true (gold), learning from an estimate of
it makes the true one rise and then fall (2210.10760).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.runs.run_directory import read_metrics
from jaxgen.studies.analyses.base import Analysis, Tree
from jaxgen.studies.formatting import between, fixed, number
from jaxgen.studies.plots import (
    Axis,
    Block,
    Cell,
    DataTable,
    Figure,
    Plot,
    Sentence,
    Series,
    menu_of,
)
from jaxgen.studies.scored_answers import read_answers
from jaxgen.studies.study_runs import StudyRun, rung_of

PART = "reward_part/"
METHOD = (
    "A win rate is the share of prompts on which the first run's completion has the larger reward, "
    "half of the ties with it; seeds of a rung are pooled, pairs of equal seeds first. Its 95 % "
    "interval is the normal one over prompts, so that it does not tell of the scatter of seeds. "
    "Distances are the mean over completions of log-probabilities less those of the reference, an "
    "unbiased estimate of the KL divergence, in the steps of each row of metrics.jsonl."
)


def analyse_alignment(runs: Sequence[StudyRun]) -> dict[str, Any]:
    """Compares runs by rewards.

    Returns:
      "rewards", for each rung with rewarded completions: "rung", "task", and "means" by column,
      each "mean", "low", "high"; "wins", for each two rungs with the same prompts: "first",
      "second", "task", "column", "rate", "low", "high", "prompts"; "curves", for each run that
      learned from rewards: "run", "kl", "reward", "parts" by name.
    """
    rows = {run.name: _rewarded(run) for run in runs}
    by_rung: dict[tuple[str, str], list[list[dict[str, Any]]]] = {}
    for name, found in rows.items():
        for task in sorted({row["task"] for row in found}):
            mine = [row for row in found if row["task"] == task]
            by_rung.setdefault((rung_of(name), task), []).append(mine)
    return {
        "rewards": [_means(rung, task, seeds) for (rung, task), seeds in by_rung.items()],
        "wins": [
            win
            for (one, other) in itertools.combinations(by_rung, 2)
            if one[1] == other[1]
            for win in _wins(one, other, by_rung[one], by_rung[other])
        ],
        "curves": [curve for run in runs if (curve := _curve(run)) is not None],
    }


def _rewarded(run: StudyRun) -> list[dict[str, Any]]:
    if not run.answers_file.exists():
        return []
    return [row for _, row in read_answers(run) if "rewarded_task" in row]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row if name.split("/")[0] == "reward"})


def _means(rung: str, task: str, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    rows = [row for seed in seeds for row in seed]
    means = {}
    for column in _columns(rows):
        values = np.array([row[column] for row in rows if column in row])
        means[column] = _interval(values) | {"prompts": len(values)}
    return {"rung": rung, "task": task, "seeds": len(seeds), "means": means}


def _wins(one, other, of_one, of_other) -> list[dict[str, Any]]:
    """Returns the win rates of a rung over another, by column."""
    columns = set(_columns([*itertools.chain(*of_one)]))
    columns &= set(_columns([*itertools.chain(*of_other)]))
    found = []
    for column in sorted(columns):
        scores = []
        for first, second in zip(of_one, of_other, strict=False):
            there = {row["instance"]: row[column] for row in second if column in row}
            pairs = [
                (row[column], there[row["instance"]])
                for row in first
                if column in row and row["instance"] in there
            ]
            scores += [1.0 * (a > b) + 0.5 * (a == b) for a, b in pairs]
        if scores:
            ends = _interval(np.array(scores))
            found.append(
                {
                    "first": one[0], "second": other[0], "task": one[1], "column": column,
                    "rate": ends["mean"], "low": ends["low"], "high": ends["high"],
                    "prompts": len(scores),
                }
            )  # fmt: skip
    return found


def _interval(values: np.ndarray) -> dict[str, float]:
    mean = float(values.mean())
    reach = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def _curve(run: StudyRun) -> dict[str, Any] | None:
    rows = [row for row in read_metrics(run.directory.metrics_file) if row.get("kl") is not None]
    rows = [row for row in rows if row.get("reward") is not None]
    if not rows:
        return None
    parts = sorted({name for row in rows for name in row if name.startswith(PART)})
    return {
        "run": run.name,
        "kl": [row["kl"] for row in rows],
        "reward": [row["reward"] for row in rows],
        "parts": {name.removeprefix(PART): [row.get(name) for row in rows] for name in parts},
    }


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["alignment"]
    blocks: list[Block] = []
    if found["rewards"]:
        tasks = dict.fromkeys(entry["task"] for entry in found["rewards"])
        text = "What runs write by themselves to the same held-out prompts, and how often that of a"
        blocks.append(Sentence(f"{text} row's run has a larger reward than that of a column's."))
        blocks += menu_of("Prompts", {task: _tables(found, task) for task in tasks})
    if found["curves"]:
        blocks += [
            Sentence(
                "Reward against the distance from the reference while runs learn from it. "
                "Hollow points are parts of the reward, or what is only measured beside it."
            ),
            _figure(found["curves"]),
        ]
    return blocks


def _tables(found: Mapping[str, Any], task: str) -> list[Block]:
    """Returns the mean rewards of a task, and for each of them who wins how often."""
    entries = [entry for entry in found["rewards"] if entry["task"] == task]
    rows: list[tuple[Cell, ...]] = [
        (
            entry["rung"], column, number(one["mean"]), between([one["low"], one["high"]]),
            str(one["prompts"]), str(entry["seeds"]),
        )
        for entry in entries
        for column, one in entry["means"].items()
    ]  # fmt: skip
    names = ("run", "reward", "mean", "95%", "completions", "seeds")
    wins = [win for win in found["wins"] if win["task"] == task]
    columns = sorted({win["column"] for win in wins})
    return [
        DataTable(names, rows, text_columns=(0, 1)),
        *(_matrix([win for win in wins if win["column"] == column]) for column in columns),
    ]


def _matrix(wins: Sequence[Mapping[str, Any]]) -> DataTable:
    """Returns the win rates by one reward; green and red are surely above and below a half."""
    runs = list(dict.fromkeys([win["first"] for win in wins] + [win["second"] for win in wins]))
    cells: dict[tuple[str, str], Cell] = {}
    for win in wins:
        is_more, is_less = win["low"] > 0.5, win["high"] < 0.5
        tone = "good" if is_more else "bad" if is_less else ""
        other = "bad" if is_more else "good" if is_less else ""
        cells[win["first"], win["second"]] = (fixed(win["rate"], 2), tone)
        cells[win["second"], win["first"]] = (fixed(1 - win["rate"], 2), other)
    rows = [(one, *(cells.get((one, other), "") for other in runs)) for one in runs]
    return DataTable((f"win rate by {wins[0]['column']}", *runs), rows)


def _figure(curves: Sequence[Mapping[str, Any]]) -> Figure:
    series = []
    for place, curve in enumerate(curves):
        shade = 1 - 0.7 * place / max(1, len(curves) - 1)
        known = {"": curve["reward"], **curve["parts"]}
        for name, values in known.items():
            label = f"{curve['run']}: {name}" if name else curve["run"]
            color = "accent" if name else "dense"
            series.append(
                Series(
                    "circle", curve["kl"], values, color=color, shade=shade, is_open=bool(name),
                    label=label, tips=[label],
                )
            )  # fmt: skip
    x = Axis("KL from the reference (nats a completion)")
    return Figure((Plot(x, Axis("reward"), tuple(series)),), "reward_against_kl")


ALIGNMENT = Analysis(
    "alignment", "What tuning by rewards gains", "Alignment", analyse_alignment, _present, METHOD
)
