"""A run as a model of the LM Evaluation Harness (lm-eval, the extra `harness`)."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import decode_continued, encode_continued, opening_ids, stop_ids
from jaxgen.data.segments import Segment, continuation, unended
from jaxgen.errors import DataError, JaxgenError
from jaxgen.evaluation.generations import cut
from jaxgen.evaluation.harness_settings import GenerationSettings, check_tasks, read_settings
from jaxgen.evaluation.likelihood import Scored, Scorer
from jaxgen.generation.continuing import continue_prompts

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
logger = logging.getLogger(__name__)


class HarnessModel(LM):
    """A run's model with the methods that the harness calls, under `jax.set_mesh`.

    A context that is too long loses its beginning, as with the harness's own models, but never more
    than leaves it half of what the model can read.

    Attributes:
      truncated: of contexts that were, (task, document) to the number of tokens lost.
    """

    def __init__(self, scorer: Scorer, codec: Codec):
        super().__init__()
        self._scorer, self._codec = scorer, codec
        self.truncated: dict[tuple[str, int], int] = {}

    @property
    def _around(self) -> int:
        """Tokens beside a context: the encoder's end token, or the begin tokens."""
        return 1 if self._scorer.has_source else len(opening_ids(self._codec))

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Returns each continuation's log-probability in nats, and whether it is the greedy one."""
        segments = [self._pair(request) for request in requests]
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
            *before, last = opening_ids(self._codec)
            length = self._scorer.length - len(before)
            for window in get_rolling_token_windows(ids, last, length, context_len=1):
                context, completion = make_disjoint_window(window)
                segments.append(_window([*before, *context], completion))
                before = []  # Of the first window alone.
                owners.append(owner)
        totals = np.zeros(len(requests))
        np.add.at(totals, owners, [one.total for one in self._score(segments)])
        return totals.tolist()

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Returns what the model writes after each context, up to one of the stops."""
        completions = [""] * len(requests)
        groups: dict[GenerationSettings, list[int]] = {}
        for place, request in enumerate(requests):
            settings = read_settings(request.task_name or "?", request.args[1])
            groups.setdefault(settings, []).append(place)
        for settings, places in groups.items():
            encoded = [self._codec.encode(requests[place].args[0]) for place in places]
            room = self._scorer.source_length or self._scorer.length
            max_tokens = settings.max_tokens or MAX_TOKENS
            if not self._scorer.has_source:
                longest = min(max(map(len, encoded)) + self._around, room - room // 2)
                max_tokens = min(max_tokens, room - longest)
                room -= max_tokens
            if max_tokens < (settings.max_tokens or MAX_TOKENS):
                logger.warning(
                    "answers are at most %d tokens, as the model reads %d in all and the contexts "
                    "need the rest", max_tokens, self._scorer.length,
                )  # fmt: skip
            prompts = [
                self._cut(requests[place], ids, room - self._around)
                for place, ids in zip(places, encoded, strict=True)
            ]
            answers = continue_prompts(
                self._scorer.model, self._codec, prompts, jax.random.key(0), settings.policy,
                max_tokens, self._scorer.batch_size, stop_ids(self._codec, settings.stops),
            )  # fmt: skip
            for place, prompt, ids in zip(places, prompts, answers, strict=True):
                text = decode_continued(self._codec, prompt, ids)
                completions[place] = cut(text, settings.stops)
        return completions

    def _pair(self, request: Any) -> Segment:
        """Returns context and continuation as one text; spaces between are the continuation's."""
        context, text = request.args
        spaces = len(context) - len(context.rstrip())
        context, text = context[: len(context) - spaces], context[len(context) - spaces :] + text
        if self._scorer.has_source:
            prompt, completion = self._codec.encode(context), self._codec.encode(text)
            prompt = self._cut(request, prompt, (self._scorer.source_length or 0) - 1)
        else:
            prompt, completion = encode_continued(self._codec, context, text)
            room = self._scorer.length - len(completion) - self._around
            if room < min(len(prompt), self._scorer.length // 2 - 1):
                raise DataError(
                    f"a continuation of {len(completion)} tokens, {text[:60]!r}..., does not fit "
                    f"{self._scorer.length} beside a context of {len(prompt)}, or half of it; "
                    "evaluate a model that reads more (evaluation.length, model.max_length)."
                )
            prompt = self._cut(request, prompt, room)
        segment = continuation(prompt, completion, self._codec, self._scorer.has_source)
        return unended(segment)

    def _cut(self, request: Any, ids: np.ndarray, room: int) -> np.ndarray:
        """Returns the end of a context that has room, and notes what was lost."""
        lost = max(len(ids) - room, 0)
        if lost:
            document = (request.task_name or "?", request.doc_id)
            self.truncated[document] = max(lost, self.truncated.get(document, 0))
        return ids[lost:]

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


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turns whatever a task's file or data make the harness raise into one message.

    An error within the methods of a model is none of a task's, and stays what it is.
    """
    try:
        yield
    except JaxgenError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        if any(isinstance(frame.f_locals.get("self"), HarnessModel) for frame, _ in frames):
            raise
        said = error.args[0] if isinstance(error, KeyError) else error
        why = f"{type(error).__name__}: {' '.join(str(said).split()).rstrip('.')}"
        raise DataError(
            f"the harness cannot {doing}: {why}. What it printed before may say more; mend the "
            "task's file or its data, or leave the task out."
        ) from error


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
      The harness's results, its rows under "samples" (one whose context was cut has
      "truncated_tokens"), by task how many were cut under "truncated", and its table for people
      under "table".

    Raises:
      DataError: naming tasks that it does not know, or settings of theirs that are not honoured;
        nothing has been computed then.
    """
    from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager, get_task_dict  # pyright: ignore[reportMissingImports]
    from lm_eval.utils import make_table  # pyright: ignore[reportMissingImports]

    with _told(f"read the tasks of {include_path or 'its own'}"):
        manager = TaskManager(include_path=include_path)
    unknown = [name for name in tasks if not manager.match_tasks([name])]
    if unknown:
        raise DataError(
            f"the harness knows no task {unknown}; `lm_eval ls tasks` lists its own, and "
            "--include_path names a folder of others."
        )
    for name in tasks:
        with _told(f"make the task {name}"):
            made = get_task_dict([name], manager)
        check_tasks(made)
    with _told(f"evaluate {', '.join(tasks)}"):
        results = simple_evaluate(
            model=model, tasks=list(tasks), num_fewshot=num_fewshot, limit=limit,
            task_manager=manager, bootstrap_iters=1000,
        )  # fmt: skip
    assert results is not None, "only other ranks than the first get nothing"
    counts = {}
    for name, samples in results.get("samples", {}).items():
        lost = [model.truncated.get((name, sample["doc_id"]), 0) for sample in samples]
        for sample, tokens in zip(samples, lost, strict=True):
            if tokens:
                sample["truncated_tokens"] = tokens
        if any(lost):
            cut_ones = sum(tokens > 0 for tokens in lost)
            counts[name] = {"contexts": cut_ones, "of": len(lost), "most_tokens": max(lost)}
    return results | {"truncated": counts, "table": make_table(results)}
