"""Which tasks of a mixture use which experts, at the end of each sparse run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.runs.run_directory import read_metrics
from jaxgen.studies.analyses.base import Analysis, Tree, figure_name
from jaxgen.studies.formatting import percent
from jaxgen.studies.plots import Block, CellMap, DataTable, Figure, Sentence, menu_of
from jaxgen.studies.study_runs import StudyRun

LOAD = "router/load"
MOST_LAYERS = 3
"""Of a run that are drawn: the first sparse one, one half way, and the last."""
METHOD = (
    "A task's load of an expert is the share of the assignments of the task's tokens that went to "
    "it, over the steps of the run's last row of metrics. The distance of a task is half the sum "
    "over experts of how much its load differs from that of all tokens, averaged over sparse "
    "layers: 0 for a task that is routed like the mixture, near 1 for one with experts of its own."
)


def analyse_expert_use(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns of each run whose rows tell it the loads of experts, of all tokens and of each task.

    Returns:
      For each: "run", "mixture", "load" [layers][experts], "tasks" by name [layers][experts], and
      "distances" by name.
    """
    found = []
    for run in runs if any(run.is_sparse for run in runs) else ():
        last: dict[str, Any] = {}
        for row in read_metrics(run.directory.metrics_file):
            last |= {key: row[key] for key in row if f"{key}/".startswith(f"{LOAD}/") and row[key]}
        tasks = {name.removeprefix(f"{LOAD}/"): np.array(value) for name, value in last.items()}
        load = tasks.pop(LOAD, None)
        if load is None or not tasks:
            continue
        distances = {
            name: float(np.mean(np.sum(np.abs(of_task - load), axis=-1)) / 2)
            for name, of_task in tasks.items()
        }
        head = {"run": run.name, "mixture": run.mixture}
        found.append(head | {"load": load, "tasks": tasks, "distances": distances})
    return found


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["expert_use"]
    if not found:
        return []
    text = (
        "A row is an expert, a column a task of the mixture. The stronger the color, the larger "
        "the share of the task's tokens that the expert got; a column adds up to 100%. Columns "
        "that look alike are tasks that are routed alike."
    )
    options = {one["run"]: _blocks(tree, one) for one in found}
    return [Sentence(text), *menu_of("Run", options)]


def _blocks(tree: Tree, found: dict[str, Any]) -> Sequence[Block]:
    load, tasks = np.array(found["load"]), found["tasks"]
    layers = sorted({0, len(load) // 2, len(load) - 1})[:MOST_LAYERS]
    strongest = max(np.max(np.array(of_task)[layers]) for of_task in tasks.values())
    notes = [f"{name}: {percent(found['distances'][name])} from the mixture" for name in tasks]
    maps = tuple(
        CellMap(
            f"sparse layer {layer + 1} of {len(load)}", "tasks", "experts", list(tasks),
            [f"expert {number + 1}" for number in range(load.shape[1])],
            np.transpose([of_task[layer] for of_task in tasks.values()]).tolist(), notes,
            [f"{percent(share)} of all tokens" for share in load[layer]], "sparse", strongest,
        )
        for layer in layers
    )  # fmt: skip
    rows = [
        (name, percent(found["distances"][name]), *_busiest(of_task))
        for name, of_task in tasks.items()
    ]
    columns = (
        "task",
        "distance",
        "load of its busiest expert",
        f"experts in use, of {load.shape[1]}",
    )
    return [
        Figure(maps, f"{figure_name(tree, 'expert-use', found)}-{found['run']}"),
        DataTable(columns, rows),
    ]


def _busiest(of_task: Sequence[Sequence[float]]) -> tuple[str, str]:
    """Returns a task's largest load, and how many experts it uses, of all: means over layers.

    The number is the exponential of the load's entropy: that of all experts where it is even.
    """
    load = np.array(of_task)
    entropy = -np.sum(load * np.log(np.maximum(load, 1e-30)), axis=-1)
    return percent(np.mean(np.max(load, axis=-1))), f"{np.mean(np.exp(entropy)):.1f}"


EXPERT_USE = Analysis(
    "expert_use", "Which tasks use which experts", "Routing", analyse_expert_use, _present, METHOD
)
