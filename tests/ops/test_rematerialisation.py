"""What a backward pass computes again, counted in the compiled program."""

import jax
import jax.numpy as jnp
import pytest
from support.helpers import build, random_batch, tiny_dense

from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.linear import linear
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.planning.hlo import parse_module
from jaxgen.sharding.layout import Layout


def products(function, *arguments) -> int:
    """Returns how many matrix products a program holds, those of fusions among them."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    computations = parse_module(text).computations.values()
    return sum(one.opcode == "dot" for each in computations for one in each.instructions.values())


@pytest.mark.parametrize("policy, expected", [("none", 3), ("dots", 3), ("full", 4)])
def test_only_full_rematerialisation_computes_products_again(policy, expected):
    """A layer of a scan has one product, and two in its backward pass."""

    def layer(x, weight):
        return jnp.tanh(linear("bd,df->bf", x, weight, jax.P())), None

    def loss(x, weights):
        return jnp.sum(jax.lax.scan(rematerialised(layer, policy), x, weights)[0])

    arguments = jnp.ones((4, 8)), jnp.full((6, 8, 8), 0.1)
    assert products(jax.grad(loss, argnums=(0, 1)), *arguments) == expected


def test_a_model_keeps_its_products_where_it_is_told_to():
    model_of = {
        remat: build(tiny_dense(), Layout(remat=remat)) for remat in ("none", "dots", "full")
    }
    batch = random_batch()

    def count(remat: str) -> int:
        model = model_of[remat]
        return products(
            jax.grad(lambda m: NextToken()(m, batch, None).total, allow_int=True), model
        )

    counts = {remat: count(remat) for remat in model_of}
    # Scores and what attention reads have a batch, and are computed again.
    assert counts["none"] < counts["dots"] < counts["full"]
