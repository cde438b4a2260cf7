"""The first study: which abilities appear with scale, in minutes on two cores (450 GFLOP/s).

A ladder of dense models and a mixture of experts is trained on one mixture of real code, real prose
and four generated tasks, twice with different seeds. Start it again to continue it.

    python experiments/quickstart.py               # what fits about ten minutes; --full for all
    jaxgen sweep experiments/quickstart.py         # shows it; --go runs all of it

The first measures a few steps of the smallest and the largest size, and leaves out the largest
sizes until the rest fits.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxgen.configuration import load
from jaxgen.errors import JaxgenError
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.studies.samples import save_samples
from jaxgen.sweeps import Change, Sweep, ladder
from jaxgen.sweeps.estimates import measure_speeds
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.run_sweep import run_sweep
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.tracking import clock

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

FEWEST = 3
"""Sizes that are trained on any machine: fewer show no trend."""
LEAD = (
    "Do larger models learn what smaller ones cannot? A ladder of dense transformers and a mixture "
    "of experts, each trained on the same tokens of Python's code and prose and of four generated "
    "tasks: two-digit addition, associative recall, copying, and a lookup of memorised symbols "
    "that serves as a control."
)


def quickstart(seeds: int = 2, rungs: Sequence[Change] = RUNGS, note: str = "") -> Sweep:
    """Returns the sizes with so many seeds each; `note` ends the report's first paragraph."""
    return Sweep(
        "quickstart",
        "1",
        ladder(load(["runs/quickstart.gin"]), rungs, range(seeds)),
        execution=ExecutionConfig(scan_unroll=3, log_every=20, checkpoint_every=200),
        title="What a ladder of small models can do",
        lead=LEAD + note,
        after=save_samples,
    )


SWEEP = quickstart()


def fitting(seeds: int, jobs: int, minutes: float) -> Sweep:
    """Returns the smallest sizes that this machine trains in so many minutes, and says how many.

    Of each run its steps are estimated from measured ones, and its start, compilation and
    evaluation from how long the same took while measuring.
    """
    begun = time.monotonic()
    whole = quickstart(seeds)
    speeds = measure_speeds(whole.runs, whole.execution)
    start = time.monotonic() - begun
    seconds = [(speeds.seconds(run) or 0) + start for run in quickstart(1).runs]
    taken = [sum(seconds[first:]) * seeds / jobs for first in range(len(RUNGS))]
    first = next((i for i, s in enumerate(taken) if s <= 60 * minutes), len(RUNGS) - FEWEST)
    first = min(first, len(RUNGS) - FEWEST)
    told = (
        f"{len(RUNGS) - first} of {len(RUNGS)} sizes: about {clock(taken[first])} on this machine"
    )
    print(told + (f"; all take about {clock(taken[0])} (--full)" if first else ""), flush=True)
    note = "" if not first else (
        f" This page has the {len(RUNGS) - first} smallest of {len(RUNGS)} sizes, which fit about "
        f"{minutes:g} minutes on the machine that made it; --full trains all."
    )  # fmt: skip
    return quickstart(seeds, RUNGS[first:], note)


def main() -> int:
    """Trains what is not trained yet, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default=f"runs/{SWEEP.identity}", help="the study's folder")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each size")
    parser.add_argument("--jobs", type=int, help="runs at a time; one for each core by default")
    parser.add_argument("--full", action="store_true", help="every size, however long it takes")
    parser.add_argument("--minutes", type=float, default=10, help="without --full; default: 10")
    arguments = parser.parse_args()
    folder, jobs = Path(arguments.run_dir), arguments.jobs or os.cpu_count() or 1
    whole = quickstart(arguments.seeds)
    is_begun = any(directory.has_begun() for directory in whole.directories(folder)[:1])
    if arguments.full or is_begun:
        sweep = whole
    else:
        sweep = fitting(arguments.seeds, jobs, arguments.minutes)
    return run_sweep(sweep, folder, LocalEngine(sweep, folder, arguments.jobs))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        sys.exit(130)
