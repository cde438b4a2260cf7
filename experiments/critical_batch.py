"""How large a batch pays off? Measured in runs and by gradients.

Ten minutes on two cores (450 GFLOP/s). A small model reads Python's prose in batches of five sizes,
at three constant rates each. The steps to one loss, by batch size, give the critical batch; the
gradient noise scale of the same runs should be of its size (McCandlish et al., 1812.06162).

    jaxgen sweep experiments/critical_batch.py --go
    jaxgen diagnose critical_batch runs/critical_batch@1
    jaxgen diagnose noise_scale runs/critical_batch@1/b8-r4
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupStableDecay

STEPS = {32: 600, 16: 700, 8: 900, 4: 1300, 2: 2000}
"""By batch in rows, enough for each to reach one loss."""
FACTORS = (2, 4, 8)
RATE = 1e-3
"""At a batch of 8 rows; it follows the square root of the batch."""
SIZE = ModelShape(head_dim=16, mlp_ratio=3).change("", 2, 32)
BASE = load(
    ["runs/quickstart.gin"],
    [
        "mixture.name='prose'",
        "mixture.tasks=[@prose/task()]",
        "mixture.weights={'prose': 1.0}",
        "train.length=64",
    ],
)


def run(batch: int, factor: int) -> RunConfig:
    """Returns a run of a batch size at a multiple of its rate."""
    rate = RATE * factor * (batch / 8) ** 0.5
    values = {
        "train.batch_size": batch,
        "train.steps": STEPS[batch],
        # A rate that fell towards the end would reach the loss sooner in shorter runs.
        "train.schedule": WarmupStableDecay(peak=rate, warmup=20, decay=0),
    }
    name = f"b{batch}-r{factor}"
    return changed(BASE, Change(name, {**SIZE.values, **values}), name)


SWEEP = Sweep(
    "critical_batch",
    "1",
    [run(batch, factor) for batch in STEPS for factor in FACTORS],
    execution=ExecutionConfig(
        scan_unroll=2, accumulation=2, noise_scale=True, log_every=20, checkpoint_every="100%"
    ),
    title="How large a batch pays off",
    lead="One model, trained with batches of five sizes at three constant rates each.",
)
