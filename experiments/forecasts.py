"""How well is a larger model forecast? Fourteen tasks, seven sizes, four seeds of each.

One ladder of small transformers learns code, prose and twelve generated tasks, and is scored at
five checkpoints: at four of them the learning rate has not decayed yet. What is known of the
smaller sizes is then asked about each of the larger ones, as `jaxgen backtest` does it.

    jaxgen sweep experiments/forecasts.py          # shows the runs
    jaxgen sweep experiments/forecasts.py --go     # the report is runs/forecasts@1/report.html
    jaxgen backtest runs/forecasts@1               # forecasts beside what came
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.sweeps import Change, Sweep, ladder
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupStableDecay

LAYERS, HEADS = 2, 2
SHAPE = ModelShape(mlp_ratio=3, multiple=4)
WIDTHS = (64, 48, 32, 24, 16, 12, 8)
"""The largest first: the last runs of a study should be short, so that no core waits."""
SEEDS = range(4)
RATE = 3e-3
"""At width 32; narrow models train well at larger rates."""
BASE = load(
    ["runs/quickstart.gin", "mixtures/many_tasks.gin"],
    [
        "train.steps=1200",
        "train.length=128",
        "train.batch_size=24",
        "evaluation.num_batches=2",
        "evaluation.num_examples=100",
        "evaluation.at_checkpoints=True",
    ],
)


def rung(width: int) -> Change:
    """Returns a model of a width."""
    size = SHAPE.change(f"w{width}", LAYERS, width, num_heads=HEADS)
    schedule = WarmupStableDecay(peak=RATE * (32 / width) ** 0.5, warmup="3%", decay="20%")
    return Change(size.label, {**size.values, "train.schedule": schedule})


SWEEP = Sweep(
    "forecasts",
    "1",
    ladder(BASE, [rung(width) for width in WIDTHS], SEEDS),
    execution=ExecutionConfig(
        scan_unroll=LAYERS, log_every="4%", checkpoint_every="20%", heldout_every="20%"
    ),
    title="How well is a larger model forecast?",
    lead=(
        "Seven sizes of transformers learn fourteen tasks at once. Each larger size is forecast "
        "from the smaller ones, with every choice of seeds, and the forecasts are compared with "
        "what came."
    ),
)
