"""The first study: which abilities appear with scale, in minutes on two CPU cores.

A ladder of dense models and a mixture of experts is trained on one mixture of real code, real prose
and four generated tasks, twice with different seeds. Start it again to continue it.

    python experiments/quickstart.py --run_dir=runs/quickstart
    jaxgen sweep experiments/quickstart.py         # shows it; --go runs it
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxgen.configuration import load
from jaxgen.errors import JaxgenError
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.studies.samples import save_samples
from jaxgen.sweeps import Change, Sweep, ladder
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.run_sweep import run_sweep
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig

SHAPE = ModelShape(head_dim=16, mlp_ratio=3)


def rung(kind: str, layers: int, width: int, moe: MoEConfig | None = None) -> Change:
    """Returns a size."""
    label = f"{kind}-{layers}x{width}"
    return SHAPE.change(label, layers, width, moe=moe)


RUNGS = (
    # Largest first: the last runs of a study should be short, so that no core waits.
    rung("dense", 3, 96),
    rung("moe", 2, 64, MoEConfig(num_experts=8, mlp_dim=96, every=2)),
    rung("dense", 2, 64),
    rung("dense", 2, 32),
    rung("dense", 1, 16),
    rung("dense", 1, 8),
)

LEAD = (
    "Do larger models learn what smaller ones cannot? A ladder of dense transformers and a mixture "
    "of experts, each trained on the same tokens of Python's code and prose and of four generated "
    "tasks: two-digit addition, associative recall, copying, and a lookup of memorised symbols "
    "that serves as a control."
)


def quickstart(seeds: int = 2) -> Sweep:
    """Returns every size with so many seeds."""
    return Sweep(
        "quickstart",
        "1",
        ladder(load(["runs/quickstart.gin"]), RUNGS, range(seeds)),
        execution=ExecutionConfig(scan_unroll=3, log_every=20, checkpoint_every=200),
        title="Abilities that appear with scale",
        lead=LEAD,
        after=save_samples,
    )


SWEEP = quickstart()


def main() -> int:
    """Trains what is not trained yet, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default="runs/quickstart", help="the study's folder")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each size")
    parser.add_argument("--jobs", type=int, help="runs at a time; one for each core by default")
    arguments = parser.parse_args()
    sweep, folder = quickstart(arguments.seeds), Path(arguments.run_dir)
    return run_sweep(sweep, folder, LocalEngine(sweep, folder, arguments.jobs), retries=0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        sys.exit(130)
