"""Rungs by rule, against numbers computed by hand."""

import dataclasses
from typing import Any

import pytest

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.models.counting import count_parameters, training_flops_per_token
from jaxgen.sweeps.grid import ladder
from jaxgen.sweeps.scaling_rules import (
    DeepSeekLaw,
    FixedHyperparameters,
    ModelShape,
    ScalingRules,
    Size,
    StepLaw,
    TokensPerParameter,
    TrainingFlops,
)
from jaxgen.training.batch_sizes import LinearRamp

BASE = load(["runs/quickstart.gin"], ["train.length=32"])


@pytest.mark.parametrize(
    ("shape", "depth", "width", "heads", "kv_heads", "mlp"),
    [
        (ModelShape(), 12, 768, 12, 12, 3072),
        (ModelShape(aspect_ratio=100), 3, 320, 5, 5, 1280),  # 300 is 4.7 heads of 64
        (ModelShape(aspect_ratio=1, head_dim=16), 2, 16, 1, 1, 64),
        (ModelShape(head_dim=32, heads_per_group=4, mlp_ratio=8 / 3), 5, 384, 12, 3, 1024),
    ],
)
def test_shapes(shape, depth, width, heads, kv_heads, mlp):
    # A base with heads of its own: the shape's replace them.
    base = dataclasses.replace(BASE.model, num_heads=2, num_kv_heads=2, head_dim=10)
    model = dataclasses.replace(base, **shape.fields(depth))
    assert (model.embed_dim, model.num_heads, model.kv_heads) == (width, heads, kv_heads)
    assert (model.mlp_dim, model.num_layers) == (mlp, depth)
    assert model.width_of_head == shape.head_dim


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (20, 1), (32, 2), (48, 3)])
def test_widths_have_as_many_heads_as_they_have_room_for(width, heads):
    shape = ModelShape(head_dim=16, mlp_ratio=3, multiple=4)
    change = shape.change("a", 2, width, scale_logits=True)
    assert change.values["model.embed_dim"] == width and change.values["model.scale_logits"]
    assert change.values["model.num_heads"] == heads
    assert change.values["model.mlp_dim"] == 3 * width


def test_step_law_by_hand():
    """At N = 1e9, D = 1e11: 1.79 * 10^(-6.417 + 3.377), 0.58 * 10^6.281."""
    size = Size(parameters=1e9, tokens=1e11, flops=6e20)
    assert StepLaw().rate(size) == pytest.approx(1.6325e-3, rel=1e-3)
    assert StepLaw().batch_tokens(size) == pytest.approx(1.1077e6, rel=1e-3)


def test_deepseek_by_hand():
    """At C = 1e20: 0.3118 * 10^-2.5, 0.2920 * 10^6.542."""
    size = Size(parameters=1e9, tokens=1e11, flops=1e20)
    assert DeepSeekLaw().rate(size) == pytest.approx(9.860e-4, rel=1e-3)
    assert DeepSeekLaw().batch_tokens(size) == pytest.approx(1.01716e6, rel=1e-3)


def test_budgets():
    model = BASE.model
    count = count_parameters(model)
    assert TokensPerParameter(20).tokens(model, 32) == 20 * count.active
    without = TokensPerParameter(5, embeddings=False).tokens(model, 32)
    assert without == 5 * (count.active - count.embedding)
    budget = TrainingFlops(1e12).tokens(model, 32)
    assert budget * training_flops_per_token(model, 32) == pytest.approx(1e12)


@pytest.mark.parametrize("budget", [TokensPerParameter(20), TrainingFlops(1e12)])
@pytest.mark.parametrize("law", [StepLaw(), DeepSeekLaw(), FixedHyperparameters(0.01, 256)])
def test_rungs_meet_their_budget_from_above_by_at_most_a_step(budget, law):
    rules = ScalingRules(BASE, ModelShape(16, head_dim=16), budget, law)
    sizes = [rules.rung(depth) for depth in (1, 2, 4)]
    for config, rung in zip(ladder(BASE, sizes, [3]), sizes, strict=True):
        size = rules.size(config.model)
        batch = config.train.batch_size * config.train.length
        steps = config.train.total_steps(config.model.count().active)
        schedule: Any = config.train.schedule
        assert 0 <= steps * batch - size.tokens < batch
        assert schedule.peak == pytest.approx(law.rate(size))
        assert config.train.batch_size == max(1, int(law.batch_tokens(size) / 32 + 0.5))
        assert config.name == f"{rung.label}-seed3" and config.train.seed == 3


def test_deepseek_counts_without_the_vocabulary():
    """M = 72 L d^2 + 12 L d s, of a model whose gated feed-forward is 8 / 3 d wide."""
    rules = ScalingRules(BASE, ModelShape(48, 16, 8 / 3), TokensPerParameter(20), DeepSeekLaw())
    model = dataclasses.replace(BASE.model, **rules.shape.fields(2))
    size, width = rules.size(model), model.embed_dim
    expected = 72 * 2 * width**2 + 12 * 2 * width * 32
    assert size.flops == pytest.approx(size.tokens * expected)


def test_flops_are_the_same_for_every_size():
    rules = ScalingRules(
        BASE, ModelShape(16, head_dim=16), TrainingFlops(1e12), FixedHyperparameters(0.01, 256)
    )
    for config in ladder(BASE, [rules.rung(depth) for depth in (1, 2, 4)], [0]):
        steps = config.train.total_steps(0)
        flops = steps * 256 * config.model.flops(32)
        assert 1e12 <= flops < 1.01e12


def test_batches_divide_into_microbatches():
    law = FixedHyperparameters(0.01, 10 * 32)
    rules = ScalingRules(BASE, ModelShape(16, 16), TokensPerParameter(20), law, batch_multiple=4)
    rung = rules.rung(1)
    assert rung.values["train.batch_size"] == 12  # 10 rows are 2.5 times 4


def test_ramps_and_empty_shapes_are_refused():
    train = dataclasses.replace(BASE.train, batch_size=8, batch_ramp=LinearRamp(4, 4, 1024))
    rules = ScalingRules(
        dataclasses.replace(BASE, train=train), ModelShape(), TokensPerParameter(), StepLaw()
    )
    with pytest.raises(ConfigError, match="batch_ramp"):
        rules.rung(2)
    with pytest.raises(ConfigError, match="aspect_ratio=0"):
        ModelShape(aspect_ratio=0)
