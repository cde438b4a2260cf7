"""Can one run give results at many budgets? About five minutes on two cores (450 GFLOP/s).

A long run keeps its learning rate, and three branches leave its checkpoints to cool down (Hägele et
al., 2405.18392). Each is compared with a run of the same length with a cosine schedule of its own.
If the losses agree, a ladder of budgets costs its longest run and the cooldowns.

    jaxgen sweep experiments/cooldowns.py         # shows the runs
    jaxgen sweep experiments/cooldowns.py --go    # the report is runs/cooldowns@1/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.diagnostics.cooldown import branch, trunk
from jaxgen.sweeps import Change, Sweep, axis, grid, product
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine, WarmupStableDecay

TOTALS = (2000, 1000, 500)
"""Steps of 512 tokens."""
PEAK, WARMUP = 4e-3, 50
BASE = changed(
    load(
        ["runs/quickstart.gin", "mixtures/code_and_prose.gin"],
        [
            "train.length=128",
            "train.batch_size=4",
            "evaluation.num_batches=16",
        ],
    ),
    ModelShape(head_dim=16, mlp_ratio=3).change("", 2, 32),
    "stable",
)
LONG = trunk(
    dataclasses.replace(
        BASE,
        train=dataclasses.replace(
            BASE.train, schedule=WarmupStableDecay(peak=PEAK, warmup=WARMUP), steps=max(TOTALS)
        ),
    ),
    TOTALS,
)
BRANCHES = [branch(LONG, total) for total in TOTALS]
COSINES = grid(
    BASE,
    product(
        axis("train.steps", TOTALS, name="cosine"),
        [Change("alone", {"train.schedule": WarmupCosine(peak=PEAK, warmup=WARMUP)})],
    ),
)
SWEEP = Sweep(
    "cooldowns",
    "1",
    [LONG, *COSINES, *BRANCHES],
    execution=ExecutionConfig(scan_unroll=2, log_every=20, checkpoint_every=200),
    title="Many budgets from one run",
    lead=(
        "One run at a constant learning rate, whose branches cool down at three lengths, beside a "
        "run with a cosine schedule for each length. Do they reach the same loss?"
    ),
    branches={run.name: LONG.name for run in BRANCHES},
)
