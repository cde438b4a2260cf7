"""Tiny members learn pictures among texts on eight devices as on one, whatever is masked."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import MESHES, one_device_mesh, tiny_model
from support.media import Greys, Signs

from jaxgen.batch import Batch
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated.sprites import Sprites
from jaxgen.data.interleaving import Interleave
from jaxgen.data.masked_codes import MaskedCodes
from jaxgen.data.masked_modalities import MaskedModalities, ModalityDenoising
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.masks import Bidirectional, BlockCausal
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine

pytestmark = pytest.mark.slow
STEPS = 4
CODEC = MultimodalCodec(ByteCodec(SpecialTokens(text_pads=48)), (Greys(12, 12), Signs()))
SOURCE = Sprites(size=12, tags=("colors",), num_examples=400)
DRAWN, DESCRIBED = ("description", "image"), ("image", "description")


def task(name: str, fields: tuple[str, ...], **features: Any) -> Task:
    step = Interleave(fields, loss_on_all=True)
    return Task(name, SOURCE, PromptAnswer(**features), CODEC, preprocessors=(step,))


def seen_both_ways(mask: Any) -> Any:
    config = tiny_model("gemini")
    return dataclasses.replace(
        config, layers=tuple(dataclasses.replace(one, mask=(mask,)) for one in config.layers)
    )


@functools.cache
def case(name: str) -> tuple[Any, Any, NextToken, int]:
    """(the model's configuration, its data, its objective, the length of its rows)."""
    own = NextToken(in_place=True)
    config, tasks, objective, length = {
        "dalle": lambda: (
            tiny_model("dalle"),
            (task("drawn", DRAWN, padded_prompt=48),),
            NextToken(modality_weights={"text": 3.0, "image": 7.0}),
            196,
        ),
        "gemini": lambda: (
            tiny_model("gemini"),
            (task("drawn", DRAWN), task("described", DESCRIBED)),
            NextToken(),
            208,
        ),
        "chameleon": lambda: (
            tiny_model("chameleon"), (task("drawn", DRAWN),), NextToken(z_loss=1e-5), 208
        ),
        "maskgit": lambda: (
            seen_both_ways(BlockCausal()),
            (task("drawn", DRAWN, denoising=MaskedCodes()),),
            own,
            208,
        ),
        "four_m": lambda: (
            seen_both_ways(Bidirectional()),
            (task("drawn", DRAWN, denoising=MaskedModalities(64, 64)),),
            own,
            208,
        ),
        "unified_io": lambda: (
            seen_both_ways(BlockCausal()),
            (task("drawn", DRAWN, denoising=ModalityDenoising()),),
            NextToken(),
            400,
        ),
    }[name]()  # fmt: skip
    data = Mixture("m", tasks).open(batch_size=8, length=length, seed=0)
    return config, data, objective, length


@functools.cache
def curve(name: str, mesh_name: str) -> list[tuple[float, float]]:
    """(the objective, the gradient's norm) of each step."""
    mesh = one_device_mesh() if mesh_name == "one" else make_mesh(MESHES[mesh_name])
    config, data, objective, length = case(name)
    train = TrainConfig(
        steps=STEPS, batch_size=8, length=length, schedule=WarmupCosine(peak=3e-3, warmup=1)
    )
    program = build_program(config, train, mesh, objective=objective)
    found = []
    with jax.set_mesh(mesh):
        state, step = program.fresh_state(), program.train_step()
        for index in range(STEPS):
            batch: Batch = data.batch(index)
            state, metrics = step(state, put_batch(batch, mesh, program.layout.rules))
            found.append((float(metrics.objective), float(metrics.gradient_norm)))
    return found


@pytest.mark.parametrize("mesh_name", ["mixed", "sequence"])
@pytest.mark.parametrize(
    "name", ["dalle", "gemini", "chameleon", "maskgit", "four_m", "unified_io"]
)
def test_a_curve_on_eight_devices_is_that_on_one(name, mesh_name):
    alone = np.array(curve(name, "one"))
    assert alone[-1, 0] < alone[0, 0] - 0.2
    np.testing.assert_allclose(curve(name, mesh_name), alone, rtol=2e-4)
