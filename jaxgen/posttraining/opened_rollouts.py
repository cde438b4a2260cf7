"""The batches of rollouts by step: sampled and scored where a rollout begins, then gone through."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxgen.data.base import HostRows
from jaxgen.data.hashing import permutation
from jaxgen.data.protocols import Split
from jaxgen.distributed import on_main
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch
from jaxgen.posttraining.prompts import Prompt, Prompts
from jaxgen.posttraining.rewards import score
from jaxgen.posttraining.sampled_groups import (
    Arrays,
    answer_groups,
    sample_groups,
    score_groups,
)

if TYPE_CHECKING:
    from jaxgen.posttraining.rollouts import Rollouts


class OpenedRollouts:
    """The batches of rollouts by step; see `data.base.Data`."""

    samples_from_state = True

    def __init__(
        self, config: Rollouts, batch_size: int, length: int, seed: int, split: Split = "train"
    ):
        self._config, self._batch_size, self._length = config, batch_size, length
        self._seed = seed
        longest = length - config.max_tokens
        self._prompts = Prompts(config.tasks, config.weights, seed, longest, split)
        self._prompts.at(0, 1)  # What cannot be read is told before anything is trained.
        self.task_names = config.task_names
        self._window, self._held = -1, Arrays()
        self._part_names: tuple[str, ...] = ()

    def batch(self, step: int, state: Any = None, rows: HostRows | None = None) -> GroupBatch:
        """Returns the batch of a step; see `Data.batch`. Samples where a rollout begins.

        Raises:
          ConfigError: if the state is missing, or has no reference or values that are asked for.
          RewardError: if the reward fails.
        """
        config, size = self._config, self._batch_size
        window, place = divmod(step, config.updates)
        if window != self._window:
            if state is None:
                raise ConfigError(
                    "rollouts are sampled from the state of a run; train on them with `jaxgen "
                    "train`, and evaluate with evaluation.suite."
                )
            self._held, self._window = self._rollout(window, state.model), window
        count = len(self._held["scores"])
        number, part = divmod(place, count // size)
        order = np.arange(count)
        if number:  # Later passes shuffle, so that batches differ.
            order = permutation(count, "rollouts", self._seed, window, number)
        chosen = order[part * size : (part + 1) * size]
        chosen = chosen if rows is None else chosen[list(rows(size))]
        arrays = {name: array[chosen] for name, array in self._held.items()}
        arrays["ages"] = np.full(len(chosen), place, np.int32)
        return GroupBatch(
            **arrays,
            task_names=self.task_names,
            part_names=self._part_names,
            drawn_by=config.policy.filter,
        )

    def iterate(
        self, first_step: int = 0, *, rows: HostRows | None = None, num_workers: int = 0
    ) -> Iterator[GroupBatch]:
        """Raises ConfigError: nothing can be read ahead of the state; see `batch`."""
        raise ConfigError("rollouts are sampled from the state before each step, not read ahead.")

    def to_record(self, step: int) -> dict[str, Any]:
        """Returns the rollout that a step goes on with, for a checkpoint; {} if it begins one."""
        if step % self._config.updates == 0 or step // self._config.updates != self._window:
            return {}
        file = io.BytesIO()
        np.savez_compressed(file, **self._held)  # pyright: ignore[reportArgumentType]
        arrays = base64.b64encode(file.getvalue()).decode()
        return {"window": self._window, "parts": self._part_names, "arrays": arrays}

    def go_on_from(self, record: dict[str, Any]) -> None:
        """Takes a rollout back from a checkpoint."""
        self._window, self._held = record.get("window", -1), Arrays()
        if record:
            self._part_names = tuple(record["parts"])
            with np.load(io.BytesIO(base64.b64decode(record["arrays"]))) as file:
                self._held = dict(file)

    def check_lasts(self, num_rows: int) -> None:
        """Returns: prompts are seen again and again."""

    def seen(self, num_rows: int) -> dict[str, Any]:
        """Returns the shares and epochs of the tasks among so many rows of updates."""
        return self._prompts.seen(num_rows // self._config.passes)

    def _rollout(self, window: int, model: Any) -> Arrays:
        """Returns the arrays of all prompts of a rollout, [prompts, group, ...]."""
        config = self._config
        batches = config.updates // config.passes
        share = Fraction(config.student_share).limit_denominator(10**6)
        if math.floor((window + 1) * share) == math.floor(window * share):
            size = batches * self._batch_size
            return self._answered(self._prompts.at(window * size, size))
        parts = [self._sampled(window * batches + number, model) for number in range(batches)]
        arrays = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        scores = arrays["scores"].astype(np.float64)
        if share < 1:
            return {name: arrays[name] for name in (*_OF_ROWS, "scores", "task_ids")}
        mask = (arrays["completion_weights"] > 0) & np.isfinite(scores)[..., None]
        penalties = np.zeros(mask.shape)
        if config.kl_penalty:
            log_ratio = arrays["log_probabilities"] - arrays["reference"]
            penalties = config.kl_penalty * log_ratio.astype(np.float64)
        advantages, returns = config.advantage(scores, mask, penalties, arrays.get("values"))
        # What was not scored is learned from in no way.
        arrays |= {"completion_weights": mask.astype(np.float32)}
        arrays |= {"advantages": advantages.astype(np.float32)}
        if returns is not None:
            arrays["returns"] = returns.astype(np.float32)
        if config.updates == 1:
            # The update's own pass is the pass that sampled: its ratio is 1 to the bit.
            arrays.pop("log_probabilities", None)
        return arrays

    def _sampled(self, number: int, model: Any) -> Arrays:
        """Returns the completions of a batch of prompts, those without signal replaced."""
        config, size = self._config, self._batch_size
        rounds = config.resampling + 1
        key = jax.random.fold_in(jax.random.key(self._seed, impl="threefry2x32"), number)
        kept = Arrays()
        for turn in range(rounds):
            if kept and _has_signal(kept["scores"]).all():
                break
            prompts = self._prompts.at((number * rounds + turn) * size, size)
            found = self._completions(prompts, model, jax.random.fold_in(key, turn))
            if not kept:
                kept = found
                continue
            empty = np.flatnonzero(~_has_signal(kept["scores"]))
            good = np.flatnonzero(_has_signal(found["scores"]))
            count = min(len(empty), len(good))
            for name, array in kept.items():
                array[empty[:count]] = found[name][good[:count]]
        has_reference = getattr(getattr(model, "config", None), "reference", False)
        needs_values = config.advantage.needs_values
        if config.kl_penalty and not has_reference:
            raise ConfigError(
                f"rollouts.kl_penalty={config.kl_penalty:g} is paid by the distance to a "
                "reference; set policy.reference = True."
            )
        if config.student_share < 1:
            return kept
        needs_policy = config.updates > 1 or config.kl_penalty > 0
        if needs_policy or has_reference or needs_values:
            scored = {name: kept[name] for name in _OF_ROWS}
            kept |= score_groups(
                model, scored, config.policy.filter, needs_policy, needs_values, has_reference
            )
        return kept

    def _answered(self, prompts: list[Prompt]) -> Arrays:
        """Returns the records' own answers as completions, which no reward has scored."""
        config = self._config
        answers = [(prompt.ids, prompt.answer) for prompt in prompts]
        arrays = answer_groups(config.codec, answers, config.group, config.max_tokens, self._length)
        arrays["scores"] = np.full(arrays["lengths"].shape, np.nan, np.float32)
        arrays["task_ids"] = np.array([prompt.task for prompt in prompts], np.int32)
        return arrays

    def _completions(self, prompts: list[Prompt], model: Any, key: jax.Array) -> Arrays:
        """Returns completions with their scores; nan where there is none."""
        config = self._config
        found = sample_groups(
            model, config.codec, [prompt.ids for prompt in prompts], config.group, key,
            config.policy, config.max_tokens, self._length,
        )  # fmt: skip
        records = [prompt.record for prompt in prompts for _ in range(config.group)]
        texts = [text for group in found.texts for text in group]

        def scores() -> dict[str, list[float]]:
            scored = score(config.reward, records, texts, config.reward_seconds)
            return {name: part.tolist() for name, part in scored.parts.items()}

        # What computes on the mesh is asked on all processes, and says the same on all.
        is_local = getattr(config.reward, "in_thread", True)
        parts = on_main(scores) if is_local else scores()
        self._part_names = tuple(name for name in parts if name != config.reward.name)
        shape = found.is_cut.shape
        total = np.array(parts[config.reward.name]).reshape(shape)
        if config.cut_score is not None:
            total = np.where(found.is_cut, config.cut_score, total)
        if config.ignore_cut:
            total = np.where(found.is_cut, np.nan, total)
        arrays = dict(found.arrays)
        arrays["scores"] = total.astype(np.float32)
        arrays["task_ids"] = np.array([prompt.task for prompt in prompts], np.int32)
        if self._part_names:
            columns = [np.array(parts[name]).reshape(shape) for name in self._part_names]
            arrays["score_parts"] = np.stack(columns, axis=-1).astype(np.float32)
        return arrays


_OF_ROWS = ("tokens", "targets", "completion_weights", "lengths")


def _has_signal(scores: np.ndarray) -> np.ndarray:
    """Returns whether the scores of each group differ, [prompts] bool."""
    is_scored = np.isfinite(scores)
    largest = np.where(is_scored, scores, -np.inf).max(axis=1)
    return largest > np.where(is_scored, scores, np.inf).min(axis=1)
