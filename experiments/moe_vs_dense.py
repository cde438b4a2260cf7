"""How much dense compute is a mixture of experts worth? Ten minutes on two cores (450 GFLOP/s).

A ladder of dense models gives a law of loss by compute. Mixtures of experts of the same depth,
width and tokens, whose active parameters and FLOPs are nearly those of three dense sizes, are
compared with it: by how much is their loss lower, and how many times their FLOPs would dense models
need for it?

    jaxgen sweep experiments/moe_vs_dense.py          # shows the runs
    jaxgen sweep experiments/moe_vs_dense.py --go     # report: runs/moe_vs_dense@1/report.html
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sweeps import Change, Sweep, ladder
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

LAYERS, HEADS, STEPS = 2, 2, 3000
SHAPE = ModelShape(mlp_ratio=3, multiple=4)
DENSE = (12, 16, 24, 32, 48)
SPARSE = (16, 24, 32)
"""Widths; a dense one is above the largest sparse one, so that the law covers that one's loss."""
EXPERTS, CHOSEN = 8, 2
SEEDS = range(3)
RATE = 0.128
"""Divided by the width, as in isoflop.py."""
BASE = load(
    ["runs/quickstart.gin", "mixtures/code_and_prose.gin"],
    [
        "train.length=128",
        "train.batch_size=4",
        f"train.steps={STEPS}",
        "evaluation.num_batches=16",
    ],
)


def rung(width: int, moe: MoEConfig | None = None) -> Change:
    """Returns a dense or sparse model of a width."""
    label = f"{'dense' if moe is None else 'moe'}-w{width}"
    size = SHAPE.change(label, LAYERS, width, num_heads=HEADS, moe=moe)
    return Change(label, {**size.values, "train.schedule": WarmupCosine(peak=RATE / width)})


def experts(width: int) -> MoEConfig:
    """Returns experts that, for a token, are together as wide as the dense feed-forward."""
    return MoEConfig(
        num_experts=EXPERTS, experts_per_token=CHOSEN, mlp_dim=3 * width // CHOSEN, every=1
    )


# The most expensive first: the last runs should be short, so that no core waits.
RUNGS = [
    *(rung(width, experts(width)) for width in reversed(SPARSE)),
    *(rung(width) for width in reversed(DENSE)),
]
SWEEP = Sweep(
    "moe_vs_dense",
    "1",
    ladder(BASE, RUNGS, SEEDS),
    execution=ExecutionConfig(scan_unroll=LAYERS, log_every="3.3%", checkpoint_every="100%"),
    title="What is a mixture of experts worth?",
    lead=(
        f"Mixtures of {EXPERTS} experts, of which a token visits {CHOSEN}, beside dense models of "
        "the same depth, width and tokens, whose feed-forward is as wide as a token's experts "
        "together. How many times their compute would dense models need for the same loss?"
    ),
)
