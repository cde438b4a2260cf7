"""What is a mixture of experts worth in dense compute? Ten minutes on two CPU cores.

A ladder of dense models gives a law of loss by compute. Mixtures of experts of the same depth,
width and tokens, whose active parameters and FLOPs are nearly those of three dense sizes, are
held against it: by how much is their loss lower, and how many times their FLOPs would dense models
need for it?

    jaxgen sweep experiments/moe_vs_dense.py          # what it would run
    jaxgen sweep experiments/moe_vs_dense.py --go     # report: runs/moe_vs_dense@1/report.html
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sweeps import Sweep
from jaxgen.sweeps.ladder import Rung, climb
from jaxgen.training.schedules import WarmupCosine

LAYERS, HEADS, STEPS = 2, 2, 3000
DENSE = (12, 16, 24, 32, 48)
SPARSE = (16, 24, 32)
"""Widths; a dense one lies above the largest sparse one, for the law to say what that is worth."""
EXPERTS, CHOSEN = 8, 2
SEEDS = range(3)
RATE = 0.128
"""Times one over the width, as in isoflop.py."""
BASE = load(
    ["runs/quickstart.gin"],
    [
        "mixture.name='text'",
        "mixture.tasks=[@code/task(), @prose/task()]",
        "mixture.weights={'code': 0.8, 'prose': 0.2}",
        "train.length=128",
        "train.batch_size=4",
        f"train.steps={STEPS}",
        f"train.checkpoint_every={STEPS}",
        f"train.log_every={STEPS // 30}",
        "evaluation.num_batches=16",
    ],
)


def rung(width: int, moe: MoEConfig | None = None) -> Rung:
    """A size: feed-forwards three times as wide as the model, of which experts take their parts."""
    fields = {
        "num_layers": LAYERS,
        "scan_unroll": LAYERS,
        "embed_dim": width,
        "num_heads": HEADS,
        "mlp_dim": 3 * width,
        "moe": moe,
    }
    kind = "dense" if moe is None else "moe"
    schedule = WarmupCosine(peak=RATE / width)
    return Rung(f"{kind}-w{width}", fields, {"schedule": schedule})


def experts(width: int) -> MoEConfig:
    """A token's experts together are as wide as the dense feed-forward."""
    return MoEConfig(
        num_experts=EXPERTS, experts_per_token=CHOSEN, mlp_dim=3 * width // CHOSEN, every=1
    )


# The dearest first: the last runs should be short, so that no core waits.
RUNGS = [
    *(rung(width, experts(width)) for width in reversed(SPARSE)),
    *(rung(width) for width in reversed(DENSE)),
]
SWEEP = Sweep(
    "moe_vs_dense",
    "1",
    climb(BASE, RUNGS, SEEDS),
    title="What is a mixture of experts worth?",
    lead=(
        f"Mixtures of {EXPERTS} experts, of which a token visits {CHOSEN}, beside dense models of "
        "the same depth, width and tokens, whose feed-forward is as wide as a token's experts "
        "together. How many times their compute would dense models need for the same loss?"
    ),
)
