"""Does tuning on instructions help with kinds of task that it left out, and from which size on?

FLAN's question (2109.01652), at the size of a laptop. Transformers of four widths learn prose and
ten generated tasks in their own short notation ("qwexyz=", "later king bird="), so that they can do
them and have never been asked in words. Each is then tuned on the tasks of four families in words,
and, to tell what more training does, as long on what it was trained on. All are asked in words,
without an example, for the two families that the tuning left out (comparison and copying), on the
same instances: the paired difference has an interval. FLAN found that tuning hurt models below 8
billion parameters. About half an hour on two cores (450 GFLOP/s).

    python experiments/instructions.py             # trains what is not trained yet, then compares
    jaxgen sweep experiments/instructions.py       # shows the runs; --go only trains
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.configuration import load
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import (
    Addition,
    Copying,
    Dyck,
    Expressions,
    GeneratedSource,
    Induction,
    ListFunctions,
    ListPrograms,
    PairOrder,
    Unscrambling,
    WordCompletion,
)
from jaxgen.data.instructions import Instructions, tasks_of_families
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.errors import JaxgenError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.config import zero_shot_suite
from jaxgen.evaluation.pairing import Difference, paired_difference
from jaxgen.files import read_rows, write_atomically
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.run_sweep import run_sweep
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

WIDTHS = (96, 64, 32, 16)
SEEDS = (0, 1)
LAYERS, ROWS, LENGTH = 2, 16, 160
STEPS, TUNING_STEPS = 2400, 600
RATE, TUNING_RATE = 0.16, 0.08
"""Divided by the width."""
HELD_OUT = ("comparison", "copying")
SOURCES: dict[str, GeneratedSource] = {
    "addition": Addition(2),
    "expressions": Expressions(num_operators=1),
    "list_functions": ListFunctions(max_length=5),
    "list_programs": ListPrograms(num_steps=1, max_length=4),
    "unscrambling": Unscrambling(100),
    "word_completion": WordCompletion(100),
    "dyck": Dyck(),
    "pair_order": PairOrder(),
    "copying": Copying(6),
    "induction": Induction(8),
}
METRICS = ("exact_match", "log_probability")
SHAPE = ModelShape(head_dim=16, mlp_ratio=3)
SHORT = tuple(Task(name, source, PromptAnswer()) for name, source in SOURCES.items())
ASKED = tuple(
    Task(
        f"instructions/{name}", source, PromptAnswer(), preprocessors=(Instructions(name),)
    )
    for name, source in SOURCES.items()
)  # fmt: skip


def pretrained(width: int, seed: int, steps: int = STEPS) -> RunConfig:
    """Returns a model that knows the tasks in their own notation."""
    base = load(["runs/quickstart.gin"])
    size = SHAPE.change(f"base-{width}", LAYERS, width)
    tasks = (Task("prose", StandardLibraryProse()), *SHORT)
    values = {
        "mixture": Mixture("short", tasks, {task.name: 1.0 for task in tasks}),
        "train.seed": seed,
        "train.steps": steps,
        "train.batch_size": ROWS,
        "train.length": LENGTH,
        "train.schedule": WarmupCosine(peak=RATE / width),
        "evaluation": dataclasses.replace(
            base.evaluation,
            num_examples=300,
            num_batches=2,
            suite=zero_shot_suite(ASKED, HELD_OUT, Answers()),
        ),
    }
    name = f"{size.label}-s{seed}"
    return changed(base, Change(size.label, {**size.values, **values}), name)


def continued(parent: RunConfig, kind: str, steps: int = TUNING_STEPS) -> RunConfig:
    """Returns a model that goes on from another, on instructions ("tuned") or not ("more")."""
    model: Any = parent.model
    tasks = tasks_of_families(ASKED, HELD_OUT, inside=False)
    asked = Mixture("asked", tasks, {task.name: 1.0 for task in tasks})
    values = {
        "mixture": asked if kind == "tuned" else parent.mixture,
        "train.steps": steps,
        "train.schedule": WarmupCosine(peak=TUNING_RATE / model.embed_dim),
        "initialize_from": f"../{parent.name}",
    }
    name = parent.name.replace("base", kind)
    return changed(parent, Change(name, values), name)


def runs(steps: int = STEPS, tuning_steps: int = TUNING_STEPS, widths: Sequence[int] = WIDTHS):
    """Returns all runs, the most expensive first."""
    parents = [pretrained(width, seed, steps) for width in widths for seed in SEEDS]
    rest = [continued(one, kind, tuning_steps) for one in parents for kind in ("tuned", "more")]
    return [*parents, *rest]


def sweep(**options: Any) -> Sweep:
    """Returns the sweep of the runs."""
    return Sweep(
        "instructions",
        "1",
        runs(**options),
        execution=ExecutionConfig(scan_unroll=LAYERS, log_every="5%", checkpoint_every="100%"),
        title="Instructions for kinds of task that the tuning left out",
        lead=(
            "Models of four widths know ten tasks in a short notation. Some are tuned on four "
            "families of tasks asked in words. Does that help where another family is asked for?"
        ),
    )


SWEEP = sweep()


def compared(folder: Path, widths: Sequence[int] = WIDTHS) -> list[dict[str, Any]]:
    """Returns the differences that tuning makes, by size, what it is compared with, and metric."""
    suite = {one.task.name for one in zero_shot_suite(ASKED, HELD_OUT)}

    def rows(kind: str, width: int, seed: int) -> list[dict[str, Any]]:
        (file,) = sorted((folder / f"{kind}-{width}-s{seed}" / "evals").glob("*.jsonl"))[-1:]
        return [row for row in read_rows(file) if row["task"] in suite]

    found = []
    for width in sorted(widths):
        of = {
            kind: [rows(kind, width, seed) for seed in SEEDS] for kind in ("base", "more", "tuned")
        }
        for other in ("base", "more"):
            for metric in METRICS:
                difference = paired_difference(of[other], of["tuned"], metric)
                found.append(
                    {"width": width, "against": other, "metric": metric}
                    | dataclasses.asdict(difference)
                )
    return found


def lines(table: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the table as text."""
    told = ["width  against  metric            before    tuned   difference [95 % interval]"]
    for row in table:
        fields = {field.name: row[field.name] for field in dataclasses.fields(Difference)}
        one = Difference(**fields)
        mark = "" if one.is_clear else "  (not clear)"
        told.append(
            f"{row['width']:5}  {row['against']:7}  {row['metric']:15} {one.before:8.3f} "
            f"{one.after:8.3f}   {one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{mark}"
        )
    return told


def main() -> int:
    """Trains what is not trained yet, then compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default=f"runs/{SWEEP.identity}", help="the study's folder")
    parser.add_argument("--steps", type=int, default=STEPS, help="of pre-training")
    parser.add_argument("--tuning_steps", type=int, default=TUNING_STEPS)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    arguments = parser.parse_args()
    chosen = sweep(
        steps=arguments.steps, tuning_steps=arguments.tuning_steps, widths=arguments.widths
    )
    folder = Path(arguments.run_dir)
    status = run_sweep(chosen, folder, LocalEngine(chosen, folder, arguments.jobs))
    if status == 0:
        table = compared(folder, arguments.widths)
        print("\n".join(lines(table)))
        write_atomically(folder / "instructions.json", json.dumps(table, indent=1) + "\n")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
