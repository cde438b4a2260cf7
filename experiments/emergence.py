"""Which abilities emerge with scale, and which only look so because of their metric.

Four ladders of small transformers, each on one generated task, every size with eight seeds:
addition at two layers; associative recall, whose larger sizes have the second layer that it needs;
a lookup of memorised symbols at one layer (the control: its exact match jumps, its parts do not);
and eight sparse parities in one task, of which four are also scored one by one. The largest size
of each is predicted before it is trained. The criteria of the verdicts were fixed before anything
was run, in jaxgen/emergence/verdict.py; the results are in docs/findings.md. About an hour on two
cores (450 GFLOP/s).

    jaxgen sweep experiments/emergence.py          # shows the runs
    jaxgen sweep experiments/emergence.py --go     # the report is runs/emergence@2/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import (
    Addition,
    AssociativeRecall,
    GeneratedSource,
    LookupChain,
    SparseParity,
)
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.evaluation.config import EvaluationTask
from jaxgen.ops.initializers import Initialization
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep, axis, grid, product
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

SEEDS = range(8)
SHAPE = ModelShape(head_dim=12, mlp_ratio=4)
PARITY = SparseParity(num_subtasks=8, num_bits=12, subset=2, heldout_fraction=0.25)
SCORED_PARITIES = (1, 2, 4, 8)
"""By rank: the first is drawn most often."""
LEAD = (
    "Four tasks, each learned by a ladder of transformers of its own, every size with eight seeds. "
    "Does the ability appear suddenly in the log-probability of the reference answer too, do seeds "
    "fall into two groups, or does the metric make the jump? The lookup is a control that looks "
    "emergent by design and is not."
)


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A ladder is one task and the sizes that learn it.

    Attributes:
      source: of the task.
      shapes: (layers, width), the smallest first.
      steps: of training.
      instances: a step.
      parts: scored beside the task, never trained on.
    """

    source: GeneratedSource
    shapes: tuple[tuple[int, int], ...]
    steps: int
    instances: int
    parts: tuple[EvaluationTask, ...] = ()


def each(layers: int, *widths: int) -> tuple[tuple[int, int], ...]:
    """Returns widths at one depth."""
    return tuple((layers, width) for width in widths)


LADDERS = {
    "addition": Ladder(Addition(3), each(2, 4, 8, 12, 16, 24, 32, 48), 1500, 128),
    "recall": Ladder(AssociativeRecall(8, 7), each(1, 8, 16, 24) + each(2, 24, 32, 48), 1200, 64),
    "lookup": Ladder(LookupChain(8, 64, 1), each(1, 2, 4, 6, 8, 12, 16, 24), 120, 64),
    "parity": Ladder(
        PARITY,
        each(1, 4, 8, 12, 16, 24, 32, 48),
        3000,
        64,
        tuple(
            EvaluationTask(
                Task(
                    f"parity_{rank}", dataclasses.replace(PARITY, drawn=(rank - 1,)), PromptAnswer()
                ),
                num_examples=100,
            )
            for rank in SCORED_PARITIES
        ),
    ),
}


def rung(name: str, layers: int, width: int, steps: int) -> Change:
    """Returns one size. Narrow models train well at larger rates."""
    rung = SHAPE.change(f"{name}-{layers}x{width}", layers, width)
    schedule = WarmupCosine(peak=3e-3 * (16 / width) ** 0.5, warmup=steps // 20)
    return Change(rung.label, {**rung.values, "train.schedule": schedule})


def ladder_runs(name: str) -> list[RunConfig]:
    """Returns the runs of one ladder, the largest first."""
    ladder = LADDERS[name]
    task = Task(name, ladder.source, PromptAnswer())
    base = load(["runs/quickstart.gin"])
    # All instances of a task are equally long, and each is a row.
    (example,) = task.encode(task.instances(1, 0))
    base = dataclasses.replace(
        base,
        # Embeddings that begin much smaller than a layer's output are drowned by it, and second
        # layers that must read them, as recall's must, hardly learn.
        model=dataclasses.replace(base.model, initialization=Initialization(embedding_stddev=0.3)),
        mixture=Mixture(name, (task,)),
        train=dataclasses.replace(
            base.train,
            steps=ladder.steps,
            length=len(example.ids) + 1,
            batch_size=ladder.instances,
        ),
        evaluation=dataclasses.replace(
            base.evaluation, num_examples=500, num_batches=8, suite=ladder.parts
        ),
    )
    shapes = [rung(name, *shape, ladder.steps) for shape in reversed(ladder.shapes)]
    return grid(base, product(shapes, axis("train.seed", SEEDS)))


SWEEP = Sweep(
    "emergence",
    "2",
    [run for name in LADDERS for run in ladder_runs(name)],
    execution=ExecutionConfig(scan_unroll=2, log_every="3.3%", checkpoint_every="100%"),
    title="Emergence, and what only looks like it",
    lead=LEAD,
    held_out=[
        f"{name}-{layers}x{width}"
        for name, ladder in LADDERS.items()
        for layers, width in (max(ladder.shapes),)
    ],
)
