"""Evaluators of preferences and of steps: how often, and how surely, a model is right."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from jaxgen.data.comparisons import Comparisons
from jaxgen.distributed import fetch
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.group_batch import GroupBatch
from jaxgen.models.base import language_model
from jaxgen.objectives.preference import completion_figures
from jaxgen.objectives.reward import RewardModeling, completion_rewards, token_rewards
from jaxgen.training.loading import put_batch

By = Literal["objective", "reward", "log_probability"]


@dataclasses.dataclass(frozen=True)
class PreferenceAccuracy:
    """Compares the completions of held-out prompts, two by two, by what a model has them worth.

    Bradley and Terry's probability that the first is the better, sigmoid(r_1 - r_2), says how sure
    the model is. Where labels are probabilities, such as the share of raters who agree, it is
    compared with them.

    Attributes:
      num_comparisons: prompts, or all if there are fewer.
      data: the comparisons, as tokens of the run's own codec; None: the run's.
      by: what a completion is worth: "reward", the number of the head; "log_probability", of its
        tokens; "objective", the reward that the run's objective learns, by the head or implicitly.
      name: the name in tables.
    """

    num_comparisons: PositiveInt = 256
    data: Comparisons | None = None
    by: By = "objective"
    name: str = "preferences"

    def __post_init__(self):
        check_domains(self, "preference_accuracy")
        if self.by not in ("objective", "reward", "log_probability"):
            raise ConfigError(
                f"preference_accuracy.by={self.by!r}: use 'objective', 'reward' or "
                "'log_probability'."
            )

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there is nothing to compare, or nothing to compare by."""
        self._data(context).open(
            batch_size=1, length=context.length, seed=context.seed, split="heldout"
        )
        self._scored_by(context.objective)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row for each two completions of which one is the better.

        Returns:
          Rows with "instance"; "accuracy", 1 where the model favours the better one; "margin", by
          how much; "confidence", its probability of the one it favours; "outcome", the label's
          probability of that one; "cross_entropy" of its probabilities under the labels, in nats,
          and "divergence", that less the labels' own entropy; "accuracy/TASK" where there are
          several tasks; and "chance".
        """
        data = self._data(context)
        batch = _heldout(data, context, self.num_comparisons)
        rewards = self._rewards(model, batch, context)
        return [
            self._row(batch, rewards, prompt, first, second)
            for prompt in range(batch.shape[0])
            for first in range(data.group)
            for second in range(first + 1, data.group)
            if _label(batch, prompt, first, second) is not None
        ]

    def _row(
        self, batch: GroupBatch, rewards: np.ndarray, prompt: int, first: int, second: int
    ) -> Row:
        label = _label(batch, prompt, first, second)
        assert label is not None, "callers ask"
        difference = float(rewards[prompt, first] - rewards[prompt, second])
        log_first, log_second = -np.logaddexp(0, [-difference, difference])
        favours_first = difference > 0
        cross_entropy = -float(label * log_first + (1 - label) * log_second)
        entropy = -sum(p * np.log(p) for p in (label, 1 - label) if p > 0)
        # A tie favours neither; it counts as wrong, and its outcome is as likely as not.
        outcome = 0.5 if not difference else label if favours_first else 1 - label
        accuracy = int(difference != 0 and favours_first == (label > 0.5))
        row: Row = {
            "instance": f"{prompt}:{first}:{second}",
            "accuracy": accuracy,
            "margin": difference if label > 0.5 else -difference,
            "confidence": float(np.exp(max(log_first, log_second))),
            "outcome": float(outcome),
            "cross_entropy": cross_entropy,
            "divergence": max(0.0, cross_entropy - float(entropy)),
            "chance": 0.5,
        }
        if len(batch.task_names) > 1:
            row[f"accuracy/{batch.task_names[int(batch.task_ids[prompt])]}"] = accuracy
        return row

    def _data(self, context: EvaluationContext) -> Comparisons:
        data = context.data if self.data is None else self.data.with_codec(context.data.codec)
        if not isinstance(data, Comparisons) or data.group < 2 or data.others:
            raise ConfigError(
                f"the evaluator {self.name} needs comparisons of two or more completions: bind "
                "preference_accuracy.data to @comparisons(), of a layout such as "
                "@preference_pairs()."
            )
        return data

    def _scored_by(self, objective: Any) -> By:
        if self.by != "objective":
            return self.by
        if isinstance(objective, RewardModeling):
            return "reward"
        if not hasattr(objective, "figures"):
            raise ConfigError(
                f"the evaluator {self.name} does not know what {type(objective).__name__} has a "
                "completion worth: set preference_accuracy.by to 'reward' or 'log_probability'."
            )
        return "objective"

    def _rewards(self, model: Any, batch: GroupBatch, context: EvaluationContext) -> np.ndarray:
        """Returns the worth of each completion, [prompts, group] float32."""
        by, objective = self._scored_by(context.objective), context.objective

        @jax.jit
        def worth(model: Any, batch: GroupBatch) -> jax.Array:
            if by == "reward":
                return completion_rewards(model, batch)[0]
            if by == "log_probability":
                figures = completion_figures(
                    language_model(model), batch, None, False, False, self.name
                )
                return figures.h
            implicit: Any = objective
            return implicit.beta * implicit.figures(model, batch).h

        return in_parts(worth, model, batch, context.batch_size)


@dataclasses.dataclass(frozen=True)
class StepAccuracy:
    """Tells right steps of held-out completions from wrong ones, by a head of scalars.

    Attributes:
      num_completions: completions, or all if there are fewer.
      data: completions in steps, as tokens of the run's own codec; None: the run's.
      name: the name in tables.
    """

    num_completions: PositiveInt = 256
    data: Comparisons | None = None
    name: str = "steps"

    def __post_init__(self):
        check_domains(self, "step_accuracy")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no steps."""
        self._data(context).open(
            batch_size=1, length=context.length, seed=context.seed, split="heldout"
        )

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row for each step.

        Returns:
          Rows with "instance"; "accuracy", 1 where the step is told right from wrong; "confidence",
          the model's probability of what it tells; "outcome", the label's probability of that.
        """
        data = self._data(context)
        batch = _heldout(data, context, self.num_completions)
        rewards = in_parts(jax.jit(token_rewards), model, batch, context.batch_size)
        rows: list[Row] = []
        for place in zip(*np.nonzero(batch.step_scores >= 0), strict=True):
            label, reward = float(batch.step_scores[place]), float(rewards[place])
            tells_right = reward > 0
            rows.append({
                "instance": f"{place[0]}:{place[2]}",
                "accuracy": int(tells_right == (label >= 0.5)),
                "confidence": float(np.exp(-np.logaddexp(0, -abs(reward)))),
                "outcome": label if tells_right else 1 - label,
            })  # fmt: skip
        return rows

    def _data(self, context: EvaluationContext) -> Comparisons:
        data = context.data if self.data is None else self.data.with_codec(context.data.codec)
        if not isinstance(data, Comparisons) or not getattr(data.layout, "has_steps", False):
            raise ConfigError(
                f"the evaluator {self.name} needs completions in steps: bind step_accuracy.data to "
                "@comparisons() of the layout @scored_steps()."
            )
        return data


def _heldout(data: Comparisons, context: EvaluationContext, most: int) -> GroupBatch:
    """Returns the first held-out records, or all if there are fewer, as one batch."""
    options: dict[str, Any] = {"length": context.length, "seed": context.seed, "split": "heldout"}
    count = min(data.open(batch_size=1, **options).num_records, most)
    return data.open(batch_size=count, **options).batch(0)


def in_parts(function: Any, model: Any, batch: GroupBatch, size: int) -> np.ndarray:
    """Returns function(model, batch) of so many prompts at a time; under `jax.set_mesh`."""
    found = []
    for first in range(0, batch.shape[0], size):
        part = jax.tree.map(lambda x, first=first: x[first : first + size], batch)
        missing = size - part.shape[0]  # Rows that fill the last batch repeat its first.
        part = jax.tree.map(
            lambda x, n=missing: np.concatenate([x, np.repeat(x[:1], n, axis=0)]), part
        )
        placed = put_batch(part, jax.sharding.get_mesh(), model.layout.rules)
        found.append(fetch(function(model, placed))[: size - missing])
    return np.concatenate(found)


def _label(batch: GroupBatch, prompt: int, first: int, second: int) -> float | None:
    """Returns the probability that the first is the better; None where neither is."""
    if not batch.lengths[prompt, first] or not batch.lengths[prompt, second]:
        return None
    if batch.preference is not None:
        label = float(batch.preference[prompt])
        return None if label == 0.5 else label
    difference = batch.scores[prompt, first] - batch.scores[prompt, second]
    return None if difference == 0 else float(difference > 0)
