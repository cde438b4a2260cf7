"""The tiny member of every family learns from the embedded mixture, on any mesh alike."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from support.helpers import MESHES, families, one_device_mesh, tiny_model

from jaxgen.batch import Batch, EncoderInput
from jaxgen.configuration import load
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine
from jaxgen.training.step import make_train_step

STEPS = 30
MASK = 300  # A token that no text has.


@functools.cache
def batches() -> list[Batch]:
    mixture = load(["mixtures/quickstart.gin"], root="mixture")
    data = mixture.open(batch_size=8, length=64, seed=0)
    return [data.batch(step) for step in range(STEPS)]


def suited(batch: Batch, config, step: int) -> Batch:
    """The batch as the family reads it: with a source to copy from, or with tokens masked."""
    if config.num_encoder_layers:
        return dataclasses.replace(
            batch, encoder=EncoderInput(batch.targets, batch.positions, batch.segment_ids)
        )
    if config.output_transform:
        is_masked = np.random.default_rng(step).random(batch.shape) < 0.15
        return dataclasses.replace(
            batch,
            tokens=np.where(is_masked, MASK, batch.tokens).astype(np.int32),
            targets=batch.tokens,
            loss_weights=(is_masked & (batch.segment_ids > 0)).astype(np.float32),
        )
    return batch


def losses(family: str, mesh: jax.sharding.Mesh) -> np.ndarray:
    config = tiny_model(family)
    train = TrainConfig(
        steps=STEPS, batch_size=8, length=64, schedule=WarmupCosine(peak=1e-3, warmup=3)
    )
    program = build_program(config, train, mesh, Rules())
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        step = make_train_step(program.optimizer, 6, train.clip_norm, seed=train.seed)
        curve = []
        for index, batch in enumerate(batches()):
            placed = put_batch(suited(batch, config, index), mesh, program.layout.rules)
            state, metrics = step(state, placed)
            weight, nll = np.asarray(metrics.per_task).sum(axis=0)[:2]
            curve.append(nll / weight)
    return np.array(curve)


# Of families whose axes others have too; every family is in the slow tests.
COVERED = ("gpt3", "gemma2", "lamda", "llama", "mt_nlg", "olmo2", "qwen3", "starcoder2", "t5",
           "transformer")  # fmt: skip


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.slow] if f in COVERED else []) for f in families()],
)
def test_a_tiny_member_learns_alike_on_one_device_and_on_eight(family):
    curve = losses(family, one_device_mesh())
    assert curve[-5:].mean() < curve[:5].mean() - 0.3, curve
    on_eight = losses(family, make_mesh(MESHES["mixed"]))
    np.testing.assert_allclose(on_eight, curve, rtol=1e-4)
