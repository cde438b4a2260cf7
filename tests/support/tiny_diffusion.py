"""The shipped runs of diffusion with networks of a few thousand parameters."""

import dataclasses

from jaxgen.configuration import load

UNET = [
    "unet.width=8", "unet.blocks=(1,)", "unet.norm_groups=4", "unet.head_dim=4",
    "made_pictures.num_examples=8", "made_pictures.verified=False", "evaluation.batch_size=8",
    "evaluation.num_batches=1",
]  # fmt: skip
TOWER = ["model.num_layers=1"]
ENCODER, PRIOR = ["ENCODER='../clip'"], ["PRIOR='../prior'"]
BASE = ["BASE='../base'"]
STACK = [
    "stack.num_layers=2", "stack.embed_dim=32", "stack.mlp_dim=32",
]  # fmt: skip
BINDINGS = {
    "sprites": [*STACK, *UNET[4:], "model.num_layers=1", "euler.steps=2"],
    "imagen": [*UNET, *TOWER, *ENCODER, "ddim.steps=2"],
    "imagen_upsampler": [*UNET, *TOWER, *ENCODER, *BASE, "ddim.steps=2"],
    "latent": [*UNET, *TOWER, *ENCODER, "AUTOENCODER='../kl'", "dpm_solver.steps=2"],
    "prior": [
        *TOWER, *ENCODER, "prior/stack.num_layers=1",
        "made_vectors.num_examples=8", "evaluation.batch_size=8", "ddim.steps=2",
        "evaluation.num_batches=1",
    ],
    "decoder": [*UNET[:4], *TOWER, *ENCODER, *PRIOR, "ddpm.steps=2"],
}  # fmt: skip


def tiny_run(name: str, *bindings: str, evaluates: bool = False):
    """The configuration of a run of four steps, which begins with nothing of another."""
    own = [*BINDINGS[name], "train.batch_size=8", "train.steps=4", *bindings]
    config = load([f"runs/diffusion/{name}.gin"], own)
    settings = config.evaluation
    if not evaluates:
        settings = dataclasses.replace(settings, evaluators=())
    return dataclasses.replace(config, initialize_parts=None, evaluation=settings)
