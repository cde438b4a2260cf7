"""Conversations by a chat template, with loss on the answers alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.media import media_of
from jaxgen.data.chat_templates import compiled, fill, read_template
from jaxgen.data.parts import Example, Part, encode_parts, parts_of
from jaxgen.data.protocols import Record
from jaxgen.errors import DataError

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end_of_turn|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""A template of the control tokens that jaxgen's tokenizers reserve."""
# Private-use characters stand for a message's text while the template is filled in, between spaces
# that no template writes, but one may strip.
_OPEN, _CLOSE, _SPACE = "\ue000", "\ue001", "\u2003"
_PLACE = re.compile(f"({_SPACE}?){_OPEN}([0-9]+){_CLOSE}({_SPACE}?)")


@dataclasses.dataclass(frozen=True)
class Chat:
    """Conversations: a list of {"role", "content"}, the assistant's turns in the loss and scored.

    A content is text, or a list of texts and of arrays that are pictures, sounds or clips (see
    `codecs.media.media_of`), which the codec must take.

    The template is Jinja as in tokenizer_config.json. Its own text may name control tokens; the
    text of a message never becomes one.

    Attributes:
      messages: the record's field that holds the conversation.
      template: a Jinja template, or the path of a tokenizer_config.json or .jinja file.
      begin: the token that the template calls `bos_token`; where it stands first it is the one
        that every row begins with.
      end: the token that it calls `eos_token`.
    """

    messages: str = "messages"
    template: str = TEMPLATE
    begin: str = ""
    end: str = "<|end_of_turn|>"

    is_split = False
    denoising = None
    has_answers = True

    def parts(self, record: Record) -> list[Part]:
        """Returns the text of the template and of the messages, in order.

        Raises:
          DataError: if the record has no conversation, or the template does not take it.
        """
        messages = self._messages(record)
        pieces: list[Part] = []
        for turn, message in enumerate(messages):
            is_answer = message["role"] == "assistant"
            prompt = self._fill(messages[:turn], is_answer)
            whole = self._fill(messages[: turn + 1], False)
            if not whole.startswith(prompt):
                raise DataError(
                    "the chat template changes what stands before a turn when the turn is added, "
                    f"so its answers cannot be told apart (turn {turn}, {message['role']}); use a "
                    "template that only appends."
                )
            before = self._fill(messages[:turn], False)
            pieces += self._split(prompt[len(before) :], messages, False)
            pieces += self._split(whole[len(prompt) :], messages, is_answer)
        return pieces

    def identity(self) -> tuple[object, ...]:
        """Returns all that the tokens depend on: the template itself, wherever it lies."""
        return self, read_template(self.template)

    def encode(
        self, records: Iterable[Record], codec: Codec, has_source: bool = False
    ) -> list[Example]:
        """Returns the tokens of records; raises DataError as `parts` does, or for no answer."""
        return [encode_parts(self._learned(record), codec, has_source) for record in records]

    def _learned(self, record: Record) -> list[Part]:
        """Returns the parts of a record, some of which are in the loss."""
        parts = parts_of(record) or self.parts(record)
        if not any(part.in_loss for part in parts):
            roles = [one.get("role") for one in record.get(self.messages, ()) if _is_turn(one)]
            raise DataError(
                f"a conversation of the roles {roles} has no turn of the assistant behind the chat "
                "template, and leaves nothing to learn: name the field in chat.messages, or the "
                "assistant's role 'assistant', give a template that writes its turns, or leave "
                'such records out (on_error="skip" does, and counts them).'
            )
        return parts

    def _messages(self, record: Record) -> list[dict[str, Any]]:
        messages = record.get(self.messages)
        turns: list[Any] = list(messages) if isinstance(messages, list | tuple) else []
        if not turns or not all(_is_turn(turn) and _is_content(turn["content"]) for turn in turns):
            raise DataError(
                f"the field {self.messages!r} must be a list of {{'role', 'content'}}, whose "
                "content is text, or a list of texts and arrays of pictures, sounds or clips; a "
                f"record has {str(messages)[:80]!r}; name another field in chat.messages."
            )
        return turns

    def _fill(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:

        if not messages:
            return ""
        held = [
            m | {"content": f"{_SPACE}{_OPEN}{i}{_CLOSE}{_SPACE}"} for i, m in enumerate(messages)
        ]
        template = compiled(read_template(self.template))
        try:
            return fill(
                template, messages=held, add_generation_prompt=add_generation_prompt,
                tools=None, documents=None, bos_token=self.begin, eos_token=self.end,
            )  # fmt: skip
        except Exception as error:  # Whatever the template's own code raises.
            roles = [message["role"] for message in messages]
            raise DataError(f"the chat template refuses the roles {roles}: {error}.") from error

    def _split(self, text: str, messages: list[dict[str, Any]], is_answer: bool) -> list[Part]:
        """Splits a filled template into its own control text and the messages' plain text."""
        parts, end = [], 0
        for place in _PLACE.finditer(text):
            if place.start() > end:
                parts.append(Part(text[end : place.start()], is_answer, is_answer, True))
            content = messages[int(place.group(2))]["content"]
            pieces = [content] if isinstance(content, str) else list(content)
            # A template that strips a message has stripped the spaces around its place.
            if not place.group(1) and isinstance(pieces[0], str):
                pieces[0] = pieces[0].lstrip()
            if not place.group(3) and isinstance(pieces[-1], str):
                pieces[-1] = pieces[-1].rstrip()
            parts += [_part(piece, is_answer) for piece in pieces]
            end = place.end()
        if end < len(text):
            parts.append(Part(text[end:], is_answer, is_answer, True))
        return parts


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and "role" in turn and "content" in turn


def _is_content(content: Any) -> bool:
    """Returns whether a message's content is text, or texts and arrays."""
    pieces = content if isinstance(content, list | tuple) and content else [content]
    return all(isinstance(piece, str | np.ndarray) for piece in pieces) and (
        pieces is content or isinstance(content, str)
    )


def _part(piece: str | np.ndarray, is_answer: bool) -> Part:
    if isinstance(piece, str):
        return Part(piece, is_answer, is_answer)
    return Part("", is_answer, is_answer, media=media_of(piece))
