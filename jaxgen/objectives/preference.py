"""Objectives that learn from preferences without a reward model: of pairs, and of labels."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgen.domains import Domain, NonNegativeFloat, PositiveFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch, parted
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss
from jaxgen.objectives.group_sums import (
    check_group,
    is_there,
    loss_of_prompts,
    rules_of,
    sums_of_tokens,
)
from jaxgen.objectives.log_probabilities import group_log_probabilities, token_log_probabilities
from jaxgen.objectives.preference_losses import (
    PAIR_METHODS,
    PairKind,
    PairOptions,
    divergence_baseline,
    labelled_losses,
    pair_losses,
)

FlipRate = Annotated[float, Domain(0, 0.5, "[)")]
NATS = ("dpo", "robust", "cpo", "simpo", "orpo")


@dataclasses.dataclass(frozen=True)
class Preference:
    """The loss of telling the better of two completions, a mean over pairs: DPO and its relatives.

    Its metrics, by task, are "loss"; "accuracy", the share of pairs of which the better has the
    larger reward; "margin", by how much; "chosen_reward" and "rejected_reward", beta * h;
    "chosen_log_probability" and "rejected_log_probability", of whole completions.

    Attributes:
      kind: the method, see `preference_losses.PAIR_METHODS`. "cpo", "simpo" and "orpo" have no
        reference; the others ask for `policy.reference`, or for data that has its
        log-probabilities.
      beta: scale of rewards; tau of IPO and lambda of ORPO.
      margin: by how much the better reward has to be larger, of "dpo", "cpo" and "simpo".
      label_smoothing: the share of labels that are taken to be wrong: conservative DPO, and the
        share that "robust" corrects for.
      per_token: whether h is a mean over the completion's tokens; None: as the method has it.
        True makes "dpo" length-normalised (Tulu 3, 2411.15124, 5).
      imitation: weight of the better completion's surprise a token; None: as the method has it.
    """

    kind: PairKind = "dpo"
    beta: PositiveFloat = 0.1
    margin: NonNegativeFloat = 0.0
    label_smoothing: FlipRate = 0.0
    per_token: bool | None = None
    imitation: NonNegativeFloat | None = None

    def __post_init__(self):
        check_domains(self, "preference_loss")
        if self.kind not in PAIR_METHODS:
            raise ConfigError(
                f"preference_loss.kind={self.kind!r}: use one of {sorted(PAIR_METHODS)}, or "
                "@kto_loss()."
            )
        if self.margin and not PAIR_METHODS[self.kind].has_margin:
            with_margin = sorted(name for name, one in PAIR_METHODS.items() if one.has_margin)
            raise ConfigError(
                f"preference_loss.margin={self.margin} is of the kinds {with_margin}, not of "
                f"{self.kind!r}; leave it out."
            )

    @property
    def loss_unit(self) -> str:
        """The unit of the loss."""
        return "nats/pair" if self.kind in NATS else "a pair"

    @property
    def has_reference(self) -> bool:
        """Whether completions are compared with a reference."""
        return PAIR_METHODS[self.kind].has_reference

    def __call__(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy, or of a language model where there is no reference.

        Raises:
          ConfigError: if there is no reference where there has to be one, or one too many.
        """
        check_group(batch, 2, "preference_loss", "give it @preference_pairs()")
        figures = self.figures(model, batch, key)
        h, log_probability = figures.h, figures.log_probability
        preference = jnp.ones_like(h[:, 0])
        if batch.preference is not None:
            preference = jnp.asarray(batch.preference, jnp.float32)
        method, rate = PAIR_METHODS[self.kind], self.label_smoothing
        options = PairOptions(self.beta, self.margin, rate)
        labels = preference
        if self.kind != "robust":
            labels = preference * (1 - rate) + (1 - preference) * rate
        losses = pair_losses(self.kind, h[:, 0], h[:, 1], options, labels)
        weight = method.imitation if self.imitation is None else self.imitation
        if weight:
            surprise = -log_probability / jnp.maximum(figures.tokens, 1.0)
            losses += weight * (labels * surprise[:, 0] + (1 - labels) * surprise[:, 1])
        pairs = jnp.prod(is_there(batch), axis=1)
        rewards = jax.lax.stop_gradient(self.beta * h)
        sign = jnp.sign(preference - 0.5)
        margin = sign * (rewards[:, 0] - rewards[:, 1])
        decided = pairs * (sign != 0)
        chosen, rejected = _by_label(preference, rewards)
        chosen_log, rejected_log = _by_label(preference, jax.lax.stop_gradient(log_probability))
        return loss_of_prompts(
            batch,
            {
                "loss": (losses, pairs),
                "accuracy": (0.5 * (1 + jnp.sign(margin)), decided),
                "margin": (margin, decided),
                "chosen_reward": (chosen, pairs),
                "rejected_reward": (rejected, pairs),
                "chosen_log_probability": (chosen_log, pairs),
                "rejected_log_probability": (rejected_log, pairs),
            },
            figures.auxiliary,
        )

    def figures(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Figures:
        """Returns what the method compares of each completion."""
        per_token = PAIR_METHODS[self.kind].per_token if self.per_token is None else self.per_token
        name = f"preference_loss.kind={self.kind!r}"
        return completion_figures(model, batch, key, self.has_reference, per_token, name)


@dataclasses.dataclass(frozen=True)
class KTO:
    """The loss of completions that are good or bad by themselves (2402.01306), a mean over them.

    How far the policy is from its reference is estimated from each prompt with the completion of
    another, which the data puts beside its own (`comparisons.others`). That mean over a batch does
    not add over microbatches, so gradient accumulation is refused while it is asked for.

    Its metrics, by task, are "loss"; "good_reward" and "bad_reward", beta * h of completions with
    either label; "good_log_probability" and "bad_log_probability"; "baseline".

    Attributes:
      beta: scale of rewards.
      desirable_weight: of the good completions.
      undesirable_weight: of the bad ones.
      baseline: whether the estimate is taken off; without it h is compared with 0.
    """

    beta: PositiveFloat = 0.1
    desirable_weight: NonNegativeFloat = 1.0
    undesirable_weight: NonNegativeFloat = 1.0
    baseline: bool = True

    loss_unit: ClassVar[str] = "a completion"

    def __post_init__(self):
        check_domains(self, "kto_loss")

    @property
    def adds_over_microbatches(self) -> bool:
        """Whether the loss of a batch is the sum of those of its microbatches."""
        return not self.baseline

    def figures(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Figures:
        """Returns what the method compares of each completion."""
        return completion_figures(model, batch, key, True, False, "kto_loss")

    def __call__(self, model: Any, batch: GroupBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a policy; raises ConfigError as `Preference` does."""
        fix = (
            f"set comparisons.others = {self.baseline}, or kto_loss.baseline = {not self.baseline}"
        )
        check_group(batch, 2 if self.baseline else 1, "kto_loss", fix)
        figures = self.figures(model, batch, key)
        there, label = is_there(batch), jnp.asarray(batch.scores)[:, 0]
        baseline = jnp.float32(0)
        if self.baseline:
            baseline = divergence_baseline(figures.h[:, 1], there[:, 1])
        weights = self.desirable_weight, self.undesirable_weight
        losses = labelled_losses(figures.h[:, 0], label, baseline, self.beta, *weights)
        good, bad = label * there[:, 0], (1 - label) * there[:, 0]
        rewards = jax.lax.stop_gradient(self.beta * figures.h[:, 0])
        log_probability = jax.lax.stop_gradient(figures.log_probability[:, 0])
        return loss_of_prompts(
            batch,
            {
                "loss": (losses, there[:, 0]),
                "good_reward": (rewards, good),
                "bad_reward": (rewards, bad),
                "good_log_probability": (log_probability, good),
                "bad_log_probability": (log_probability, bad),
                "baseline": (baseline * there[:, 0], there[:, 0]),
            },
            figures.auxiliary,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Figures:
    """What is known of each completion, float32 [batch, group].

    Attributes:
      h: the log-probability, relative to a reference or not, summed over tokens or their mean.
      log_probability: under the policy, summed.
      tokens: of the completion.
      auxiliary: the language model's own losses, or None.
    """

    h: Any
    log_probability: Any
    tokens: Any
    auxiliary: Any


def completion_figures(
    model: Any,
    batch: GroupBatch,
    key: jax.Array | None,
    has_reference: bool,
    per_token: bool,
    objective: str,
) -> Figures:
    """Returns the figures of completions under a policy.

    Args:
      model: the policy, or a language model where there is no reference in it.
      batch: of completions, perhaps with the reference's log-probabilities.
      key: of a training pass.
      has_reference: whether h is relative to the reference.
      per_token: whether h is a mean over tokens.
      objective: the setting that asks, for messages.

    Raises:
      ConfigError: if there is no reference where there has to be one, or one too many.
    """
    check_reference(model, batch, has_reference, objective)
    rules, rows = rules_of(model), batch.rows()
    output = language_model(model)(rows, key=key)
    found = token_log_probabilities(model, rows.targets, output).log_probability
    weights = batch.completion_weights
    log_probability = sums_of_tokens(parted(found, batch.shape[1]), weights, rules)
    tokens = sums_of_tokens(jnp.ones_like(weights), weights, rules)
    h = log_probability
    if has_reference:
        reference = batch.reference
        if reference is None:
            reference = group_log_probabilities(model.reference_model, batch)
        reference = jax.lax.stop_gradient(jnp.asarray(reference))
        h = h - sums_of_tokens(reference, weights, rules)
    h = h / jnp.maximum(tokens, 1.0) if per_token else h
    return Figures(h, log_probability, tokens, output.auxiliary)


def check_reference(model: Any, batch: GroupBatch, has_reference: bool, objective: str) -> None:
    """Raises ConfigError unless there is one reference where there has to be one, and else none."""
    in_model = getattr(getattr(model, "config", None), "reference", False)
    if not has_reference and in_model:
        raise ConfigError(
            f"{objective} has no reference: set policy.reference = False, which saves its memory."
        )
    if has_reference and in_model and batch.reference is not None:
        raise ConfigError(
            f"{objective} has the reference's log-probabilities from the data: set "
            "policy.reference = False, or leave out comparisons.reference."
        )
    if has_reference and not in_model and batch.reference is None:
        raise ConfigError(
            f"{objective} needs a reference: set run.model = @policy() with policy.reference = "
            "True, or comparisons.reference to a file of `jaxgen reference`."
        )


def _by_label(preference: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the values of the better and of the worse completions, [batch] each."""
    is_first = preference >= 0.5
    first, second = values[:, 0], values[:, 1]
    return jnp.where(is_first, first, second), jnp.where(is_first, second, first)
