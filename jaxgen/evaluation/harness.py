"""A run as a model of the LM Evaluation Harness (lm-eval, the extra `harness`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.segments import Segment, continuation
from jaxgen.errors import DataError
from jaxgen.evaluation.generations import cut
from jaxgen.evaluation.likelihood import Scored, Scorer
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy

try:
    from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import (  # pyright: ignore[reportMissingImports]
        get_rolling_token_windows,
        make_disjoint_window,
    )
except ImportError as error:
    raise DataError('`jaxgen harness` needs lm-eval: pip install "jaxgen[harness]".') from error

MAX_TOKENS = 256
"""The tokens generated where a task sets no limit."""


class HarnessModel(LM):
    """A run's model with the methods that the harness calls, under `jax.set_mesh`.

    Contexts that are too long lose their beginning, as with the harness's own models.
    """

    def __init__(self, scorer: Scorer, codec: Codec):
        super().__init__()
        self._scorer, self._codec = scorer, codec

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Returns each continuation's log-probability in nats, and whether it is the greedy one."""
        segments = [self._pair(*request.args) for request in requests]
        return [(one.total, one.is_greedy) for one in self._score(segments)]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Returns the log-probability of each whole text, in windows of the longest context.

        Raises:
          DataError: with an encoder-decoder, which gives texts no probability.
        """
        if self._scorer.has_source:
            raise DataError("an encoder-decoder gives whole texts no probability; leave out tasks "
                            "of rolling log-likelihood.")  # fmt: skip
        segments, owners = [], []
        for owner, request in enumerate(requests):
            ids = self._codec.encode(request.args[0]).tolist()
            begin, length = self._codec.begin_id, self._scorer.length
            for window in get_rolling_token_windows(ids, begin, length, context_len=1):
                segments.append(_window(*make_disjoint_window(window)))
                owners.append(owner)
        totals = np.zeros(len(requests))
        np.add.at(totals, owners, [one.total for one in self._score(segments)])
        return totals.tolist()

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Returns what the model writes after each context, up to one of the stops."""
        completions = [""] * len(requests)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            asked = dict(request.args[1])
            draws = asked.get("do_sample", False)
            policy = SamplingPolicy(
                temperature=float(asked.get("temperature", 1.0)) if draws else 0.0,
                top_k=asked.get("top_k") if draws else None,
                top_p=asked.get("top_p") if draws else None,
            )
            groups.setdefault((policy, int(asked.get("max_gen_toks", MAX_TOKENS))), []).append(
                place
            )
        for (policy, max_tokens), places in groups.items():
            prompts = [self._context(requests[place].args[0], max_tokens) for place in places]
            answers = continue_prompts(
                self._scorer.model, self._codec, prompts, jax.random.key(0), policy, max_tokens,
                self._scorer.batch_size,
            )  # fmt: skip
            for place, ids in zip(places, answers, strict=True):
                stop = requests[place].args[1].get("until") or []
                stops = [stop] if isinstance(stop, str) else list(stop)
                completions[place] = cut(self._codec.decode(ids), [one for one in stops if one])
        return completions

    def _pair(self, context: str, text: str) -> Segment:
        """Returns context and text as the harness tokenises them: spaces between are the text's."""
        spaces = len(context) - len(context.rstrip())
        context, text = context[: len(context) - spaces], context[len(context) - spaces :] + text
        prompt, whole = self._codec.encode(context), self._codec.encode(context + text)
        completion = whole[len(prompt) :]
        if not np.array_equal(whole[: len(prompt)], prompt):
            completion = self._codec.encode(text)
        if not self._scorer.has_source and len(completion) >= self._scorer.length:
            raise DataError(
                f"a continuation of {len(completion)} tokens, {text[:60]!r}..., does not fit "
                f"{self._scorer.length}; evaluate a run of a larger train.length."
            )
        prompt = self._context(context, len(completion))
        segment = continuation(prompt, completion, self._codec, self._scorer.has_source)
        segment.weights[-1] = 0
        return segment

    def _context(self, text: str, completion_length: int) -> np.ndarray:
        """Returns the end of a context that fits beside the continuation and one more token."""
        room = self._scorer.source_length or self._scorer.length - completion_length
        ids = self._codec.encode(text)
        return ids[len(ids) - min(max(room - 1, 0), len(ids)) :]

    def _score(self, segments: Sequence[Segment]) -> list[Scored]:
        """Scores segments sorted by length, so that short ones are not padded to long ones."""
        order = sorted(range(len(segments)), key=lambda place: -len(segments[place].tokens))
        scored: dict[int, Scored] = {}
        for first in range(0, len(order), self._scorer.batch_size):
            some = order[first : first + self._scorer.batch_size]
            chosen = [segments[place] for place in some]
            found = self._scorer.score("harness", chosen, self._codec.pad_id)
            scored.update(zip(some, found, strict=True))
        return [scored[place] for place in range(len(segments))]


def _window(context: list[int], completion: list[int]) -> Segment:
    tokens = np.array([*context, *completion][:-1], np.int32)
    targets = np.array([*context, *completion][1:], np.int32)
    weights = np.zeros(len(tokens), np.float32)
    weights[len(context) - 1 :] = 1
    return Segment(tokens, targets, weights)


def run_harness(
    model: HarnessModel,
    tasks: Sequence[str],
    include_path: str | None = None,
    num_fewshot: int | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Evaluates tasks of the harness, its own or those of a folder of YAML files.

    Args:
      model: the model.
      tasks: their names.
      include_path: a folder with more tasks.
      num_fewshot: solved examples in prompts; None: as the tasks say.
      limit: instances (or a share of them, below 1) of each task.

    Returns:
      The harness's results, its rows under "samples", and its table for people under "table".

    Raises:
      DataError: naming tasks that it does not know.
    """
    from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import make_table  # pyright: ignore[reportMissingImports]

    manager = TaskManager(include_path=include_path)
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise DataError(
            f"the harness knows no task {unknown}; `lm_eval ls tasks` lists its own, and "
            "--include_path names a folder of others."
        )
    results = simple_evaluate(
        model=model, tasks=list(tasks), num_fewshot=num_fewshot, limit=limit,
        task_manager=manager, bootstrap_iters=1000,
    )  # fmt: skip
    assert results is not None, "only other ranks than the first get nothing"
    return results | {"table": make_table(results)}
