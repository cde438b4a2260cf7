"""What size of model should a compute budget buy? Ten minutes on two CPU cores.

At each of five budgets of exact training FLOPs, models of six widths read as many tokens of
Python's code and prose as the budget pays for. The report draws a parabola through each budget's
losses, and says how the best size and tokens grow with compute: by those minima, and by
Chinchilla's law of all runs (Hoffmann et al., 2203.15556, approaches 2 and 3).

    jaxgen sweep experiments/isoflop.py          # what it would run
    jaxgen sweep experiments/isoflop.py --go     # the report is runs/isoflop@1/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Sweep
from jaxgen.sweeps.rules import TrainingFlops
from jaxgen.training.schedules import WarmupCosine

LAYERS, HEADS, ROWS, LENGTH = 2, 2, 4, 128
WIDTHS = {
    1e11: (8, 12, 16, 20, 24, 32),
    2e11: (8, 12, 16, 24, 32, 40),
    4e11: (12, 16, 20, 24, 32, 48),
    8e11: (16, 20, 24, 32, 48, 64),
    1.6e12: (20, 24, 32, 40, 48, 64),
}
"""By budget in FLOPs, widths about the best; all of one depth, for a change of it is a kink."""
RATE = 0.128
"""Times one over the width: near the best of each width in trials at 2e11 FLOPs."""
BASE = load(
    ["runs/quickstart.gin"],
    [
        "mixture.name='text'",
        "mixture.tasks=[@code/task(), @prose/task()]",
        # As much of each as there is, so that hardly any is read twice.
        "mixture.weights={'code': 0.8, 'prose': 0.2}",
        "evaluation.num_batches=16",
    ],
)


def rung(flops: float, width: int) -> RunConfig:
    """A model of a width, trained for a budget."""
    model = dataclasses.replace(
        BASE.model,
        num_layers=LAYERS,
        scan_unroll=LAYERS,
        embed_dim=width,
        num_heads=HEADS,
        mlp_dim=3 * width,
    )
    steps = round(TrainingFlops(flops).tokens(model, LENGTH) / (ROWS * LENGTH))
    train = dataclasses.replace(
        BASE.train,
        steps=steps,
        batch_size=ROWS,
        length=LENGTH,
        # Every run's rate falls to its end: a run cut short would be judged before its rate fell.
        schedule=WarmupCosine(peak=RATE / width),
        log_every=max(1, steps // 30),
        checkpoint_every=steps,
    )
    name = f"c{flops / 1e9:.0f}G-w{width}-seed{train.seed}"
    return dataclasses.replace(BASE, name=name, model=model, train=train)


SWEEP = Sweep(
    "isoflop",
    "1",
    # The dearest first: the last runs should be short, so that no core waits.
    [rung(flops, width) for flops, widths in reversed(WIDTHS.items()) for width in widths],
    title="What size for a compute budget?",
    lead=(
        "Models of several widths, trained at five budgets of compute on the code and prose of "
        "Python's standard library. For the same compute a small model sees more tokens, and a "
        "large one makes more of each: which is best, and how does that move as the budget grows?"
    ),
)
