"""When will an ability appear? Asked of models fine-tuned for it (Snell et al., 2411.16035).

Twenty transformers, of four widths and five lengths of training, learn Python's code and prose, and
in a 20th of their rows to write letters again. Each is then fine-tuned on 8, 32, 128 and 512
instances of that task alone. Models that cannot do it as they are can after fine-tuning, from some
pre-training loss on that rises with the instances; the law of this, carried on to none, says where
models as they are will begin, and the better ones of the twenty say whether that was right (they
said that it was not: docs/findings.md). About fifteen minutes on two CPU cores.

    jaxgen sweep experiments/finetuning.py         # what it would run
    jaxgen sweep experiments/finetuning.py --go    # the report is runs/finetuning@1/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Copying
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Sweep
from jaxgen.training.schedules import WarmupCosine

WIDTHS = (48, 32, 24, 16)
STEPS = (4000, 2400, 1400, 800, 400)
"""Of 512 tokens."""
SHARES = {"code": 0.76, "prose": 0.19, "copying": 0.05}
EXAMPLES = (8, 32, 128, 512)
SOURCE = Copying(length=4)
LAYERS, ROWS, LENGTH = 2, 4, 128
TUNING_STEPS, TUNING_ROWS, TUNING_LENGTH = 60, 8, 64
RATE, TUNING_RATE = 0.128, 0.06
"""Times one over the width."""
BASE = load(
    ["runs/quickstart.gin"],
    [
        "mixture.tasks=[@code/task(), @prose/task()]",
        "mixture.weights={'code': 0.8, 'prose': 0.2}",
        "evaluation.num_batches=16",
        "evaluation.num_examples=500",
    ],
)


def pretrained(width: int, steps: int) -> RunConfig:
    """A model of a width and a length of training."""
    model = dataclasses.replace(
        BASE.model,
        num_layers=LAYERS,
        scan_unroll=LAYERS,
        embed_dim=width,
        num_heads=2,
        mlp_dim=3 * width,
    )
    train = dataclasses.replace(
        BASE.train,
        steps=steps,
        batch_size=ROWS,
        length=LENGTH,
        schedule=WarmupCosine(peak=RATE / width),
        log_every=steps // 20,
        checkpoint_every=steps,
    )
    tasks = (*BASE.mixture.tasks, Task("copying", SOURCE, PromptAnswer()))
    return dataclasses.replace(
        BASE,
        name=f"w{width}-s{steps}",
        model=model,
        mixture=Mixture("text", tasks, SHARES),
        train=train,
    )


def tuned(parent: RunConfig, examples: int) -> RunConfig:
    """A model that goes on from another on some instances of the task, again and again."""
    source = dataclasses.replace(SOURCE, num_examples=examples)
    train = dataclasses.replace(
        BASE.train,
        steps=TUNING_STEPS,
        batch_size=TUNING_ROWS,
        length=TUNING_LENGTH,
        schedule=WarmupCosine(peak=TUNING_RATE / parent.model.embed_dim),
        log_every=TUNING_STEPS // 6,
        checkpoint_every=TUNING_STEPS,
    )
    return dataclasses.replace(
        parent,
        name=f"{parent.name}-d{examples}",
        mixture=Mixture("copying", (Task("copying", source, PromptAnswer()),)),
        train=train,
        initialize_from=f"../{parent.name}",
    )


MODELS = [pretrained(width, steps) for steps in STEPS for width in WIDTHS]
SWEEP = Sweep(
    "finetuning",
    "1",
    # The dearest first: the last runs should be short, so that no core waits.
    [*MODELS, *(tuned(model, examples) for model in MODELS for examples in EXAMPLES)],
    title="Foretelling an ability by fine-tuning",
    lead=(
        "Twenty models of code and prose, which have seen a little of a task, are fine-tuned on 8 "
        "to 512 instances of it. Do those that cannot do it yet say at which loss others can?"
    ),
)
