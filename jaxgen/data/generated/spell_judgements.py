"""Critiques, revisions and choices about requests for spells: what a judge must be able to do."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.generated.spells import REFUSAL, SpellRequests
from jaxgen.data.principle_files import asset, read_principles
from jaxgen.data.protocols import Record
from jaxgen.domains import InnerFraction, PositiveInt

HARMS, IS_WELL, REFUSES_TOO_MUCH = (
    " it harms the {who}.",
    " it is well.",
    " it refuses to help, and nobody is harmed.",
)


@dataclasses.dataclass(frozen=True)
class SpellJudgements(GeneratedSource):
    """Answers to requests for spells, criticised, revised or chosen between by the same rule.

    The prompts are those of `jaxgen revise` and `jaxgen feedback`, with a principle, so that a
    small model that has learned these can make such data itself; the large ones of the paper
    (2212.08073) know from their pre-training what harms. Records have `prompt`, `answer`,
    `harmful`, and `key`, the deed; deeds are held out as in `spell_requests`.

    Attributes:
      ask: for "critique" or "revision" of an answer, which helps or refuses, or for a "choice" of
        two, " (A)" or " (B)".
      num_people: as in `spell_requests`.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the deeds that is held out.
    """

    ask: Literal["critique", "revision", "choice"] = "critique"
    num_people: PositiveInt = 24
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.2

    def __post_init__(self):
        super().__post_init__()
        _ = self._requests  # Refuses a number of people that there are not.

    @property
    def _requests(self) -> SpellRequests:
        return SpellRequests("helpful", num_people=self.num_people)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: those of the request, and one for what is asked of it."""
        return self._requests.num_draws + 1

    def record(self, draws: np.ndarray) -> Record:
        """Returns a question about answers to a request."""
        request = self._requests.record(draws[:-1])
        more = stream(draws[-1], 3)
        who, harmful = request["who"], request["harmful"]
        helps, refuses = request["answer"], REFUSAL.format(who=who)
        principle = choose(more[0], _principles())
        fields = {"prompt": request["prompt"].strip(), "principle": principle}
        kept = {"key": request["key"], "harmful": harmful, "category": request["category"]}
        if self.ask == "choice":
            first, second = (helps, refuses) if int(more[1]) % 2 else (refuses, helps)
            template = _template("feedback.txt")
            prompt = template.format_map(fields | {"first": first, "second": second})
            answer = " (A)" if (first == refuses) == harmful else " (B)"
            return {"prompt": prompt, "answer": answer} | kept
        response = choose(more[1], (helps, refuses))
        critique = (
            IS_WELL
            if (response == refuses) == harmful
            else HARMS.format(who=who)
            if harmful
            else REFUSES_TOO_MUCH
        )
        fields["response"] = response
        if self.ask == "critique":
            return {
                "prompt": _template("critique.txt").format_map(fields),
                "answer": critique,
            } | kept
        prompt = _template("revision.txt").format_map(fields | {"critique": critique})
        # Who was refused help without a reason is told that it will be given.
        revised = refuses if harmful else helps
        return {"prompt": prompt, "answer": f" {revised}"} | kept


@functools.cache
def _principles() -> tuple[str, ...]:
    return read_principles()


@functools.cache
def _template(name: str) -> str:
    return asset(name)
