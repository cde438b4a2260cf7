"""Attention against the formula written out, and what exists in memory while it is computed."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.attention_calls import EveryOther
from support.helpers import build, one_row, source_of, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.models.block_config import LayerConfig
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention import attend as attend_module
from jaxgen.ops.attention.attend import IMPLEMENTATIONS, Implementation, attend
from jaxgen.ops.attention.biases import Alibi, AttentionBias, RelativeBias
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.masks import AttentionMask, Causal, Window, attention_side
from jaxgen.sharding.layout import Layout, using

LENGTH = 37  # No other size of the models below, nor a part or a product of them.


def call(predicates, same_tokens=True, bias=None, soft_cap=None, length=11):
    """Two heads of queries to each of keys; two segments."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 4, length, 8))
    segments = jnp.broadcast_to(jnp.where(jnp.arange(length) < 6, 1, 2), (2, length))
    side = attention_side(jnp.broadcast_to(jnp.arange(length), (2, length)), segments)
    mask = AttentionMask(predicates, side, side, same_tokens)
    return AttentionCall(query, key[:, :2], value[:, :2], mask, bias, soft_cap)


def written_out(call):
    """softmax(cap(q k) + bias) v in float64, query by query."""
    query, key, value = (np.asarray(x, np.float64) for x in (call.query, call.key, call.value))
    allowed = np.asarray(call.mask.dense())
    bias = np.zeros((1, 4, 1, 1)) if call.bias is None else np.asarray(call.bias.dense())
    bias = np.broadcast_to(bias, (*query.shape[:3], key.shape[2]))
    out = np.zeros_like(query)
    for b, h, q in np.ndindex(query.shape[:3]):
        logits = key[b, h // 2] @ query[b, h, q]
        if call.soft_cap is not None:
            logits = call.soft_cap * np.tanh(logits / call.soft_cap)
        weights = np.where(allowed[b, q], np.exp(logits + bias[b, h, q]), 0)
        out[b, h, q] = weights / weights.sum() @ value[b, h // 2]
    return out


@pytest.mark.parametrize(
    "predicates", [(Causal(),), (Causal(), Window(3)), (Causal(), EveryOther()), (EveryOther(),)]
)
@pytest.mark.parametrize("same_tokens", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_in_pieces_or_whole_it_is_the_formula(predicates, same_tokens, biased):
    places = jnp.arange(11)[None]
    bias = AttentionBias(Alibi(), 4, False, places, places, consecutive=True) if biased else None
    one = call(predicates, same_tokens, bias, soft_cap=None if biased else 2.0)
    assert one.mask.in_order == (same_tokens and Causal() in predicates)
    with using(Layout()):
        np.testing.assert_allclose(attend(one), written_out(one), rtol=1e-5, atol=1e-6)


def test_the_choice_is_said_once_with_its_reason(monkeypatch, caplog):
    def refusal(call):
        return None if call.bias is None else "it knows no bias"

    fast = Implementation(lambda call: 2 * dense_attention(call), refusal)
    table = {"fast": fast, "dense": IMPLEMENTATIONS["dense"]}
    monkeypatch.setattr("jaxgen.ops.attention.attend.IMPLEMENTATIONS", table)
    places = jnp.arange(11)[None]
    bias = AttentionBias(Alibi(), 4, False, places, places, consecutive=True)
    plain, biased = call((Causal(),)), call((Causal(),), bias=bias)
    with using(Layout()), caplog.at_level(logging.INFO):
        np.testing.assert_allclose(attend(plain), 2 * dense_attention(plain))
        for _ in range(2):
            np.testing.assert_allclose(attend(biased), dense_attention(biased))
    said = [record.getMessage() for record in caplog.records if "attention" in record.getMessage()]
    assert said[-1] == "attention is computed by 'dense': not fast (it knows no bias)."
    assert len(set(said)) == len(said)


def chosen_for(call, caplog, layout=None):
    """What the log says of the choice, without computing anything."""
    attend_module._log.cache_clear()
    caplog.clear()
    with using(layout or Layout()), caplog.at_level(logging.INFO):
        jax.eval_shape(lambda call: attend(call), call)
    return caplog.records[-1].getMessage().removeprefix("attention is computed by ")


def test_long_rows_go_block_by_block(caplog):
    windowed = (Causal(), Window(512))
    short, long = (call(windowed, length=length) for length in (1024, 2048))
    few = "1024 queries by 1024 keys are fewer than 2048 by 2048"
    assert chosen_for(short, caplog) == f"'dense': not blockwise ({few})."
    assert chosen_for(long, caplog) == "'blockwise': the first for cpu."
    whole = dataclasses.replace(long, mask=dataclasses.replace(long.mask, predicates=(Causal(),)))
    assert chosen_for(whole, caplog).endswith("are fewer than 8192 by 8192).")
    drops = dataclasses.replace(long, dropout_rate=0.1, dropout_key=jax.random.key(0))
    assert chosen_for(drops, caplog).startswith("'dense': not blockwise (which weights are dropped")
    assert chosen_for(short, caplog, Layout(attention="blockwise")) == "'blockwise': demanded."
    assert chosen_for(long, caplog, Layout(attention="dense")) == "'dense': demanded."
    with using(Layout(attention="blockwise")), pytest.raises(ConfigError, match="depend on the bl"):
        attend(drops)


def equations(jaxpr, scopes=""):
    """Every equation of a program and of what it calls, with the names of its scopes."""
    for equation in jaxpr.eqns:
        here = f"{scopes}/{equation.source_info.name_stack}"
        inner = [
            one
            for value in equation.params.values()
            for one in (value if isinstance(value, tuple | list) else [value])
            if hasattr(one, "eqns") or hasattr(one, "jaxpr")
        ]
        yield equation, here
        for one in inner:
            yield from equations(getattr(one, "jaxpr", one), here)


def squares(function, *arguments):
    """The scopes of all equations that give something of [..., LENGTH, LENGTH] or more."""
    program = jax.make_jaxpr(function)(*arguments)
    return [
        (equation.primitive.name, scopes)
        for equation, scopes in equations(program.jaxpr)
        for result in equation.outvars
        if sum(size >= LENGTH and size % LENGTH == 0 for size in result.aval.shape[-2:]) == 2
    ]


@pytest.mark.parametrize("bias", [None, Alibi(), RelativeBias(), RelativeBias(per_layer=True)])
def test_a_causal_model_never_holds_length_by_length(bias):
    """Neither forward nor backward, and in attention no more than a piece of the queries."""
    layers = (LayerConfig(), LayerConfig((Causal(), Window(5))))
    model, batch = build(tiny_dense(layers=layers, position_bias=bias)), one_row(LENGTH)

    def loss(model):
        return NextToken()(model, batch).total

    assert squares(jax.grad(loss), model) == []


@pytest.mark.parametrize("bias", [None, RelativeBias()])
def test_elsewhere_it_exists_inside_attention_alone(bias):
    config = tiny_dense(num_encoder_layers=2, position_bias=bias)
    model, batch = build(config), one_row(LENGTH)
    batch = dataclasses.replace(batch, encoder=source_of(batch, LENGTH))
    found = squares(lambda model: model(batch).hidden, model)
    assert found, "an encoder attends to everything at once"
    outside = [one for one in found if "attend" not in one[1] and one[0] != "scan"]
    assert outside == []
