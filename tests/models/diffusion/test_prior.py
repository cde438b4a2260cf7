"""unCLIP's prior: its count, its operations, what it reads, a mesh, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.denoisers import (
    abstract_denoiser,
    build_denoiser,
    denoise,
    dit_stack,
    inputs_of,
    on_mesh,
    tiny_prior,
    without,
)

from jaxgen.errors import ConfigError, DataError
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.base import DenoiserConfig
from jaxgen.models.diffusion.prior_config import PriorConfig
from jaxgen.models.parameters import Frozen, named_parameters, number_of_parameters
from jaxgen.models.stack_config import StackConfig
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh


@pytest.mark.parametrize("statistics", [False, True])
def test_counts_equal_the_real_tree(statistics):
    config = tiny_prior(statistics=statistics, pooled_dim=12, context_dim=8)
    assert isinstance(config, DenoiserConfig)
    model = abstract_denoiser(config)
    assert config.count_denoiser().total == number_of_parameters(model)


def test_the_released_layout_has_its_count():
    stack = StackConfig(
        num_layers=20, embed_dim=2048, num_heads=32, mlp_dim=8192, norm="layer", gated=False,
        biases=("qkv", "attention_out", "feed_forward", "norm"), layers=(LayerConfig(rope=None),),
    )  # fmt: skip
    config = PriorConfig(
        stack=stack, channels=768, context_dim=768, pooled_dim=768, statistics=True
    )
    assert config.count_denoiser().total == 1_022_030_080


def test_flops_are_those_of_the_compiled_program(monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config = tiny_prior()
    inputs = inputs_of(config, batch=4)
    program = jax.jit(denoise).lower(abstract_denoiser(config), *inputs).compile().as_text()
    assert program is not None
    assert abs(read_work(program, {}).flops / (4 * config.picture_flops(5)) - 1) < 0.01


@pytest.mark.slow
def test_what_is_read_and_what_is_masked():
    config = tiny_prior()
    model = build_denoiser(config)
    x, time, conditioning = inputs_of(config)
    run = jax.jit(denoise)
    everything = without(conditioning, mask=None)
    expected = run(model, x, time, everything)
    assert expected.shape == (3, 1, 1, 20)
    assert np.abs(run(model, x + 1, time, everything) - expected).max() > 1e-3
    assert np.abs(run(model, x, time + 40, everything) - expected).max() > 1e-3
    for field in ("sequence", "pooled"):
        other = without(everything, **{field: getattr(conditioning, field) + 1})
        assert np.abs(run(model, x, time, other) - expected).max() > 1e-3, field
    # A caption's padding is not read, and a shorter caption has the same last positions.
    short = without(everything, sequence=conditioning.sequence[:, :2])
    masked = without(conditioning, mask=jnp.broadcast_to(jnp.arange(5) < 2, (3, 5)))
    np.testing.assert_allclose(
        run(model, x, time, short), run(model, x, time, masked), rtol=1e-4, atol=1e-5
    )


def test_statistics_are_frozen_and_put_back():
    model = build_denoiser(tiny_prior(statistics=True))
    frozen = {name for name, p in named_parameters(model) if isinstance(p, Frozen)}
    assert frozen == {"mean", "stddev"}
    x = jnp.ones((2, 20))
    with using(Layout()):
        found = model.embeddings(x)
    np.testing.assert_allclose(found[0], model.stddev[...] + model.mean[...], rtol=1e-6)


@pytest.mark.slow
def test_a_mesh_changes_rounding_alone():
    config = tiny_prior()
    model, inputs = build_denoiser(config), inputs_of(config, batch=8)
    run = jax.jit(denoise)
    expected = run(model, *inputs)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        found = run(on_mesh(config, model, Layout()), *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_refusals():
    with pytest.raises(ConfigError, match="look ahead or turn"):
        tiny_prior(stack=dit_stack())
    config = tiny_prior(max_length=4)
    x, time, conditioning = inputs_of(config)
    with pytest.raises(DataError, match="has 5 states"):
        denoise(build_denoiser(config), x, time, conditioning)
