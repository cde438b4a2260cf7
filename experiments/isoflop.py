"""Which size of model should a compute budget buy? Ten minutes on two cores (450 GFLOP/s).

At each of five budgets of exact training FLOPs, models of six widths read as many tokens of
Python's code and prose as the budget pays for. The report draws a parabola through each budget's
losses, and says how the best size and tokens grow with compute: by those minima, and by
Chinchilla's law of all runs (Hoffmann et al., 2203.15556, approaches 2 and 3).

    jaxgen sweep experiments/isoflop.py          # shows the runs
    jaxgen sweep experiments/isoflop.py --go     # the report is runs/isoflop@1/report.html
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.scaling_rules import ModelShape, TrainingFlops
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

LAYERS, HEADS, ROWS, LENGTH = 2, 2, 4, 128
SHAPE = ModelShape(mlp_ratio=3, multiple=4)
WIDTHS = {
    1e11: (8, 12, 16, 20, 24, 32),
    2e11: (8, 12, 16, 24, 32, 40),
    4e11: (12, 16, 20, 24, 32, 48),
    8e11: (16, 20, 24, 32, 48, 64),
    1.6e12: (20, 24, 32, 40, 48, 64),
}
"""By budget in FLOPs, widths about the best; all of one depth, for a change of it is a kink."""
RATE = 0.128
"""Divided by the width: near the best of each width in trials at 2e11 FLOPs."""
BASE = load(
    ["runs/quickstart.gin", "mixtures/code_and_prose.gin"],
    [
        "evaluation.num_batches=16",
    ],
)


def rung(flops: float, width: int) -> RunConfig:
    """Returns a model of a width, trained for a budget."""
    size = SHAPE.change("", LAYERS, width, num_heads=HEADS)
    model = changed(BASE, size, BASE.name).model
    steps = round(TrainingFlops(flops).tokens(model, LENGTH) / (ROWS * LENGTH))
    training = {
        "train.steps": steps,
        "train.batch_size": ROWS,
        "train.length": LENGTH,
        # Every run's rate falls to its end: a longer run cut short would not have cooled down.
        "train.schedule": WarmupCosine(peak=RATE / width),
    }
    name = f"c{flops / 1e9:.0f}G-w{width}-seed{BASE.train.seed}"
    return changed(BASE, Change(name, {**size.values, **training}), name)


SWEEP = Sweep(
    "isoflop",
    "1",
    # The most expensive first: the last runs should be short, so that no core waits.
    [rung(flops, width) for flops, widths in reversed(WIDTHS.items()) for width in widths],
    execution=ExecutionConfig(scan_unroll=LAYERS, log_every="3.3%", checkpoint_every="100%"),
    title="What size for a compute budget?",
    lead=(
        "Models of several widths, trained at five budgets of compute on the code and prose of "
        "Python's standard library. For the same compute a small model sees more tokens, and a "
        "large one makes more of each: which is best, and how does that move as the budget grows?"
    ),
)
