"""How much is repeated text worth to models of several sizes?

Four sizes of transformers learn English prose, Python's own documentation, from pools of it that
are parts of one another: all of it, a 16th, a 32nd, a 128th. Each pool is read for three lengths,
so that the longest runs see all of it less than once and the smallest pool, five files, about
sixty times, and the largest model has forty parameters for a byte of it. All are evaluated on the
same files, which none has read. The law is that of Muennighoff et al. (2305.16264): how many new
tokens repeated ones are worth. The longest runs of the largest model, on all data and on the
smallest pool, are predicted before they are trained. About ten minutes on two cores (450 GFLOP/s).

    jaxgen sweep experiments/data_repeats.py         # shows the runs
    jaxgen sweep experiments/data_repeats.py --go    # the report is runs/data_repeats@2/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.mixtures import Mixture
from jaxgen.data.preprocessors import Keep
from jaxgen.data.tasks import Task
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep, axis, grid, product
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

SHAPE = ModelShape(head_dim=16, mlp_ratio=4)
SIZES = ((2, 96), (2, 48), (1, 32), (1, 16))
"""(layers, width), the largest first: the last runs of a study should be short."""
SHARES = {"all": 1.0, "16th": 1 / 16, "32nd": 1 / 32, "128th": 1 / 128}
"""Shares of the training records. Version 1 stopped at a 16th, where repeats cost nothing yet."""
MAX_CHARACTERS = 6000
"""The longest text. A pool of few long texts would have other words, not only fewer."""
LENGTH, ROWS = 128, 4
STEPS = (1080, 360, 120)
"""Steps are of 512 tokens."""
LEAD = (
    "Four sizes of transformers read parts of Python's documentation, up to sixty times. How much "
    "is a repeated token worth beside a new one, and when do more epochs stop helping?"
)


def size(layers: int, width: int) -> Change:
    """Returns one size. Narrow models train well at larger rates."""
    rung = SHAPE.change(f"{layers}x{width}", layers, width)
    schedule = WarmupCosine(peak=3e-3 * (32 / width) ** 0.5, warmup="5%")
    return Change(rung.label, {**rung.values, "train.schedule": schedule})


def duration(steps: int) -> Change:
    """Returns one length of training."""
    return Change(
        f"d{steps * ROWS * LENGTH // 1000}k",
        {"train.steps": steps},
    )


def pool(share: float) -> Mixture:
    """Returns a part of the prose. All parts have one name, so that one law is fitted to them."""
    source, steps = (
        StandardLibraryProse(heldout_fraction=0.15),
        (Keep(max_characters=MAX_CHARACTERS),),
    )
    return Mixture("prose", (Task("prose", source, preprocessors=steps, train_share=share),))


def repeats() -> list[RunConfig]:
    """Returns every size with every length and every pool."""
    base = load(["runs/quickstart.gin"])
    base = dataclasses.replace(
        base,
        train=dataclasses.replace(base.train, length=LENGTH, batch_size=ROWS),
        # Nearly all that is held out.
        evaluation=dataclasses.replace(base.evaluation, num_batches=8, batch_size=64),
    )
    pools = axis("mixture", {name: pool(share) for name, share in SHARES.items()}, name="")
    return grid(
        base, product([duration(s) for s in STEPS], [size(*shape) for shape in SIZES], pools)
    )


SWEEP = Sweep(
    "data_repeats",
    "2",
    repeats(),
    execution=ExecutionConfig(scan_unroll=2, log_every="2.5%", checkpoint_every="100%"),
    title="What repeated data are worth",
    lead=LEAD,
    held_out=["d552k-2x96-all", "d552k-2x96-128th"],
)
