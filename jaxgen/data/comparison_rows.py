"""Completions of a prompt as rows of tokens, before they are laid out in a batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.data.chat import Chat
from jaxgen.data.comparison_fields import Compared, ComparisonLayout, Turns, is_turns
from jaxgen.data.parts import ANSWER, IN_LOSS, Part, encode_parts
from jaxgen.data.protocols import Context, Record
from jaxgen.errors import DataError

logger = logging.getLogger(__name__)
ROWS = "jaxgen.comparison"
"""The field in which a record's rows are left."""


class CompletionRow(NamedTuple):
    """A prompt with one completion.

    Attributes:
      tokens: [tokens] int32, from the begin token (where the codec has texts begin with it) to the
        end token.
      is_completion: [tokens] bool, whether the token is one of the completion.
      step_scores: [tokens] float32, of a step that ends with the token; -1 elsewhere, and None
        where no steps are scored.
    """

    tokens: np.ndarray
    is_completion: np.ndarray
    step_scores: np.ndarray | None = None


class ComparisonRows(NamedTuple):
    """The rows of a record."""

    rows: tuple[CompletionRow, ...]
    scores: tuple[float, ...]
    preference: float | None


class TooLong(DataError):
    """Says that a completion has no room in a row."""


class ToRows:
    """The preprocessor that leaves the rows of a record in place of all else.

    A record that compares nothing is left out; one that is made by its number, whose place has to
    be filled, leaves no rows.

    Attributes:
      left_out: how many records were, by the reason.
    """

    def __init__(
        self, layout: ComparisonLayout, chat: Chat, codec: Codec, length: int,
        too_long: str, unusable: str, keeps_places: bool = False,
    ):  # fmt: skip
        self._keeps_places = keeps_places
        self._layout, self._chat, self._codec, self._length = layout, chat, codec, length
        self._too_long, self._unusable = too_long, unusable
        self.left_out: Counter[str] = Counter()

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records that can be compared, and counts the others."""
        del context
        before = self.left_out.total()
        for record in records:
            try:
                found = self._rows_of(self._layout.compared(record))
            except DataError as error:
                is_long = isinstance(error, TooLong)
                if (self._too_long if is_long else self._unusable) == "error":
                    raise
                self.left_out["too long" if is_long else "unusable"] += 1
                level = logging.WARNING if self.left_out.total() == 1 else logging.DEBUG
                logger.log(level, "a record is left out: %s", error)
                if not self._keeps_places:
                    continue
                found = ComparisonRows((), (), 0.5)
            yield {ROWS: found}
        if self.left_out.total() > before and not self._keeps_places:
            logger.warning("records left out so far: %s", dict(self.left_out))

    def _rows_of(self, compared: Compared) -> ComparisonRows:
        texts = compared.completions
        if any(_is_empty(text) for text in texts):
            raise DataError(f"a completion of {_shown(compared.prompt)} is empty.")
        if len({repr(text) for text in texts}) < len(texts):
            raise DataError(f"completions of {_shown(compared.prompt)} are equal: {texts!a:.60}.")
        rows = tuple(
            self._row(compared.prompt, text, compared.steps[place] if compared.steps else None)
            for place, text in enumerate(texts)
        )
        return ComparisonRows(rows, compared.scores, compared.preference)

    def _row(self, prompt: Turns, completion: Turns, steps: Any) -> CompletionRow:
        parts = self._parts(prompt, completion, None if steps is None else steps[0])
        example = encode_parts(parts, self._codec)
        flags = example.flags
        assert flags is not None, "parts have flags"
        is_answer = (flags & ANSWER) > 0
        begin = begin_ids(self._codec)
        tokens = np.concatenate([begin, example.ids, [self._codec.end_id]]).astype(np.int32)
        ends = bool(is_answer[-1])
        mask = np.concatenate([np.zeros(len(begin), bool), is_answer, [ends]])
        scores = None if steps is None else self._step_scores(flags, steps[1], len(begin))
        if len(tokens) > self._length:
            if self._too_long != "cut" or not mask[: self._length].any():
                raise TooLong(
                    f"{_shown(prompt)} and a completion have {len(tokens)} tokens, and a row has "
                    f"train.length={self._length}; comparisons.too_long says what is done."
                )
            tokens, mask = tokens[: self._length], mask[: self._length]
            scores = None if scores is None else scores[: self._length]
        return CompletionRow(tokens, mask, scores)

    def _parts(self, prompt: Turns, completion: Turns, steps: Any) -> list[Part]:
        if isinstance(prompt, str) and isinstance(completion, str):
            # Where the flags change a step ends: `_step_scores` reads it off.
            texts = [completion] if steps is None else steps
            answers = [Part(text, place % 2 == 0, True) for place, text in enumerate(texts)]
            return [Part(prompt, False), *answers]
        if steps is not None:
            raise DataError("scored steps follow a prompt that is a text.")
        before, after = _messages(prompt, "user"), _messages(completion, "assistant")
        known = self._chat.parts({self._chat.messages: before}) if before else []
        whole = self._chat.parts({self._chat.messages: before + after})
        rest = whole[len(known) :]
        if any(part.media is not None for part in whole):
            raise DataError(f"{_shown(prompt)} has pictures or sounds, which are not compared.")
        if whole[: len(known)] != known or not any(part.is_answer for part in rest):
            raise DataError(
                f"the chat template writes no answer after {_shown(prompt)}: a completion needs a "
                "turn of the assistant, which the template adds to what stands before it."
            )
        asked = [part._replace(in_loss=False, is_answer=False) for part in known]
        return [*asked, *rest]

    def _step_scores(self, flags: np.ndarray, scores: Any, num_before: int) -> np.ndarray:
        answers = np.flatnonzero(flags & ANSWER)
        kinds = flags[answers] & IN_LOSS
        lasts = answers[np.append(np.flatnonzero(np.diff(kinds)), len(answers) - 1)]
        if len(lasts) != len(scores):
            raise DataError(
                f"a completion of {len(scores)} steps has the ends of {len(lasts)} in its tokens: "
                "an empty step, or one whose tokens are the next one's; set scored_steps.after."
            )
        found = np.full(len(flags) + num_before + 1, -1.0, np.float32)
        found[lasts + num_before] = scores
        return found


def _messages(turns: Turns, role: str) -> list[dict[str, Any]]:
    if isinstance(turns, str):
        return [{"role": role, "content": turns}]
    if not is_turns(turns):
        raise DataError(f"a prompt is a text or a list of messages: {turns!a:.60}.")
    return list(turns)


def _is_empty(turns: Turns) -> bool:
    if isinstance(turns, str):
        return not turns.strip()
    if not is_turns(turns):
        raise DataError(f"a completion is a text or a list of messages: {turns!a:.60}.")
    contents = [one.get("content") for one in turns if one.get("role") == "assistant"]
    return not turns or (bool(contents) and not any(contents))


def _shown(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else repr(prompt)
    return f"the prompt {text[-60:]!a}"


def row_arrays(row: CompletionRow, length: int, pad_id: int) -> dict[str, np.ndarray]:
    """Returns the arrays [length] of a row, by the names of `GroupBatch`."""
    count = len(row.tokens)
    tokens = np.full(length + 1, pad_id, np.int32)
    tokens[:count] = row.tokens
    weights = np.zeros(length + 1, np.float32)
    weights[:count] = row.is_completion
    found = {"tokens": tokens[:-1], "targets": tokens[1:], "completion_weights": weights[1:]}
    if row.step_scores is not None:
        scores = np.full(length, -1.0, np.float32)
        scores[:count] = row.step_scores
        found["step_scores"] = scores
    return found


def other_completion(row: CompletionRow, other: CompletionRow, length: int) -> CompletionRow:
    """Returns a row's prompt with the completion of another, cut to the length."""
    first, of_other = int(np.argmax(row.is_completion)), int(np.argmax(other.is_completion))
    kept = min(first, length - 1)
    tokens = np.concatenate([row.tokens[:kept], other.tokens[of_other:]])
    mask = np.concatenate([np.zeros(kept, bool), other.is_completion[of_other:]])
    return CompletionRow(tokens[:length], mask[:length])
