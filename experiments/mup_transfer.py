"""Does the best learning rate stay where it is as a model widens?

Ten minutes on two cores (450 GFLOP/s). Models of several widths learn Python's own source at a grid
of rates, under the standard parametrisation and under muP with the smallest width as its base.

    python experiments/mup_transfer.py --out=runs/mup_transfer
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np

from jaxgen.batch import Batch
from jaxgen.configuration import load
from jaxgen.diagnostics.transfer import RateSweep, final_losses
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parametrization import Parametrization
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.loading import open_data

SHAPE = ModelShape(head_dim=16, mlp_ratio=2)


def model(
    width: int, vocab_size: int, parametrization: Parametrization | None
) -> TransformerConfig:
    """Returns a model of two layers with an unembedding of its own."""
    return TransformerConfig(
        vocab_size=vocab_size,
        tie_embeddings=False,
        parametrization=parametrization,
        **SHAPE.fields(2, width),
    )


def read_batches(base: RunConfig, steps: int) -> Batch:
    """Returns the first batches of a run, [steps, batch, length]."""
    data = open_data(base.mixture, base.train, steps)
    batches = data.iterate()
    drawn = [next(batches) for _ in range(steps)]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *drawn)


def draw(sweeps: dict[str, RateSweep], path: Path) -> None:
    """Draws loss over log2 of the rate: a panel a parametrisation, a curve a width."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(sweeps), figsize=(5 * len(sweeps), 4), sharey=True)
    for panel, (name, sweep) in zip(panels, sweeps.items(), strict=True):
        for width, losses, best in zip(sweep.widths, sweep.losses, sweep.best, strict=True):
            (line,) = panel.plot(np.log2(sweep.rates), losses, marker=".", label=f"width {width}")
            x = np.log2(sweep.rates[best])
            panel.plot(x, losses[best], marker="o", color=line.get_color())
        panel.set(title=name, xlabel="log2 of the learning rate")
    panels[0].set_ylabel("training loss, nats a byte")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Trains, writes the table and draws it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/mup_transfer", help="folder of the results")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--powers", type=int, nargs="+", default=list(range(-12, -3)))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    base = load(
        ["runs/quickstart.gin"],
        [
            "mixture.tasks=[@prose/task()]", "mixture.weights={'prose': 1.0}",
            "train.length=64", "train.batch_size=8", f"train.steps={arguments.steps}",
            f"train.seed={arguments.seed}",
        ],
    )  # fmt: skip
    batches = read_batches(base, arguments.steps)
    widths, rates = sorted(arguments.widths), tuple(2.0**p for p in sorted(arguments.powers))
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    # At the base width muP is the standard parametrisation, so the first rows agree.
    mup = Parametrization("mup", base_embed_dim=widths[0])
    sweeps, start = {}, time.monotonic()
    for name, parametrization in (("standard", None), ("mup", mup)):
        losses = []
        for width in widths:
            config = model(width, base.model.vocab_size, parametrization)
            losses.append(final_losses(config, rates, batches, arguments.seed))
            row = " ".join(f"{loss:.3f}" for loss in losses[-1])
            print(f"{time.monotonic() - start:5.0f} s  {name:8} {width:4}: {row}", flush=True)
        sweep = sweeps[name] = RateSweep(tuple(widths), rates, np.array(losses))
        best = [int(np.log2(rates[index])) for index in sweep.best]
        print(f"{name}: best log2 rate {best}, moves {sweep.shift}, transfers: {sweep.transfers}")
    table = {
        name: {
            "rows": sweep.rows(),
            "best": [rates[index] for index in sweep.best],
            "at_edge": sweep.at_edge,
            "shift": sweep.shift,
            "transfers": sweep.transfers,
        }
        for name, sweep in sweeps.items()
    }
    (out / "mup_transfer.json").write_text(json.dumps(table | {"steps": arguments.steps}, indent=2))
    draw(sweeps, out / "mup_transfer.png")
    print(f"table and plot: {out.absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
