"""Runs of diffusion of two steps, small enough for tests: pairs, bases, upsamplers, priors."""

from pathlib import Path

from jaxgen.cli import main

SMALL = [
    "--gin.train.steps=2", "--gin.train.batch_size=8", "--gin.evaluation.num_batches=1",
    "--gin.evaluation.batch_size=8",
]  # fmt: skip
UNET = [
    "--gin.unet.width=8", "--gin.unet.blocks=(1,)", "--gin.unet.norm_groups=4",
    "--gin.unet.head_dim=8",
]  # fmt: skip
FEW = ["--gin.made_pictures.num_examples=8", "--gin.picture_sampling.sampler=@ddim()",
       "--gin.ddim.steps=2"]  # fmt: skip


def train(name: str, run_dir: Path, *flags: str) -> None:
    """Trains two steps of a shipped run."""
    assert (
        main(["train", f"--gin_file=runs/{name}.gin", f"--run_dir={run_dir}", *SMALL, *flags]) == 0
    )


def pair_run(run_dir: Path, *flags: str) -> None:
    """A contrastive run of two steps."""
    few = ["--gin.retrieval.num_pairs=8", "--gin.zero_shot.num_examples=8"]
    train("contrastive", run_dir, *few, *flags)
