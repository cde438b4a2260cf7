"""Dialogues about an invented world: with tools to look facts up, and rated responses."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.generated.passages import PEOPLE
from jaxgen.data.generated.spells import CATEGORIES
from jaxgen.data.generated.town import GOODS, LANGUAGE, TOWNS, WORK, Town
from jaxgen.data.generated.translation import NOUNS, lexicon
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt, Seed

TOOLS, USER = "TS", "User"
"""The first word of what an assistant writes: to its tools, or to the user (LaMDA, 2201.08239)."""
ATTRIBUTES = ("SENSIBLE", "SPECIFIC", "INTERESTING", "SAFE", "GROUNDED")
Kind = Literal["price", "total", "home", "work", "word"]
KINDS: tuple[Kind, ...] = ("price", "total", "home", "work", "word")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "price": ("What does a {good} cost in {town}?", "How much is a {good} in {town}?"),
    "total": ("What do {count} {good}s cost in {town}?", "How much are {count} {good}s in {town}?"),
    "home": ("Where does {who} live?", "Which town is the home of {who}?"),
    "work": ("What is the work of {who}?", "What does {who} do for a living?"),
    "word": ("What is {word} in {language}?", "How does one say {word} in {language}?"),
}


class Exchange(NamedTuple):
    """A question with its answer.

    Attributes:
      question: of the user.
      calls: what tools are asked, and what they say.
      answer: to the user.
      facts: sentences of the world's knowledge that the answer rests on.
      wrong: the same answer with a false value.
    """

    question: str
    calls: tuple[tuple[str, str], ...]
    answer: str
    facts: tuple[str, ...]
    wrong: str


@dataclasses.dataclass(frozen=True)
class TownDialogues(GeneratedSource):
    """Questions about prices, homes, trades and words, answered with facts of `town.Town`.

    Records have `messages`, the list of `facts` that the answers rest on, and the last question and
    answer as `prompt` and `answer`. With tools the assistant first writes to them, as in LaMDA:
    "TS, lantern Velm" and, after the tool's turn, "User, A lantern costs 12 coins in Velm." The key
    is the questions.

    Attributes:
      turns: questions in a dialogue.
      tools: whether facts are looked up; otherwise the assistant knows them.
      kinds: of questions, each equally likely.
      world: the seed of the facts.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the dialogues that is held out.
    """

    turns: Annotated[int, Domain(1, 16)] = 2
    tools: bool = False
    kinds: tuple[Kind, ...] = KINDS
    world: Seed = 0
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.1

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: one for each question."""
        return self.turns

    def record(self, draws: np.ndarray) -> Record:
        """Returns a dialogue."""
        exchanges = [exchange(Town(self.world), draw, self.kinds) for draw in draws]
        messages: list[dict[str, str]] = []
        for one in exchanges:
            messages.append({"role": "user", "content": one.question})
            for query, found in one.calls if self.tools else ():
                messages.append({"role": "assistant", "content": f"{TOOLS}, {query}"})
                messages.append({"role": "tool", "content": found})
            said = f"{USER}, {one.answer}" if self.tools else one.answer
            messages.append({"role": "assistant", "content": said})
        last = exchanges[-1]
        return {
            "messages": messages,
            "facts": list(dict.fromkeys(fact for one in exchanges for fact in one.facts)),
            "prompt": last.question,
            "answer": last.answer,
            "key": "\n".join(one.question for one in exchanges),
            "world": self.world,
        }


@dataclasses.dataclass(frozen=True)
class RatedResponses(GeneratedSource):
    """Responses in a dialogue with ratings, as LaMDA is tuned on (2201.08239).

    rows="discriminative": the prompt "QUESTION RESPONSE answer SAFE" has the answer " 1" or " 0",
    so that the loss is on the rating alone; rows="generative": "QUESTION RESPONSE" has a good
    response as its answer. A model trained on both writes responses and rates them.

    A response is good, good and `lively` (it adds a fact that nobody asked for, and is
    interesting), vague (not specific), about something else (not sensible), wrong (not grounded) or
    unsafe (it advises harm). What is not sensible is not specific, and what is not specific is not
    interesting. Records have `context`, `response`, `attribute`, `rating` and the `kind`; the key
    is the context.

    Attributes:
      rows: of ratings or of responses.
      attributes: names from `ATTRIBUTES` that are rated.
      world: the seed of the facts.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the contexts that is held out.
    """

    rows: Literal["discriminative", "generative"] = "discriminative"
    attributes: tuple[Literal["SENSIBLE", "SPECIFIC", "INTERESTING", "SAFE", "GROUNDED"], ...] = (
        ATTRIBUTES
    )
    world: Seed = 0
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.1

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: a question, another, the kind, its text, the attribute."""
        return 5

    def record(self, draws: np.ndarray) -> Record:
        """Returns a context with a response, and a rating of it."""
        town = Town(self.world)
        asked, other = exchange(town, draws[0]), exchange(town, draws[1])
        kinds = tuple(RATINGS) if self.rows == "discriminative" else ("good", "lively")
        kind = choose(draws[2], kinds)
        if kind == "unrelated" and other.answer == asked.answer:
            kind = "vague"
        deed = choose(draws[3], tuple(CATEGORIES.values()))[0].format(who=choose(draws[3], NOUNS))
        response = {
            "good": asked.answer,
            "lively": f"{asked.answer} Did you know? {choose(draws[3], town.knowledge())}",
            "vague": choose(draws[3], ("That depends.", "I am not sure.", "Good question.")),
            "unrelated": other.answer,
            "wrong": asked.wrong,
            "unsafe": f"You could {deed}.",
        }[kind]
        attribute = choose(draws[4], self.attributes)
        rating = int(attribute in RATINGS[kind])
        prompt = f"{asked.question} RESPONSE"
        answer = f" {response}"
        if self.rows == "discriminative":
            prompt, answer = f"{prompt} {response} {attribute}", f" {rating}"
        return {
            "prompt": prompt,
            "answer": answer,
            "key": asked.question,
            "context": asked.question,
            "response": response,
            "attribute": attribute,
            "rating": rating,
            "kind": kind,
            "world": self.world,
        }


RATINGS: dict[str, tuple[str, ...]] = {
    "good": ("SENSIBLE", "SPECIFIC", "SAFE", "GROUNDED"),
    "lively": ("SENSIBLE", "SPECIFIC", "INTERESTING", "SAFE", "GROUNDED"),
    "vague": ("SENSIBLE", "SAFE", "GROUNDED"),
    "unrelated": ("SAFE", "GROUNDED"),
    "wrong": ("SENSIBLE", "SPECIFIC", "SAFE"),
    "unsafe": ("GROUNDED",),
}
"""The attributes that each kind of response has."""


def exchange(town: Town, draw: np.uint64, kinds: tuple[Kind, ...] = KINDS) -> Exchange:
    """Returns a question about the world with its answer, drawn from one number."""
    draws = stream(draw, 7)
    kind = choose(draws[0], kinds)
    good, place, who = choose(draws[1], GOODS), choose(draws[2], TOWNS), choose(draws[3], PEOPLE)
    count, word = 2 + int(draws[4]) % 8, choose(draws[4], tuple(lexicon()))
    question = choose(draws[5], QUESTIONS[kind]).format(
        good=good, town=place, who=who, count=count, word=word, language=LANGUAGE
    )
    price = town.price(good, place)
    off = 1 + int(draws[6]) % 9
    elsewhere = choose(draws[6], tuple(one for one in TOWNS if one != town.home(who)))
    if kind == "price":
        fact = town.price_fact(good, place)
        wrong = f"A {good} costs {price + off} coins in {place}."
        return Exchange(question, ((f"{good} {place}", fact),), fact, (fact,), wrong)
    if kind == "total":
        fact = town.price_fact(good, place)
        calls = ((f"{good} {place}", fact), (f"{count} * {price}", str(count * price)))
        answer, wrong = (
            f"{count} {good}s cost {count * price + error} coins in {place}." for error in (0, off)
        )
        return Exchange(question, calls, answer, (fact,), wrong)
    if kind == "home":
        fact = town.home_fact(who)
        wrong = f"{who} lives in {elsewhere}."
        return Exchange(question, ((f"{who} lives", fact),), fact, (fact,), wrong)
    if kind == "work":
        fact = town.work_fact(who)
        other = choose(draws[6], tuple(one for one in WORK if one != town.work(who)))
        wrong = f"{who} works as a {other}."
        return Exchange(question, ((f"{who} works", fact),), fact, (fact,), wrong)
    answer = f"{word} is {lexicon()[word]} in {LANGUAGE}."
    other = choose(draws[6], tuple(one for one in lexicon() if one != word))
    wrong = f"{word} is {lexicon()[other]} in {LANGUAGE}."
    calls = ((f"{word} in {LANGUAGE}", lexicon()[word]),)
    return Exchange(question, calls, answer, (), wrong)
