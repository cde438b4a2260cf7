"""Summaries that can be checked item by item."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.generated.passages import ASIDES, PEOPLE
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError

DEEDS = ("bought", "sold", "found", "lost", "painted", "repaired", "borrowed", "cleaned")
THINGS = ("lamps", "chairs", "books", "boats", "clocks", "shirts", "bottles", "tables", "mirrors",
          "ladders", "baskets", "drums")  # fmt: skip
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
TIMES = ("In the morning", "At noon", "Later", "After that", "In the evening", "Then")


@dataclasses.dataclass(frozen=True)
class EventSummary(GeneratedSource):
    """The deeds of one person in a passage about several: "... What did Ada do?" -> its items.

    "At noon Ada sold two lamps. It rained all day. Then Ben lost six drums. Later Ada found nine
    books." and, in lines of their own, "What did Ada do?" and "A:" -> " sold two lamps; found nine
    books": the person's deeds in the passage's order. `item_scores` compares item by item. The key
    is the passage.

    Attributes:
      num_events: sentences about somebody.
      max_items: deeds of the person who is asked about: 1 to this, each equally likely.
      num_people: others share the events that are left.
      num_asides: sentences about nobody.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the passages that is held out.
    """

    num_events: PositiveInt = 6
    max_items: PositiveInt = 3
    num_people: Annotated[int, Domain(2, len(PEOPLE))] = 3
    num_asides: PositiveInt = 1
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.max_items > self.num_events:
            raise ConfigError(
                f"EventSummary.max_items={self.max_items} must be at most num_events="
                f"{self.num_events}."
            )

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed deed: one summary in `max_items` is a single deed."""
        return 1 / (self.max_items * len(DEEDS) * len(NUMBERS) * len(THINGS))

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: people, number of items, who does what, asides, order."""
        return 5

    def record(self, draws: np.ndarray) -> Record:
        """Returns a passage with a question, the summary, and its items as a list."""
        people = [PEOPLE[i] for i in np.argsort(stream(draws[0], len(PEOPLE)))[: self.num_people]]
        num_items = 1 + int(draws[1]) % self.max_items
        events = []
        for number, row in enumerate(stream(draws[2], 5 * self.num_events).reshape(-1, 5)):
            who = people[0] if number < num_items else choose(row[0], people[1:])
            deed = f"{choose(row[1], DEEDS)} {choose(row[2], NUMBERS)} {choose(row[3], THINGS)}"
            events.append((who, deed, f"{choose(row[4], TIMES)} {who} {deed}."))
        asides = [choose(draw, ASIDES) for draw in stream(draws[3], self.num_asides)]
        told = events + [("", "", aside) for aside in asides]
        told = [told[place] for place in np.argsort(stream(draws[4], len(told)))]
        passage = " ".join(sentence for _, _, sentence in told)
        items = [deed for who, deed, _ in told if who == people[0]]
        return {
            "prompt": f"{passage}\nWhat did {people[0]} do?\nA:",
            "answer": f" {'; '.join(items)}",
            "key": passage,
            "items": items,
        }


def item_scores(record: Record, summary: str) -> tuple[float, float]:
    """Returns the precision and recall of a summary's items.

    Args:
      record: a record of EventSummary.
      summary: the model's text, items separated by ";"; an item that comes twice counts as correct
        once.
    """
    found = [item.strip() for item in summary.split(";") if item.strip()]
    correct = set(found) & set(record["items"])
    return len(correct) / max(1, len(found)), len(correct) / len(set(record["items"]))
