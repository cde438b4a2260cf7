"""Losses of GRPO and its variants, and their gradients, beside TRL's on the same arrays."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from jaxgen.group_batch import GroupBatch
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.ops.advantages import group_relative

GROUPS, GROUP, LENGTH = 3, 4, 9
CASES = {
    "grpo": ("grpo", "token", {}, PolicyGradient(aggregation="sequence")),
    "grpo with a KL": (
        "grpo", "token", {"beta": 0.04}, PolicyGradient(aggregation="sequence", kl_weight=0.04)
    ),
    "bnpo": ("bnpo", "token", {}, PolicyGradient(aggregation="token")),
    "dr_grpo": (
        "dr_grpo", "token", {}, PolicyGradient(aggregation="constant", constant_length=11)
    ),
    "dapo": ("dapo", "token", {"high": 0.28}, PolicyGradient(clip_high=0.28)),
    "two-sided": (
        "grpo", "token", {"delta": 1.5}, PolicyGradient(aggregation="sequence", dual_clip=1.5)
    ),
    "cispo": ("cispo", "token", {"high": 1.4}, PolicyGradient(surrogate="cispo", clip_high=0.4)),
    "gspo": ("grpo", "sequence", {}, PolicyGradient(aggregation="sequence", ratio="sequence")),
    "entropy": (
        "bnpo", "token", {"entropy": 0.1}, PolicyGradient(aggregation="token", entropy_weight=0.1)
    ),
}  # fmt: skip


def arrays() -> dict[str, np.ndarray]:
    """Log-probabilities near to one another, completions of several lengths."""
    random = np.random.default_rng(0)
    shape = (GROUPS, GROUP, LENGTH)
    lengths = random.integers(2, LENGTH + 1, shape[:2])
    now = random.normal(-2, 0.5, shape)
    return {
        "now": now,
        "before": now + random.normal(0, 0.3, shape),
        "reference": now + random.normal(0, 0.3, shape),
        "entropy": random.uniform(0.1, 2, shape),
        "advantages": random.normal(size=shape[:2]),
        "mask": np.arange(LENGTH) < lengths[..., None],
    }


def theirs(kind: str, level: str, given: dict[str, np.ndarray], options: dict[str, float]) -> Any:
    """The loss of TRL's trainer, whose model is replaced by its log-probabilities."""

    def flat(name: str) -> Any:
        array = given[name].reshape(-1, *given[name].shape[2:])
        return torch.tensor(array.astype(np.float32))

    now, entropy = flat("now").requires_grad_(), flat("entropy").requires_grad_()
    mask = flat("mask")
    same = SimpleNamespace(
        gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1, sync_gradients=True
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (now, entropy, None),
        model=SimpleNamespace(training=True), accelerator=same, _metrics=defaultdict(
            lambda: defaultdict(list)
        ),
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level=level,
        beta=options.get("beta", 0.0), loss_type=kind, epsilon_low=0.2,
        epsilon_high=options.get("high", 0.2), use_vllm=False, aux_loss_enabled=False,
        current_gradient_accumulation_steps=1, max_completion_length=11,
        _entropy_bonus_enabled="entropy" in options, use_adaptive_entropy=False,
        entropy_coef=options.get("entropy", 0.0),
        args=SimpleNamespace(
            delta=options.get("delta"), use_bias_correction_kl=False, steps_per_generation=1
        ),
    )  # fmt: skip
    ids = torch.zeros(mask.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids,
        "completion_mask": mask, "advantages": flat("advantages"),
        "old_per_token_logps": flat("before"), "ref_per_token_logps": flat("reference"),
        "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return float(loss), [x.grad for x in (now, entropy)]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_trl(case):
    kind, level, options, objective = CASES[case]
    given = arrays()
    expected, gradients = theirs(kind, level, given, options)
    mask = given["mask"].astype(np.float32)
    shape, of_group = mask.shape, np.zeros(mask.shape[:2], np.float32)
    batch = GroupBatch(
        tokens=np.zeros(shape, np.int32), targets=np.zeros(shape, np.int32),
        completion_weights=mask, lengths=mask.sum(-1).astype(np.int32), scores=of_group,
        log_probabilities=given["before"].astype(np.float32),
        reference=given["reference"].astype(np.float32),
        advantages=(mask * given["advantages"][..., None]).astype(np.float32),
    )  # fmt: skip

    def ours(now: Any, entropy: Any) -> Any:
        loss = objective.of_figures(batch, now, entropy)
        return loss.total / loss.weight

    now, entropy = (given[name].astype(np.float32) for name in ("now", "entropy"))
    found, slopes = jax.value_and_grad(ours, argnums=(0, 1))(now, entropy)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for slope, theirs_ in zip(slopes, gradients, strict=True):
        other = np.zeros(shape) if theirs_ is None else theirs_.numpy().reshape(shape)
        np.testing.assert_allclose(slope, other, atol=1e-6, rtol=1e-5)


def test_groups_are_scaled_as_trl_scales_them():
    """By the unbiased deviation of each group, and a ten-thousandth."""
    rewards = np.random.default_rng(1).normal(size=(GROUPS, GROUP))
    grouped = torch.tensor(rewards)
    expected = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    found = group_relative(rewards, np.ones((GROUPS, GROUP), bool))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
