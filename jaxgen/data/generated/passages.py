"""Questions about a passage whose answer stands in it."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Lea",
          "Max", "Nora", "Omar", "Pia")  # fmt: skip
VALUES = {
    "home": ("Lima", "Oslo", "Rome", "Cairo", "Paris", "Quito", "Delhi", "Tokyo"),
    "work": ("baker", "pilot", "nurse", "judge", "tailor", "farmer", "singer", "teacher"),
    "pet": ("cat", "dog", "goat", "hen", "horse", "parrot", "rabbit", "turtle"),
    "colour": ("red", "blue", "green", "black", "white", "brown", "yellow", "purple"),
}
SENTENCES = {
    "home": ("{who} lives in {what}.", "The home of {who} is in {what}."),
    "work": ("{who} works as a {what}.", "{who} earns a living as a {what}."),
    "pet": ("{who} has a {what}.", "A {what} lives with {who}."),
    "colour": ("{who} likes {what} best.", "The favourite colour of {who} is {what}."),
}
QUESTIONS = {
    "home": "Where does {who} live?",
    "work": "What is the work of {who}?",
    "pet": "Which pet does {who} have?",
    "colour": "Which colour does {who} like best?",
}
ASIDES = ("It rained all day.", "The market opens at nine.", "A new bridge was built in spring.",
          "The train was late again.", "There was a concert on Sunday.")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PassageQuestions(GeneratedSource):
    """A question about one fact of a passage: "Ada lives in Lima. Ben has a hen. ..." -> "Lima".

    The prompt is the passage, a line break, the question ("Where does Ada live?"), a line break
    and "A:", the answer " Lima". Facts are about different (person, attribute) pairs, so the
    answer is exact; other facts about the same person, and the same attribute of others, distract,
    and so do asides that say nothing of anybody. The key is the prompt.

    Attributes:
      num_facts: sentences that could be asked about.
      num_people: whom they are about, at most 16.
      num_asides: sentences that are about nobody.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the prompts that is held out.
    """

    num_facts: PositiveInt = 6
    num_people: Annotated[int, Domain(1, len(PEOPLE))] = 4
    num_asides: PositiveInt = 1
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.num_facts > self.num_people * len(VALUES):
            raise ConfigError(
                f"PassageQuestions.num_facts={self.num_facts}: {self.num_people} people have "
                f"{self.num_people * len(VALUES)} attributes; use fewer facts or more people."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed value: each is equally likely to be asked for."""
        return 1 / sum(len(values) for values in VALUES.values())

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: people, pairs, values, wording, order and question."""
        return 6

    def record(self, draws: np.ndarray) -> Record:
        """Returns a passage with a question, and the answer."""
        people = [PEOPLE[i] for i in np.argsort(stream(draws[0], len(PEOPLE)))[: self.num_people]]
        pairs = [(who, attribute) for who in people for attribute in VALUES]
        chosen = np.argsort(stream(draws[1], len(pairs)))[: self.num_facts]
        facts = [
            (*pairs[place], choose(draw, VALUES[pairs[place][1]]))
            for place, draw in zip(chosen, stream(draws[2], len(chosen)), strict=True)
        ]
        wording = stream(draws[3], self.num_facts + self.num_asides)
        sentences = [
            choose(draw, SENTENCES[attribute]).format(who=who, what=what)
            for draw, (who, attribute, what) in zip(wording, facts, strict=False)
        ]
        sentences += [choose(draw, ASIDES) for draw in wording[self.num_facts :]]
        order = np.argsort(stream(draws[4], len(sentences)))
        who, attribute, what = facts[int(draws[5]) % self.num_facts]
        passage = " ".join(sentences[place] for place in order)
        prompt = f"{passage}\n{QUESTIONS[attribute].format(who=who)}\nA:"
        return {"prompt": prompt, "answer": f" {what}", "key": prompt}
