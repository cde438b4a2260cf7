"""An invented world whose facts are a list, so that claims about it can be checked by rule."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

from jaxgen.data.generated.passages import PEOPLE, VALUES
from jaxgen.data.generated.translation import lexicon
from jaxgen.data.hashing import hash64

TOWNS = ("Velm", "Torun", "Asker", "Lindo", "Marra", "Olst", "Pevra", "Quend")
GOODS = ("lantern", "kettle", "basket", "ladder", "blanket", "mirror", "candle", "barrel")
WORK = VALUES["work"]
LANGUAGE = "Tovi"
"""The name of the made-up language of `toy_translation`."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence that says something about the world, and whether that is so."""

    text: str
    is_true: bool


@dataclasses.dataclass(frozen=True)
class Town:
    """Prices of goods in towns, homes and trades of people, all drawn from a seed.

    Attributes:
      seed: another one makes another world.
    """

    seed: int = 0

    def price(self, good: str, town: str) -> int:
        """Returns what a good costs in a town, 2 to 60 coins."""
        return 2 + hash64(self.seed, "price", good, town) % 59

    def home(self, who: str) -> str:
        """Returns the town that somebody lives in."""
        return TOWNS[hash64(self.seed, "home", who) % len(TOWNS)]

    def work(self, who: str) -> str:
        """Returns somebody's trade."""
        return WORK[hash64(self.seed, "work", who) % len(WORK)]

    def price_fact(self, good: str, town: str) -> str:
        """Returns the sentence about a price."""
        return f"A {good} costs {self.price(good, town)} coins in {town}."

    def home_fact(self, who: str) -> str:
        """Returns the sentence about a home."""
        return f"{who} lives in {self.home(who)}."

    def work_fact(self, who: str) -> str:
        """Returns the sentence about a trade."""
        return f"{who} works as a {self.work(who)}."

    def knowledge(self) -> tuple[str, ...]:
        """Returns all facts, a sentence each: what a retriever searches."""
        return _knowledge(self)

    def claims(self, text: str) -> list[Claim]:
        """Returns the claims of a text that the world decides, in order.

        They are sentences like the facts, totals ("3 lanterns cost 36 coins in Velm.") and
        translations ("The cook is zape in Tovi.").
        """
        found = sorted(self._claims(text), key=lambda one: one[0])
        return [claim for _, claim in found]

    def _claims(self, text: str) -> Iterator[tuple[int, Claim]]:
        for rule, is_true in self._rules().items():
            for match in re.finditer(rule, text):
                yield match.start(), Claim(match.group(), is_true(*match.groups()))

    def _rules(self) -> dict[str, Callable[..., bool]]:
        def is_price(good: str, price: str, town: str) -> bool:
            return good in GOODS and town in TOWNS and int(price) == self.price(good, town)

        def is_total(count: str, good: str, total: str, town: str) -> bool:
            known = good in GOODS and town in TOWNS
            return known and int(total) == int(count) * self.price(good, town)

        return {
            r"\b[Aa]n? (\w+) costs (\d{1,9}) coins? in (\w+)": is_price,
            r"\b(\d{1,9}) (\w+)s cost (\d{1,18}) coins in (\w+)": is_total,
            r"\b(\w+) lives in (\w+)": lambda who, town: who in PEOPLE and town == self.home(who),
            r"\b(\w+) works as an? (\w+)": (
                lambda who, work: who in PEOPLE and work == self.work(who)
            ),
            rf"\b(\w+) is (\w+) in {LANGUAGE}": (
                lambda word, translated: lexicon().get(word) == translated
            ),
        }


def groundedness(town: Town, text: str) -> tuple[int, int]:
    """Returns how many claims a text has, and how many of them are so."""
    claims = town.claims(text)
    return len(claims), sum(claim.is_true for claim in claims)


@functools.cache
def _knowledge(town: Town) -> tuple[str, ...]:
    prices = [town.price_fact(good, place) for good in GOODS for place in TOWNS]
    people = [fact(who) for who in PEOPLE for fact in (town.home_fact, town.work_fact)]
    return (*prices, *people)
