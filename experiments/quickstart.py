"""The first study: which abilities appear with scale, in minutes on two CPU cores.

A ladder of dense models and a mixture of experts is trained on one mixture of real code, real prose
and four generated tasks, twice with different seeds. Start it again to continue it.

    python experiments/quickstart.py --run_dir=runs/quickstart
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxgen.configuration import load
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.scaling.ladder import Rung, climb
from jaxgen.scaling.report import write_report
from jaxgen.scaling.samples import save_samples
from jaxgen.scaling.study import run_study


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


def main() -> int:
    """Trains what is not trained yet, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default="runs/quickstart", help="the study's folder")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each size")
    parser.add_argument("--jobs", type=int, help="runs at a time; one for each core by default")
    arguments = parser.parse_args()

    base = load(["runs/quickstart.gin"])
    configs = climb(base, RUNGS, range(arguments.seeds))
    print(f"{len(configs)} runs in {Path(arguments.run_dir).absolute()}", flush=True)
    results = run_study(configs, arguments.run_dir, arguments.jobs, after=save_samples)
    finished = [result.directory for result in results if result.error is None]
    for result in results:
        if result.error is not None:
            print(f"failed: {result.directory.path.name}: {result.error}", file=sys.stderr)
    if finished:
        path = write_report(
            finished, Path(arguments.run_dir) / "report.html", "Abilities that appear with scale",
            LEAD,
        )  # fmt: skip
        print(f"\nreport: {path.absolute()}")
    return 0 if len(finished) == len(results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; give the same command to go on.", file=sys.stderr)
        sys.exit(130)
