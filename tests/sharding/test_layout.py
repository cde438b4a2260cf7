"""One owner of the layout: the root of a model, whose layers ask for it while they are traced."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from support.helpers import MESHES, build, random_batch, tiny_moe

from jaxgen.errors import ShardingError
from jaxgen.sharding.layout import Layout, current_layout, using
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules


def test_outside_a_model_there_is_none():
    with pytest.raises(ShardingError, match="no layout is in force"):
        current_layout()
    with using(Layout(scan_unroll=2)):
        with using(Layout(scan_unroll=3)):
            assert current_layout().scan_unroll == 3
        assert current_layout().scan_unroll == 2
    with pytest.raises(ShardingError, match="scan_unroll=0"):
        Layout(scan_unroll=0)


def test_the_root_alone_holds_it():
    model = build(tiny_moe())
    holders = [
        path
        for path, module in nnx.iter_modules(model)
        for value in vars(module).values()
        if isinstance(value, Layout | Rules)
    ]
    assert holders == [()]


@pytest.mark.slow
def test_a_program_is_of_the_layout_that_its_model_has():
    model, batch = build(tiny_moe()), random_batch()
    traced = []

    @jax.jit
    def hidden(model):
        traced.append(model.layout)
        return model(batch).hidden

    layouts = Layout(), Layout(remat="full"), Layout(scan_unroll=2)
    for layout in (*layouts, *layouts):
        np.testing.assert_allclose(
            hidden(model.with_layout(layout)), hidden(model), rtol=1e-5, atol=1e-6
        )
    assert traced == list(layouts)
    assert "remat" in str(jax.make_jaxpr(hidden)(model.with_layout(Layout(remat="full"))))
    assert model.layout == Layout()


@pytest.mark.slow
def test_rules_move_parameters_and_nothing_else():
    batch = random_batch()
    expected = jax.jit(lambda m: m(batch).hidden)(build(tiny_moe()))
    with jax.set_mesh(make_mesh(MESHES["tensor"])):
        for rules in (Rules(), Rules(vocab=None, mlp=None)):
            model: Any = build(tiny_moe(), Layout(rules))
            spec = jax.typeof(model.embedding.table[...]).sharding.spec
            assert spec == jax.P(rules.vocab, "fsdp")
            hidden = jax.jit(lambda m: m(batch).hidden)(model)
            np.testing.assert_allclose(np.asarray(hidden), expected, rtol=1e-4, atol=1e-5)
