"""Losses of preferences and rewards, value and gradient, beside what TRL's trainers compute."""

import collections
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import torch
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

from jaxgen.objectives.preference_losses import (
    PAIR_METHODS,
    PairOptions,
    divergence_baseline,
    labelled_losses,
    pair_losses,
)
from jaxgen.objectives.reward_losses import compare

PAIRS, LENGTH = 6, 9
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


def drawn(scale=1.0, seed=0, rows=2 * PAIRS):
    """Log-probabilities [rows, length - 1] of completions of unlike lengths, 0 elsewhere."""
    random = np.random.default_rng(seed)
    starts, ends = random.integers(1, 4, rows), random.integers(5, LENGTH + 1, rows)
    places = np.arange(1, LENGTH)
    mask = (places >= starts[:, None]) & (places < ends[:, None])
    surprise = random.exponential(scale, (rows, LENGTH - 1))
    return (-surprise * mask).astype(np.float32), mask


def peer(**settings: Any) -> Any:
    """A trainer without anything but its settings, one process and a place for its figures."""
    accelerator = types.SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    figures = collections.defaultdict(lambda: collections.defaultdict(list))
    return types.SimpleNamespace(
        accelerator=accelerator, model=types.SimpleNamespace(training=True), _metrics=figures,
        aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1, **settings,
    )  # fmt: skip


def model_of(log_probabilities: torch.Tensor) -> Any:
    """A model whose tokens have these log-probabilities, whatever it is asked."""
    zeros = torch.zeros_like(log_probabilities)
    output = types.SimpleNamespace(
        log_probs=log_probabilities, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )
    return lambda **_: output


def inputs_of(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    whole = np.concatenate([np.zeros((len(mask), 1), bool), mask], axis=1)
    ids = torch.ones(whole.shape, dtype=torch.long)
    masks = {"attention_mask": torch.ones_like(ids), "completion_mask": torch.tensor(whole).long()}
    return {"input_ids": ids} | masks | more


def split_pairs(rows: Any) -> tuple[Any, Any]:
    """TRL lays the better completions of all pairs before the worse ones."""
    return rows[:PAIRS], rows[PAIRS:]


DPO_KINDS = {
    "sigmoid": ("dpo", 0.1, {}, False),
    "sigmoid_norm": ("dpo", 5.0, {}, True),
    "ipo": ("ipo", 0.1, {}, None),
    "hinge": ("hinge", 0.2, {}, None),
    "robust": ("robust", 0.3, {"flip_rate": 0.1}, None),
    "apo_zero": ("apo_zero", 0.1, {}, None),
    "apo_down": ("apo_down", 0.1, {}, None),
}


@pytest.mark.parametrize("name", DPO_KINDS)
def test_the_family_of_dpo_agrees(name):
    kind, beta, more, per_token = DPO_KINDS[name]
    values, mask = drawn()
    reference = drawn(scale=1.3, seed=1)[0].sum(axis=1)
    trainer = peer(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", beta=beta,
        loss_types=[name], loss_weights=[1.0], label_smoothing=more.get("flip_rate", 0.0),
        use_weighting=False,
    )  # fmt: skip
    theirs = torch.tensor(values, requires_grad=True)
    known = (torch.tensor(one) for one in split_pairs(reference))
    more_inputs = dict(zip(("ref_chosen_logps", "ref_rejected_logps"), known, strict=True))
    loss = DPOTrainer._compute_loss(
        trainer, model_of(theirs), inputs_of(mask, **more_inputs), False
    )
    loss.backward()

    def ours(values: jax.Array) -> jax.Array:
        h = values.sum(axis=1) - reference
        method = PAIR_METHODS[kind]
        if method.per_token if per_token is None else per_token:
            h = h / mask.sum(axis=1)
        return jnp.mean(pair_losses(kind, *split_pairs(h), PairOptions(beta, **more)))

    value, gradient = jax.value_and_grad(ours)(values)
    np.testing.assert_allclose(value, loss.item(), **TOLERANCE)
    np.testing.assert_allclose(gradient * mask, theirs.grad.numpy() * mask, **TOLERANCE)


@pytest.mark.parametrize(("name", "smoothing"), [("cpo", 0.0), ("cpo", 0.2), ("simpo", 0.0)])
def test_cpo_and_simpo_agree(name, smoothing):
    """Smoothed labels of SimPO are another loss in TRL: a flipped pair has a margin below 0."""
    values, mask = drawn()
    h = values.sum(axis=1) / (mask.sum(axis=1) if name == "simpo" else 1)
    theirs = torch.tensor(h, requires_grad=True)
    trainer = peer(
        alpha=0.0, beta=2.5, simpo_gamma=1.375, label_smoothing=smoothing,
        loss_type={"cpo": "sigmoid", "simpo": "simpo"}[name],
    )  # fmt: skip
    loss = CPOTrainer.cpo_loss(trainer, *split_pairs(theirs))[0].mean()
    loss.backward()
    options = PairOptions(2.5, margin=1.375 if name == "simpo" else 0.0)

    def ours(h: jax.Array) -> jax.Array:
        return jnp.mean(pair_losses(name, *split_pairs(h), options, 1 - smoothing))

    value, gradient = jax.value_and_grad(ours)(h)
    np.testing.assert_allclose(value, loss.item(), **TOLERANCE)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), **TOLERANCE)


def test_odds_ratios_agree():
    values, mask = drawn(scale=0.5)
    means = values.sum(axis=1) / mask.sum(axis=1)
    theirs = torch.tensor(means, requires_grad=True)
    loss = -ORPOTrainer.odds_ratio_loss(peer(beta=0.1), *split_pairs(theirs))[0].mean()
    loss.backward()

    def ours(means: jax.Array) -> jax.Array:
        return jnp.mean(pair_losses("orpo", *split_pairs(means), PairOptions(0.1)))

    value, gradient = jax.value_and_grad(ours)(means)
    np.testing.assert_allclose(value, loss.item(), **TOLERANCE)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), **TOLERANCE)


@pytest.mark.parametrize("is_nearer", [False, True])
def test_kto_agrees(is_nearer):
    """With a baseline above 0, and with one that is cut off at 0."""
    values, mask = drawn()
    reference = drawn(scale=1.3, seed=1)[0].sum(axis=1)
    label = np.arange(len(values)) % 3 != 0
    other = drawn(seed=2)[0].sum(axis=1)
    other_reference = other + np.where(is_nearer, 2.0, -1.5).astype(np.float32)
    known = {"ref_logps": torch.tensor(reference), "ref_KL_logps": torch.tensor(other_reference)}
    trainer = peer(
        precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=0.1,
        desirable_weight=1.0, undesirable_weight=1.33,
        _compute_kl_logps=lambda model, batch: torch.tensor(other),
    )  # fmt: skip
    theirs = torch.tensor(values, requires_grad=True)
    inputs = inputs_of(mask, label=torch.tensor(label), **known)
    loss = KTOTrainer._compute_loss(trainer, model_of(theirs), inputs, False)
    loss.backward()

    def ours(values: jax.Array) -> jax.Array:
        baseline = divergence_baseline(other - other_reference, np.ones(len(other)))
        h = values.sum(axis=1) - reference
        return jnp.mean(labelled_losses(h, label, baseline, 0.1, 1.0, 1.33))

    value, gradient = jax.value_and_grad(ours)(values)
    np.testing.assert_allclose(value, loss.item(), **TOLERANCE)
    np.testing.assert_allclose(gradient * mask, theirs.grad.numpy() * mask, **TOLERANCE)


@pytest.mark.parametrize("centring", [None, 0.01])
@pytest.mark.parametrize("has_margin", [False, True])
def test_reward_models_agree(centring, has_margin):
    random = np.random.default_rng(3)
    rewards = random.normal(size=2 * PAIRS).astype(np.float32)
    margin = random.choice([1, 2 / 3, 1 / 3], PAIRS).astype(np.float32)
    theirs = torch.tensor(rewards, requires_grad=True)
    trainer = peer(args=types.SimpleNamespace(center_rewards_coefficient=centring))
    inputs = {"attention_mask": torch.ones(2 * PAIRS, 3)}
    if has_margin:
        inputs["margin"] = torch.tensor(margin)
    output = types.SimpleNamespace(logits=theirs[:, None])
    loss = RewardTrainer.compute_loss(trainer, lambda **_: output, inputs)
    loss.backward()
    scores = np.stack([margin if has_margin else np.ones_like(margin), 0 * margin], axis=1)

    def ours(rewards: jax.Array) -> jax.Array:
        rows = rewards.reshape(2, PAIRS).T
        scale = 1.0 if has_margin else 0.0
        return jnp.mean(
            compare(rows, scores, np.ones((PAIRS, 2)), None, scale, centring or 0.0).loss
        )

    value, gradient = jax.value_and_grad(ours)(rewards)
    np.testing.assert_allclose(value, loss.item(), **TOLERANCE)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), **TOLERANCE)
