"""The first study: which abilities appear with scale, in minutes on two CPU cores.

A ladder of dense models and a mixture of experts is trained on one mixture of real code, real prose
and four generated tasks, twice with different seeds. Start it again to continue it.

    python experiments/quickstart.py --run_dir=runs/quickstart
    jaxgen sweep experiments/quickstart.py         # what it would run; --go runs it
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxgen.configuration import load
from jaxgen.errors import JaxgenError
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.studies.samples import save_samples
from jaxgen.sweeps import Sweep
from jaxgen.sweeps.carrying_out import carry_out
from jaxgen.sweeps.ladder import Rung, climb
from jaxgen.sweeps.local import LocalEngine


def dense(layers: int, width: int) -> dict[str, object]:
    """The fields of a dense model: heads of 16, feed-forward three times as wide."""
    return {
        "num_layers": layers,
        "embed_dim": width,
        "num_heads": max(1, width // 16),
        "mlp_dim": 3 * width,
        "scan_unroll": layers,
    }


RUNGS = (
    # Largest first: the last runs of a study should be short, so that no core waits.
    Rung("dense-3x96", dense(3, 96)),
    Rung("moe-2x64", dense(2, 64) | {"moe": MoEConfig(num_experts=8, mlp_dim=96, every=2)}),
    Rung("dense-2x64", dense(2, 64)),
    Rung("dense-2x32", dense(2, 32)),
    Rung("dense-1x16", dense(1, 16)),
    Rung("dense-1x8", dense(1, 8) | {"num_heads": 1}),
)

LEAD = (
    "Do larger models learn what smaller ones cannot? A ladder of dense transformers and a mixture "
    "of experts, each trained on the same tokens of Python's code and prose and of four generated "
    "tasks: two-digit addition, associative recall, copying, and a lookup of memorised symbols "
    "that serves as a control."
)


def quickstart(seeds: int = 2) -> Sweep:
    """Every size with so many seeds."""
    return Sweep(
        "quickstart",
        "1",
        climb(load(["runs/quickstart.gin"]), RUNGS, range(seeds)),
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
    return carry_out(sweep, folder, LocalEngine(sweep, folder, arguments.jobs), retries=0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; give the same command to go on.", file=sys.stderr)
        sys.exit(130)
