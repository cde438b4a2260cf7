"""When will an ability appear? Models fine-tuned for it may tell (Snell et al., 2411.16035).

Twenty transformers, of four widths and five lengths of training, learn Python's code and prose, and
in a 20th of their rows to copy letters. Each is then fine-tuned on 8, 32, 128 and 512 instances of
that task alone. Models that cannot do the task can do it after fine-tuning if their pre-training
loss is below a threshold, which rises with the number of instances. The law of the threshold,
extrapolated to no instances, predicts at which loss models can do the task without fine-tuning; the
better of the twenty models test the prediction (it failed: docs/findings.md). About fifteen minutes
on two cores (450 GFLOP/s).

    jaxgen sweep experiments/finetuning.py         # shows the runs
    jaxgen sweep experiments/finetuning.py --go    # the report is runs/finetuning@1/report.html
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.configuration import load
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Copying
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

WIDTHS = (48, 32, 24, 16)
STEPS = (4000, 2400, 1400, 800, 400)
"""Steps are of 512 tokens."""
SHARES = {"code": 0.76, "prose": 0.19, "copying": 0.05}
EXAMPLES = (8, 32, 128, 512)
SOURCE = Copying(length=4)
LAYERS, ROWS, LENGTH = 2, 4, 128
SHAPE = ModelShape(mlp_ratio=3)
TUNING_STEPS, TUNING_ROWS, TUNING_LENGTH = 60, 8, 64
RATE, TUNING_RATE = 0.128, 0.06
"""Divided by the width."""
BASE = load(
    ["runs/quickstart.gin", "mixtures/code_and_prose.gin"],
    [
        "evaluation.num_batches=16",
        "evaluation.num_examples=500",
    ],
)


def pretrained(width: int, steps: int) -> RunConfig:
    """Returns a model of a width and a length of training."""
    size = SHAPE.change(f"w{width}-s{steps}", LAYERS, width, num_heads=2)
    tasks = (*BASE.mixture.tasks, Task("copying", SOURCE, PromptAnswer()))
    values = {
        "mixture": Mixture("text", tasks, SHARES),
        "train.steps": steps,
        "train.batch_size": ROWS,
        "train.length": LENGTH,
        "train.schedule": WarmupCosine(peak=RATE / width),
    }
    return changed(BASE, Change(size.label, {**size.values, **values}), size.label)


def tuned(parent: RunConfig, examples: int) -> RunConfig:
    """Returns a model fine-tuned from another on some instances of the task, for many epochs."""
    source = dataclasses.replace(SOURCE, num_examples=examples)
    model: Any = parent.model
    values = {
        "mixture": Mixture("copying", (Task("copying", source, PromptAnswer()),)),
        "train.steps": TUNING_STEPS,
        "train.batch_size": TUNING_ROWS,
        "train.length": TUNING_LENGTH,
        "train.schedule": WarmupCosine(peak=TUNING_RATE / model.embed_dim),
        "initialize_from": f"../{parent.name}",
    }
    name = f"{parent.name}-d{examples}"
    return changed(parent, Change(name, values), name)


MODELS = [pretrained(width, steps) for steps in STEPS for width in WIDTHS]
SWEEP = Sweep(
    "finetuning",
    "1",
    # The most expensive first: the last runs should be short, so that no core waits.
    [*MODELS, *(tuned(model, examples) for model in MODELS for examples in EXAMPLES)],
    execution=ExecutionConfig(scan_unroll=LAYERS, log_every="5%", checkpoint_every="100%"),
    title="Predicting an ability by fine-tuning",
    lead=(
        "Twenty models of code and prose, which have seen a little of a task, are fine-tuned on 8 "
        "to 512 instances of it. Do those that cannot do it yet tell at which loss others can?"
    ),
)
