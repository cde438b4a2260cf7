"""U-Net, transformer or codes: what draws best for its compute, and what does guidance cost?

At each of three budgets of training FLOPs, sprites are learned from their captions in three ways:
by flow with a U-Net, by flow with a transformer on patches (x-prediction, as JiT), and as the codes
of a palette in one stream with the text. Combinations of colour and shape are held out. Of the
flows every rung also makes four pictures of a caption at four scales of guidance: how many
attributes are right, against how unlike the pictures are.

    jaxgen palette train sprites_drawn --patch=1x1 --output=sprites.safetensors
    jaxgen sweep experiments/diffusion.py          # shows the runs
    jaxgen sweep experiments/diffusion.py --go     # the report is runs/diffusion@1/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.configuration import load
from jaxgen.evaluation.made_pictures import MadePictures
from jaxgen.generation.diffusion.guidance import Guidance
from jaxgen.generation.diffusion.samplers import Euler
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.diffusion.unet_config import UNetConfig
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import RectifiedFlow
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep
from jaxgen.sweeps.grid import changed
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

BUDGETS = (1e12, 3e12, 1e13)
WIDTHS = {"unet": (8, 16, 32), "dit": (32, 64, 128), "codes": (32, 64, 128)}
SEEDS = range(2)
ROWS, LENGTH = 16, 72
SCALES = (1.0, 2.0, 4.0, 8.0)
SIZE = 12
"""Pixels of a side, as the codes of runs/sprites.gin have it."""
GUIDED = tuple(
    MadePictures(
        PictureSampling(Euler(20), Guidance(scale)),
        num_examples=64,
        samples=4,
        shown=8,
        name=f"guidance_{scale:g}",
    )
    for scale in SCALES
)
FLOWS = load(
    ["runs/diffusion/sprites.gin"],
    [f"sprites.size={SIZE}", f"image_text_pairs.image_size={SIZE}", f"dit.size={SIZE}"],
)
UNET = dataclasses.replace(
    FLOWS,
    model=dataclasses.replace(
        FLOWS.model,
        denoiser=UNetConfig(
            size=SIZE, context_dim=96, multipliers=(1, 2), blocks=(1,), attention=("joint",),
            middle_attention="joint", norm_groups=4, head_dim=8,
        ),
    ),
    objective=DiffusionLoss(Corruption(RectifiedFlow(), "flow")),
)  # fmt: skip
CODES = load(["runs/sprites.gin"], ["IMAGE_PALETTE='sprites.safetensors'"])


def steps_of(config: RunConfig, budget: float, rows: int) -> int:
    """Returns the steps that a budget pays for."""
    length = config.train.length
    return max(20, round(budget / (config.model.flops(length) * length * rows)))


def rung(family: str, width: int, budget: float, seed: int) -> RunConfig:
    """Returns a model of a width, trained for a budget."""
    base = {"unet": UNET, "dit": FLOWS, "codes": CODES}[family]
    name = f"{family}-c{budget / 1e9:.0f}G-w{width}"
    values = {
        "unet": {"model.denoiser.width": width},
        "dit": {
            "model.denoiser.stack.embed_dim": width,
            "model.denoiser.stack.mlp_dim": 4 * width,
        },
        "codes": {
            "model.embed_dim": width,
            "model.num_heads": width // 32,
            "model.mlp_dim": 2 * width,
        },
    }[family]
    sized = changed(base, Change(name, values), name)
    rows = ROWS if family != "codes" else base.train.batch_size
    training = {
        "train.steps": steps_of(sized, budget, rows),
        "train.batch_size": rows,
        "train.seed": seed,
        "train.schedule": WarmupCosine(peak=0.1 / width, warmup="5%"),
    }
    run = changed(sized, Change(name, training), f"{name}-seed{seed}")
    if family == "codes":
        return run
    return dataclasses.replace(
        run, evaluation=dataclasses.replace(run.evaluation, evaluators=GUIDED)
    )


SWEEP = Sweep(
    "diffusion",
    "1",
    [
        rung(family, width, budget, seed)
        for budget in reversed(BUDGETS)
        for family, widths in WIDTHS.items()
        for width in widths
        for seed in SEEDS
    ],
    execution=ExecutionConfig(log_every="5%", checkpoint_every="100%"),
    title="U-Net, transformer or codes?",
    lead=(
        "Sprites from their captions by a U-Net and a transformer of flow and by codes in one "
        "stream, at equal training FLOPs. What has more attributes right for its compute, and what "
        "does guidance buy in accuracy and cost in diversity?"
    ),
)
