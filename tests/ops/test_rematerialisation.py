"""What a backward pass computes again, counted in the compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import build, random_batch, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.dense import QUERY_CHUNKS
from jaxgen.ops.linear import linear
from jaxgen.ops.rematerialisation import NAMES, rematerialised
from jaxgen.planning.hlo import parse_module
from jaxgen.sharding.layout import Layout
from jaxgen.training.execution import ExecutionConfig


def products(function, *arguments) -> int:
    """Returns how many matrix products a program holds, those of fusions among them."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    computations = parse_module(text).computations.values()
    return sum(one.opcode == "dot" for each in computations for one in each.instructions.values())


def assert_same(one, other):
    """Compares two gradients, each a function and its model."""
    ends = [jax.tree.leaves(jax.jit(function)(model)) for function, model in (one, other)]
    for found, expected in zip(*ends, strict=True):
        if jnp.issubdtype(found.dtype, jnp.floating):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy, expected", [("none", 3), ("dots", 3), ("full", 4)])
def test_only_full_rematerialisation_computes_products_again(policy, expected):
    """A layer of a scan has one product, and two in its backward pass."""

    def layer(x, weight):
        return jnp.tanh(linear("bd,df->bf", x, weight, jax.P())), None

    def loss(x, weights):
        return jnp.sum(jax.lax.scan(rematerialised(layer, policy), x, weights)[0])

    arguments = jnp.ones((4, 8)), jnp.full((6, 8, 8), 0.1)
    assert products(jax.grad(loss, argnums=(0, 1)), *arguments) == expected


def gradient(layout: Layout):
    """Returns a model's gradient as a function, and the model."""
    batch = random_batch()
    model = build(tiny_dense(), layout)
    return jax.grad(lambda m: NextToken()(m, batch, None).total, allow_int=True), model


@pytest.mark.slow
def test_a_model_keeps_its_products_where_it_is_told_to():
    counts = {remat: products(*gradient(Layout(remat=remat))) for remat in ("none", "dots", "full")}
    # Scores and what attention reads have a batch, and are computed again.
    assert counts["none"] < counts["dots"] < counts["full"]


@pytest.mark.slow
def test_values_are_kept_by_name():
    """Of the products that "full" computes again, each name spares those that lead to it alone."""
    full = products(*gradient(Layout(remat="full")))
    assert full - products(*gradient(Layout(remat="full", remat_saved=("up",)))) == 1
    some = ("query", "key", "value")
    assert full - products(*gradient(Layout(remat="full", remat_saved=some))) == 3
    function, model = gradient(Layout(remat="full", remat_saved=NAMES))
    # What is left are the scores of attention, which have no name: they are what is too large.
    scores = products(function, model) - products(*gradient(Layout(remat="none")))
    assert scores == QUERY_CHUNKS
    assert_same((function, model), gradient(Layout(remat="none")))


@pytest.mark.slow
def test_values_are_sent_to_the_host_by_name():
    full = products(*gradient(Layout(remat="full")))
    function, model = gradient(Layout(remat="full", remat_offloaded=("up",)))
    assert full - products(function, model) == 1
    program = str(jax.make_jaxpr(function)(model))
    up = f"f32[2,{','.join(map(str, random_batch().tokens.shape))},64]"
    assert up.replace("f32", "f32<host>") in program and up not in program
    assert_same((function, model), gradient(Layout(remat="full")))


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"remat": "full", "remat_saved": ("keys",)}, "query, key"),
        ({"remat_saved": ("up",)}, "none"),
        ({"remat": "full", "remat_offloaded": ("keys",)}, "query, key"),
        ({"remat": "dots", "remat_offloaded": ("up",)}, "not 'dots'"),
        ({"remat": "full", "remat_saved": ("up",), "remat_offloaded": ("up",)}, "both"),
    ],
)
def test_names_that_keep_nothing_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        ExecutionConfig(**settings)
