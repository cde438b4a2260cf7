"""Does a constitution make a helpful model refuse harm, and no more than harm (2212.08073)?

A small transformer learns to help with every request for a spell, harmful or not, and to criticise,
revise and choose answers by principles, which large models know from their pre-training. It then
answers harmful requests of the training split, criticises its answers and revises them, and is
tuned on the revisions and, as in the paper, on helpful answers to benign requests. Beside it goes a
model that is tuned as long on helpfulness alone. Both are asked for deeds that were held out:
harmful compliance is to fall, help with benign twins to stay. Three seeds; about half an hour on
two cores (450 GFLOP/s).

    python experiments/constitution.py             # continues what it has begun
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax

from jaxgen.configuration import load
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import SpellJudgements, SpellRequests
from jaxgen.data.mixtures import Mixture
from jaxgen.data.principle_files import read_principles
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import JaxgenError
from jaxgen.evaluation.config import EvaluationTask
from jaxgen.evaluation.pairing import paired_difference
from jaxgen.evaluation.refusals import Refusals
from jaxgen.files import read_rows, write_atomically
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.posttraining.principles import Revising, revise
from jaxgen.posttraining.writing import ModelWriter
from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sweeps import Change
from jaxgen.sweeps.grid import changed
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

SEEDS = (0, 1, 2)
STEPS, TUNING_STEPS, PROMPTS = 3000, 200, 512
PEOPLE = 8
HELPFUL = Task("helpful", SpellRequests("helpful", num_people=PEOPLE), PromptAnswer())
BENIGN = Task("benign", SpellRequests("helpful", ("benign",), num_people=PEOPLE), PromptAnswer())
RED_TEAM = Task(
    "red_team", SpellRequests("helpful", ("harmful",), num_people=PEOPLE), PromptAnswer()
)
SKILLS = (
    Task("critique", SpellJudgements("critique", PEOPLE), PromptAnswer()),
    Task("revision", SpellJudgements("revision", PEOPLE), PromptAnswer()),
    Task("choice", SpellJudgements("choice", PEOPLE), PromptAnswer()),
)
ASKED = EvaluationTask(
    Task("asked", SpellRequests("safe", num_people=PEOPLE), PromptAnswer()),
    Refusals(max_tokens=60),
    300,
)
METRICS = ("harmful_compliance", "harmful_refusal", "benign_help", "over_refusal")


def skilled(seed: int, steps: int) -> RunConfig:
    """Returns the model that helps with everything and can judge by principles."""
    base = load(["runs/quickstart.gin"])
    values = {
        "mixture": Mixture(
            "skills",
            (HELPFUL, *SKILLS),
            {"helpful": 0.25, "critique": 0.25, "revision": 0.25, "choice": 0.25},
        ),
        "train.seed": seed,
        "train.steps": steps,
        "train.batch_size": 8,
        "train.length": 384,
        "evaluation": dataclasses.replace(
            base.evaluation, num_examples=100, num_batches=2, batch_size=16, suite=(ASKED,)
        ),
    }
    return changed(base, Change("skilled", values), f"skilled-s{seed}")


def tuned(parent: RunConfig, kind: str, tasks: tuple[Task, ...], steps: int) -> RunConfig:
    """Returns a model that is tuned further, on equally many rows of each task."""
    values = {
        "mixture": Mixture(kind, tasks, {task.name: 1.0 for task in tasks}),
        "train.steps": steps,
        "train.schedule": WarmupCosine(peak=1e-3),
        "initialize_from": f"../{parent.name}",
    }
    return changed(parent, Change(kind, values), parent.name.replace("skilled", kind))


def make_revisions(folder: Path, parent: RunConfig, prompts: int) -> Path:
    """Lets a model revise its answers to harmful requests; returns their file."""
    output = folder / f"{parent.name}.revised.jsonl"
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(folder / parent.name, mesh)
        writer = ModelWriter(
            restored.language_model,
            restored.config.mixture.codec,
            SamplingPolicy(temperature=0),
            max_tokens=64,
            batch_size=64,
        )
        records = RED_TEAM.instances(prompts, seed=1, split="train")
        revise(records, writer, Revising(read_principles()), output, 64, parent.name)
    return output


def train(folder: Path, seeds: tuple[int, ...], steps: int, tuning: int, prompts: int) -> None:
    """Trains what is not trained yet."""
    execution = ExecutionConfig(scan_unroll=2, log_every="5%", checkpoint_every="100%")
    for seed in seeds:
        parent = skilled(seed, steps)
        run(parent, folder / parent.name, execution)
        revisions = Jsonl(str(make_revisions(folder, parent, prompts)), heldout_fraction=0.05)
        for kind, tasks in (
            ("constitution", (Task("revised", revisions, PromptAnswer()), BENIGN)),
            ("helpful", (HELPFUL,)),
        ):
            config = tuned(parent, kind, tasks, tuning)
            run(config, folder / config.name, execution)


def compared(folder: Path, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Returns what the constitution changes, against both models without it."""

    def rows(kind: str, seed: int) -> list[dict[str, Any]]:
        file = max((folder / f"{kind}-s{seed}" / "evals").glob("*.jsonl"))
        return [row for row in read_rows(file) if row["task"] == ASKED.task.name]

    kinds = ("skilled", "helpful", "constitution")
    of = {kind: [rows(kind, seed) for seed in seeds] for kind in kinds}
    return [
        {"against": other, "metric": metric}
        | dataclasses.asdict(paired_difference(of[other], of["constitution"], metric))
        for other in ("skilled", "helpful")
        for metric in METRICS
    ]


def main() -> int:
    """Trains, then compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default="runs/constitution@1", help="the study's folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tuning_steps", type=int, default=TUNING_STEPS)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="whose answers are revised")
    arguments = parser.parse_args()
    prepare_process()
    folder, seeds = Path(arguments.run_dir), tuple(arguments.seeds)
    folder.mkdir(parents=True, exist_ok=True)
    train(folder, seeds, arguments.steps, arguments.tuning_steps, arguments.prompts)
    table = compared(folder, seeds)
    for row in table:
        print(
            f"{row['metric']:18} {row['before']:.3f} ({row['against']}) -> {row['after']:.3f}   "
            f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        )
    write_atomically(folder / "constitution.json", json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
