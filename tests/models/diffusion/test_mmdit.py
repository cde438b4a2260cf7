"""The transformer of two streams: counts, operations, what each stream sees, meshes, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.denoisers import (
    MMDITS,
    abstract_denoiser,
    build_denoiser,
    denoise,
    dit_stack,
    inputs_of,
    on_mesh,
    tiny_mmdit,
    without,
)

from jaxgen.errors import ConfigError, DataError, ShardingError
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.mmdit import positions_of
from jaxgen.models.diffusion.patching import grid_waves
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.ops.positions import Rope
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh

PUBLISHED = {
    "SD3 medium": (24, {}, 2_028_328_000),
    "SD3.5 large": (38, {"qk_norm": True}, 8_056_627_520),
    "SD3.5 medium": (24, {"qk_norm": True, "dual_layers": 13}, 2_243_171_520),
}
"""Depths, fields and parameters as `diffusers` builds the released configurations."""


@pytest.mark.parametrize("name", MMDITS)
def test_counts_equal_the_real_tree(name):
    config = MMDITS[name]
    count = config.count_denoiser()
    assert count.total == count.active == number_of_parameters(abstract_denoiser(config))


@pytest.mark.parametrize("name", PUBLISHED)
def test_released_members_have_their_counts(name):
    depth, changes, parameters = PUBLISHED[name]
    stack = dit_stack(num_layers=depth, embed_dim=64 * depth, num_heads=depth, mlp_dim=256 * depth)
    config = tiny_mmdit(
        stack=stack, size=128, channels=16, context_dim=4096, pooled_dim=2048, table_side=192,
        **changes,
    )  # fmt: skip
    assert config.count_denoiser().total == parameters


def test_flux_has_its_count():
    flux = MMDITS["flux"]
    rope = Rope(sections=(0, 8, 28, 28), interleaved=True)
    layers = (dataclasses.replace(flux.stack.layers[0], rope=rope),)
    stack = dataclasses.replace(
        flux.stack, num_layers=19, embed_dim=3072, num_heads=24, mlp_dim=12_288, layers=layers
    )
    config = dataclasses.replace(
        flux, stack=stack, size=128, channels=16, context_dim=4096, pooled_dim=768, single_layers=38
    )
    assert config.count_denoiser().total == 11_901_408_320  # black-forest-labs/FLUX.1-dev


@pytest.mark.parametrize("name", MMDITS)
def test_flops_are_those_of_the_compiled_program(name, monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config = MMDITS[name]
    inputs = inputs_of(config, batch=4)
    program = jax.jit(denoise).lower(abstract_denoiser(config), *inputs).compile().as_text()
    assert program is not None
    assert abs(read_work(program, {}).flops / (4 * config.picture_flops(5)) - 1) < 0.01


@pytest.mark.slow
def test_a_network_begins_at_zero():
    config = MMDITS["sd3"]
    with using(Layout()):
        model = config.build_denoiser(nnx.Rngs(0))
    prediction = denoise(model, *inputs_of(config))
    assert prediction.shape == (3, 8, 8, 3)
    assert not prediction.any()


@pytest.mark.slow
def test_what_is_read_and_what_is_masked():
    config = MMDITS["sd35_medium"]
    model = build_denoiser(config)
    x, time, conditioning = inputs_of(config)
    run = jax.jit(denoise)
    expected = run(model, x, time, without(conditioning, mask=None))
    for field in ("sequence", "pooled"):
        other = without(conditioning, mask=None, **{field: getattr(conditioning, field) + 1})
        assert np.abs(run(model, x, time, other) - expected).max() > 1e-3, field
    assert np.abs(run(model, x, time + 40, without(conditioning, mask=None)) - expected).max() > 0
    short = without(conditioning, sequence=conditioning.sequence[:, :2], mask=None)
    masked = without(conditioning, mask=jnp.broadcast_to(jnp.arange(5) < 2, (3, 5)))
    np.testing.assert_allclose(
        denoise(model, x, time, short), denoise(model, x, time, masked), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_a_text_has_no_order_and_a_picture_has():
    config = MMDITS["sd3"]
    model = build_denoiser(config)
    x, time, conditioning = inputs_of(config)
    conditioning = without(conditioning, mask=None)
    turned = without(conditioning, sequence=conditioning.sequence[:, ::-1])
    expected = denoise(model, x, time, conditioning)
    np.testing.assert_allclose(denoise(model, x, time, turned), expected, rtol=1e-4, atol=1e-5)
    other = denoise(model, x[:, ::-1], time, conditioning)[:, ::-1]
    assert np.abs(other - expected).max() > 1e-3


def test_positions_are_the_middle_of_a_larger_grid():
    config = MMDITS["sd3"]  # 4 x 4 patches of a grid of 6 x 6, whose positions are those of 4.
    grid = grid_waves(6, 32, 4 / 6).reshape(6, 6, 32)
    np.testing.assert_array_equal(positions_of(config).reshape(4, 4, 32), grid[1:5, 1:5])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd35_medium", "flux"])
def test_a_mesh_and_recomputation_change_rounding_alone(name):
    config = MMDITS[name]
    inputs = inputs_of(config, batch=8)

    def loss(model, layout):
        return (denoise(model, *inputs, layout=layout) ** 2).mean()

    model = build_denoiser(config)
    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(model, Layout())
    layout = Layout(remat="full")
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        split = on_mesh(config, model, layout)
        found = jax.jit(jax.value_and_grad(loss), static_argnums=1)(split, layout)
    np.testing.assert_allclose(value, found[0], rtol=1e-5)
    pairs = zip(named_parameters(gradient), named_parameters(found[1]), strict=True)
    for (path, a), (_, b) in pairs:
        tolerance = 2e-4 * np.abs(a[...]).max() + 1e-7
        np.testing.assert_allclose(a[...], b[...], rtol=0, atol=tolerance, err_msg=path)


def test_stages_are_refused():
    config = tiny_mmdit(stack=dit_stack(num_layers=1))
    model, inputs = abstract_denoiser(config), inputs_of(config, batch=8)
    with (
        pytest.raises(ShardingError, match="do not run in pipeline stages"),
        jax.set_mesh(make_mesh(MeshConfig(data=4, stage=2))),
    ):
        jax.eval_shape(lambda model: denoise(model, *inputs), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 9}, "mmdit.size=9 is not divided"),
        ({"table_side": 3}, "has no middle"),
        ({"dual_layers": 4}, "exceeds the 3 blocks"),
        ({"stack": dit_stack(dropout=0.1)}, "has dropout=0.1"),
        ({"stack": dit_stack(layers=(LayerConfig(rope=None),))}, "are causal"),
        ({"stack": dit_stack(layers=(LayerConfig(mask=(Bidirectional(),)),))}, "rope.sections="),
        ({"stack": MMDITS["flux"].stack}, "are of a table"),
        ({"stack": dit_stack(embed_dim=30, num_heads=3)}, "a multiple of 4"),
    ],
)
def test_what_makes_no_network_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_mmdit(**changes)


def test_a_conditioning_without_a_text_is_refused():
    config = MMDITS["sd3"]
    x, time, conditioning = inputs_of(config)
    with pytest.raises(DataError, match="sequence"):
        denoise(build_denoiser(config), x, time, without(conditioning, sequence=None))
