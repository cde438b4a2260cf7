"""Do published rules of learning rate and batch hold for tiny models?

Ten minutes on two cores (450 GFLOP/s). Three sizes, each with twenty tokens for a parameter, are
trained with the rate and batch of the Step Law (2503.04715), of DeepSeek's (2401.02954), and with
one rate and batch for all. The rules were fitted to models a thousand times as large.

    jaxgen sweep experiments/published_rules.py         # shows the runs
    jaxgen sweep experiments/published_rules.py --go    # report: runs/published_rules@1/report.html
"""

from __future__ import annotations

from jaxgen.configuration import load
from jaxgen.sweeps import Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.sweeps.scaling_rules import (
    DeepSeekLaw,
    FixedHyperparameters,
    ModelShape,
    ScalingRules,
    StepLaw,
    TokensPerParameter,
)
from jaxgen.training.execution import ExecutionConfig

DEPTHS = (3, 2, 1)
SHAPE = ModelShape(aspect_ratio=16, head_dim=16, mlp_ratio=3)
LAWS = {
    "step_law": StepLaw(),
    "deepseek": DeepSeekLaw(),
    "fixed": FixedHyperparameters(learning_rate=4e-3, tokens=512),
}
BASE = load(
    ["runs/quickstart.gin", "mixtures/code_and_prose.gin"],
    [
        "train.length=128",
        "evaluation.num_batches=16",
    ],
)
SWEEP = Sweep(
    "published_rules",
    "1",
    [
        changed(BASE, rung, f"{name}-{rung.label}")
        for depth in DEPTHS
        for name, law in LAWS.items()
        for rung in [ScalingRules(BASE, SHAPE, TokensPerParameter(20), law).rung(depth)]
    ],
    execution=ExecutionConfig(scan_unroll=2, log_every=20, checkpoint_every=1000),
    title="Published rules of learning rate and batch, at tiny sizes",
    lead="Three sizes at twenty tokens a parameter, with the rates and batches of three rules.",
)
