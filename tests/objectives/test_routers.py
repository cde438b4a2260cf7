"""A router's own losses and loads, under every objective that runs a language model."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.groups import random_groups
from support.helpers import one_device_mesh, random_batch, tiny_dense
from support.pairs import BOTH_WAYS, SIZES

from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupsAndText
from jaxgen.models.audio_config import AudioConfig
from jaxgen.models.base import language_model
from jaxgen.models.distilled_config import DistilledConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.objectives.distillation import Distillation
from jaxgen.objectives.multi_token import MultiToken
from jaxgen.objectives.next_sentence import NextSentence
from jaxgen.objectives.next_token import NextToken
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.objectives.preference import KTO, Preference
from jaxgen.objectives.reward import ProcessRewards, RewardModeling
from jaxgen.objectives.with_text import WithText
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sharding.layout import Layout
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.state import trained, with_trained

MOE = MoEConfig(
    4, 1, mlp_dim=16, scores="sigmoid", bias_balancing=True, balance_rate=0.25, router_z_weight=0.5
)
SPARSE = tiny_dense(num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=1, moe=MOE)
ROWS = random_batch(batch_size=4, length=16)
PAIRED = dataclasses.replace(
    ROWS,
    token_types=np.zeros(ROWS.shape, np.int32),
    pair_labels=((ROWS.positions == 0) & (ROWS.segment_ids > 0)).astype(np.int32),
)


def groups(**changes: Any) -> Any:
    """Groups of which one prompt has no completions, and another an empty one."""
    batch = random_groups(**({"batch_size": 4} | changes))
    lengths = np.array(batch.lengths)
    lengths[1], lengths[2, -1] = 0, 0
    there = np.arange(batch.shape[2]) < lengths[..., None] - 1
    return dataclasses.replace(
        batch, lengths=lengths, completion_weights=batch.completion_weights * there
    )


def rollouts() -> Any:
    batch = groups()
    random, mask = np.random.default_rng(3), batch.completion_weights
    advantages = mask * random.normal(size=(*mask.shape[:2], 1))
    figures = {"advantages": advantages, "returns": mask, "values": 0 * mask}
    return dataclasses.replace(
        batch, **{name: array.astype(np.float32) for name, array in figures.items()}
    )


def in_steps() -> Any:
    batch = groups(group=1)
    scores = np.where(batch.completion_weights > 0, np.arange(16) % 2, -1.0)
    return dataclasses.replace(batch, step_scores=scores.astype(np.float32))


class Case(NamedTuple):
    config: Callable[[Any], Any]
    objective: Any
    batch: Any


def headed(sparse: Any) -> Any:
    return PolicyConfig(sparse, head=True)


def anchored(sparse: Any) -> Any:
    return PolicyConfig(sparse, reference=True)


def criticised(sparse: Any) -> Any:
    return PolicyConfig(sparse, critic=headed(sparse))


def predicting(sparse: Any) -> Any:
    return dataclasses.replace(sparse, mtp_depth=1)


def paired(sparse: Any) -> Any:
    return dataclasses.replace(sparse, num_token_types=2, pooler=True, next_sentence=True)


def taught(sparse: Any) -> Any:
    return DistilledConfig(sparse, sparse)


VALUED = PolicyGradient(value_weight=0.5)
CASES = {
    "next_token": Case(lambda sparse: sparse, NextToken(), ROWS),
    "multi_token": Case(predicting, MultiToken(), ROWS),
    "next_sentence": Case(paired, NextSentence(), PAIRED),
    "dpo": Case(anchored, Preference(), groups()),
    "simpo": Case(PolicyConfig, Preference("simpo"), groups()),
    "kto": Case(anchored, KTO(), groups()),
    "reward": Case(headed, RewardModeling(), groups()),
    "steps": Case(headed, ProcessRewards(), in_steps()),
    "grpo": Case(PolicyConfig, PolicyGradient(aggregation="sequence"), rollouts()),
    "ppo": Case(headed, VALUED, rollouts()),
    "critic": Case(criticised, VALUED, rollouts()),
    "ppo_ptx": Case(PolicyConfig, WithText(weight=2.0), GroupsAndText(rollouts(), ROWS)),
    "distilled": Case(taught, Distillation(), ROWS),
    "on_policy": Case(anchored, Distillation("reverse_kl"), rollouts()),
}


def rows_of(batch: Any) -> list[Any]:
    """The rows that the language model reads for a batch."""
    if isinstance(batch, GroupsAndText):
        return [batch.groups.rows(), batch.text]
    return [batch.rows() if hasattr(batch, "rows") else batch]


def routers_of(named: Any) -> list[str]:
    """The trained routers' names, the policy's first."""
    names = [name for name, _ in named if name.endswith(".router")]
    names = [name for name in names if "teacher" not in name and "reference" not in name]
    return sorted(names, key=lambda name: "critic" in name or "mtp" in name)


@jax.jit
def _load(model: Any, rows: Any) -> Any:
    return language_model(model)(rows).auxiliary.arrays["router/load"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_step_moves_each_routers_bias_by_its_load(name):
    case, mesh = CASES[name], one_device_mesh()
    train = TrainConfig(steps=1, batch_size=4, length=16)
    program = build_program(case.config(SPARSE), train, mesh, ExecutionConfig(), case.objective)
    with jax.set_mesh(mesh):
        before: Any = jax.tree.map(jnp.copy, program.fresh_state().model)
        placed = put_batch(case.batch, mesh, program.execution.rules)
        loads = [_load(before, one) for one in rows_of(placed)]
        state, metrics = program.train_step(1)(program.fresh_state(), placed)
    weights = [np.sum(one.loss_weights) for one in rows_of(case.batch)]
    load = np.average(np.stack(loads), axis=0, weights=weights)
    reported = metrics.sums["router/load"]
    np.testing.assert_allclose(reported.total / reported.weight, load, rtol=1e-5)
    named = dict(named_parameters(state.model))
    first, *others = [np.asarray(named[f"{one}_bias"][...]) for one in routers_of(named.items())]
    expected = np.where(np.isclose(load, 0.25), 0.0, 0.25 * np.sign(0.25 - load))
    np.testing.assert_allclose(first, expected)
    assert all(np.abs(bias).max() > 0.2 for bias in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_loss_has_those_of_its_routers_once_for_each_unit_of_its_weight(name):
    case, rows = CASES[name], rows_of(CASES[name].batch)
    silent = dataclasses.replace(MOE, load_balance_weight=0.0, router_z_weight=0.0)
    models = [built(case.config(dataclasses.replace(SPARSE, moe=moe))) for moe in (MOE, silent)]

    @jax.jit
    def of_loss(model: Any) -> Any:
        loss, back = jax.vjp(
            lambda p: case.objective(with_trained(model, p), case.batch, None).total, trained(model)
        )
        return loss, back(jnp.float32(1))[0]

    def auxiliary(parameters: Any) -> Any:
        model = language_model(with_trained(models[0], parameters))
        factors = [1.0, case.objective.weight] if len(rows) == 2 else [1.0]
        return sum(f * model(one).auxiliary.loss for f, one in zip(factors, rows, strict=True))

    weight = case.objective(models[0], case.batch, None).weight
    own, gradient = jax.jit(jax.value_and_grad(auxiliary))(trained(models[0]))
    (total, whole), (bare, without) = map(of_loss, models)
    router = routers_of(named_parameters(models[0]))[0]
    if name == "critic":
        # Its own router's loss is added to the policy's.
        assert total - bare > weight * own * 1.5
    else:
        np.testing.assert_allclose(total - bare, weight * own, rtol=1e-3)

    def at_router(gradient: Any, model: Any = models[0]) -> np.ndarray:
        return np.asarray(dict(named_parameters(with_trained(model, gradient)))[router][...])

    added = weight * at_router(gradient)
    assert np.abs(added).max() > 1e-3
    found = at_router(whole) - at_router(without, models[1])
    np.testing.assert_allclose(found, added, rtol=1e-2, atol=1e-4)


def test_what_is_padding_is_in_no_figure_of_a_router():
    """A prompt without completions, an empty completion, and the places after the last token."""
    model, batch = built(PolicyConfig(SPARSE)), rollouts()
    is_there = np.arange(16) < np.asarray(batch.lengths)[..., None]
    other = dataclasses.replace(batch, tokens=np.where(is_there, batch.tokens, 7).astype(np.int32))
    losses = [jax.jit(PolicyGradient())(model, one) for one in (batch, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *losses)
    load = losses[0].metrics["router/load/first"].total
    assert load.sum() == np.sum(is_there[::2])  # A choice of an expert for each token.


def test_a_step_without_tokens_moves_no_bias():
    model: Any = built(SPARSE)
    moved = model.after_update({"router/load": jnp.zeros((1, 4))})
    jax.tree.map(np.testing.assert_array_equal, moved, model)


def built(config: Any) -> Any:
    return jax.jit(lambda: config.build(nnx.Rngs(0), Layout()))()


@pytest.mark.parametrize("encoder", ["vision", "audio_encoder"])
def test_encoders_of_media_have_no_routers(encoder):
    stack = StackConfig(**SIZES, layers=BOTH_WAYS, moe=MOE)
    with pytest.raises(ConfigError, match=rf"{encoder}\.stack\.moe has losses of its router"):
        VisionConfig(stack=stack) if encoder == "vision" else AudioConfig(stack=stack)
