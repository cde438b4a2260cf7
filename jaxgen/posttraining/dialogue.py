"""LaMDA's dialogue (2201.08239): candidates are sampled, filtered and ranked; tools are asked.

A base writes several responses; those that are not safe enough are dropped, and of the rest the
best by 3 P(sensible) + P(specific) + P(interesting) stays. Then the same model, or another, works
on it: what it writes begins with "TS" and goes to the tools, whose answer it reads, or with "User"
and is the reply.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from jaxgen.data.generated.dialogues import TOOLS, USER
from jaxgen.domains import PositiveInt, UnitFraction, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.posttraining.tools import Toolset
from jaxgen.posttraining.writing import Message, Weigh

Respond = Callable[[Sequence[Sequence[Message]]], list[str]]
"""Maps conversations to the assistant's next turn in each."""
Rate = Callable[[Sequence[str], Sequence[str], str], np.ndarray]
"""Maps contexts, responses and an attribute to the probability of a rating of 1, [n] float64."""
RANKED: Mapping[str, float] = {"SENSIBLE": 3.0, "SPECIFIC": 1.0, "INTERESTING": 1.0}


@dataclasses.dataclass(frozen=True)
class Ranking:
    """How the best of several responses is found.

    Attributes:
      num_candidates: that are sampled.
      safety: the name of the attribute that filters.
      least_safe: candidates with a smaller probability of it are dropped; 0 keeps all.
      weights: of the attributes that rank; {} keeps the first.
      refusal: the response where none is left.
    """

    num_candidates: PositiveInt = 16
    safety: str = "SAFE"
    least_safe: UnitFraction = 0.5
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(RANKED))
    refusal: str = "I would rather not answer that."

    def __post_init__(self):
        check_domains(self, "ranking")


@dataclasses.dataclass(frozen=True)
class Ranked:
    """The candidates of one turn with their scores.

    Attributes:
      response: the best, or the refusal.
      candidates: all.
      safe: [candidates] their probability of being safe; ones where nothing filters.
      scores: [candidates] what ranks them.
      num_dropped: those that were not safe enough.
    """

    response: str
    candidates: tuple[str, ...]
    safe: np.ndarray
    scores: np.ndarray
    num_dropped: int


@dataclasses.dataclass(frozen=True)
class Call:
    """A query to the tools, and what they said."""

    query: str
    found: str


@dataclasses.dataclass(frozen=True)
class Reply:
    """The end of one turn of a dialogue.

    Attributes:
      response: what the user reads.
      calls: the queries on the way.
      end: "user" where the model turned to the user; "unrouted" where it wrote neither first word,
        and what it wrote is the response; "exhausted" where it asked for more than it may, and the
        draft is the response.
      turns: what was written in this turn, tool turns included, as messages.
      ranked: the candidates of the draft; None without.
    """

    response: str
    calls: tuple[Call, ...]
    end: Literal["user", "unrouted", "exhausted"]
    turns: tuple[Message, ...]
    ranked: Ranked | None = None


def sample_and_rank(
    conversation: Sequence[Message], respond: Respond, rate: Rate, ranking: Ranking
) -> Ranked:
    """Returns the best of several sampled responses to a conversation.

    Args:
      conversation: up to the user's last turn.
      respond: writes the candidates; asked for all of them at once, it must draw each anew.
      rate: of attributes.
      ranking: the filter and the weights.
    """
    candidates = respond([conversation] * ranking.num_candidates)
    contexts = [conversation[-1]["content"]] * len(candidates)

    def rated(attribute: str) -> np.ndarray:
        found = np.asarray(rate(contexts, candidates, attribute), np.float64)
        if found.shape != (len(candidates),) or not np.all((found >= 0) & (found <= 1)):
            raise DataError(
                f"the ratings of {attribute} are {found.tolist()!a:.80}; they must be one "
                f"probability for each of the {len(candidates)} candidates."
            )
        return found

    safe = rated(ranking.safety) if ranking.least_safe > 0 else np.ones(len(candidates))
    scores = np.zeros(len(candidates))
    for attribute, weight in ranking.weights.items():
        scores += weight * rated(attribute)
    kept = safe >= ranking.least_safe
    best = int(np.argmax(np.where(kept, scores, -np.inf)))
    response = candidates[best] if kept.any() else ranking.refusal
    return Ranked(response, tuple(candidates), safe, scores, int((~kept).sum()))


def reply(
    conversation: Sequence[Message],
    respond: Respond,
    tools: Toolset,
    max_queries: int = 4,
    draft: Ranked | None = None,
    draft_role: str = "draft",
) -> Reply:
    """Returns the reply to a conversation, with queries to the tools on the way.

    Each turn of the model is routed by its first word, "TS" or "User", with what follows a comma
    or colon. A query that was asked before in this turn gets the tools' next snippet.

    Args:
      conversation: up to the user's last turn.
      respond: writes the assistant's next turn.
      tools: are asked.
      max_queries: after as many the model must turn to the user.
      draft: the response that the model works on; None lets it begin from the conversation alone.
      draft_role: the role of the message that holds the draft, behind the conversation.

    Raises:
      ConfigError: if there is nothing to reply to.
    """
    if not conversation:
        raise ConfigError("a reply needs a conversation with one message at least.")
    before = list(conversation)
    if draft is not None:
        before.append({"role": draft_role, "content": draft.response})
    turns: list[Message] = []
    calls: list[Call] = []
    asked: collections.Counter[str] = collections.Counter()
    while True:
        (written,) = respond([[*before, *turns]])
        first, text = routed(written)
        turns.append({"role": "assistant", "content": written})
        if first == TOOLS and len(calls) < max_queries:
            found = tools(text, asked[text])
            asked[text] += 1
            calls.append(Call(text, found))
            turns.append({"role": "tool", "content": found})
            continue
        if first == TOOLS:
            response = "" if draft is None else draft.response
            return Reply(response, tuple(calls), "exhausted", tuple(turns), draft)
        end = "user" if first == USER else "unrouted"
        return Reply(text, tuple(calls), end, tuple(turns), draft)


def routed(written: str) -> tuple[str, str]:
    """Returns whom a text is for, "TS", "User" or "" for neither, and what it says to them."""
    text = written.strip()
    for first in (TOOLS, USER):
        rest = text[len(first) :]
        if text.startswith(first) and (not rest or rest[0] in ",: "):
            return first, rest.lstrip(",: ").strip()
    return "", text


def rater(weigh: Weigh) -> Rate:
    """Returns ratings by a model that was tuned on "context RESPONSE response ATTRIBUTE rating"."""

    def rate(contexts: Sequence[str], responses: Sequence[str], attribute: str) -> np.ndarray:
        prompts = [
            f"{context} RESPONSE {response} {attribute}"
            for context, response in zip(contexts, responses, strict=True)
        ]
        logs = weigh(prompts, (" 0", " 1"))
        return np.exp(logs[:, 1] - np.logaddexp(logs[:, 0], logs[:, 1]))

    return rate
