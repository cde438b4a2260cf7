"""Completions with preferences between them, whose true reward is a known rule."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, NonNegativeFloat, PositiveInt

TOPICS = {
    "sea": ("ship", "wave", "fish", "sail", "harbour", "island"),
    "garden": ("rose", "spade", "hedge", "bee", "apple", "lawn"),
    "kitchen": ("bread", "oven", "spoon", "soup", "salt", "pan"),
    "winter": ("snow", "ice", "coat", "sledge", "frost", "stove"),
}
FILLERS = ("and", "the", "with", "some", "very", "more", "near", "then")
RUDE = ("stupid", "rotten", "awful", "dull")


def gold_score(topic: str, completion: str) -> float:
    """Returns the true reward of a completion: a rule over its words.

    Each word of the topic counts 1 the first time and -0.5 again, a rude word -1.5, and any word
    that is neither of the topic nor a filler -0.5; a full stop at the end counts 0.5, fillers
    nothing. So the best there is has every word of the topic once, and a full stop.
    """
    words = re.findall(r"[^\s.,]+", completion)
    own, score = TOPICS[topic], 0.0
    for place, word in enumerate(words):
        if word in own:
            score += 1.0 if word not in words[:place] else -0.5
        elif word not in FILLERS:
            score -= 1.5 if word in RUDE else 0.5
    return score + 0.5 * completion.rstrip().endswith(".")


@dataclasses.dataclass(frozen=True)
class GoldPreferences(GeneratedSource):
    """Completions of one prompt, ranked by somebody who errs: "sea:" with " ship and fish.", ...

    Their true reward is `gold_score`. Who ranks them adds noise to it: with a temperature T the
    first of two is preferred with the probability sigmoid((a - b) / T), as Bradley and Terry have
    it, and several are ranked as Plackett and Luce have it; a share of all rankings is turned
    round.

    Records have `prompt`, `topic`, a list of `completions`, their observed `scores` (the rank,
    larger is better), their true `gold_scores`, `chosen` and `rejected` (the best by rank, and
    another), `answer` (the chosen one, to imitate) and `preference`, the probability with which
    somebody like that prefers the chosen one. The key is the prompt and the completions.

    Attributes:
      num_completions: of a prompt; 2 makes pairs.
      max_words: of a completion; each length from 1 on is equally likely.
      temperature: of the noise; 0 has none.
      flip_rate: share of the rankings that are turned round.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the instances that is held out.
    """

    num_completions: Annotated[int, Domain(2, 16)] = 2
    max_words: PositiveInt = 6
    temperature: NonNegativeFloat = 1.0
    flip_rate: Annotated[float, Domain(0, 0.5)] = 0.0
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the topic, the words, the noise, the other and a flip."""
        return 5

    def record(self, draws: np.ndarray) -> Record:
        """Returns a prompt with ranked completions."""
        topic = choose(draws[0], tuple(TOPICS))
        count = self.num_completions
        completions = [self._completion(topic, seed) for seed in stream(draws[1], count)]
        gold = np.array([gold_score(topic, one) for one in completions])
        flipped = _uniform(draws[4]) < self.flip_rate
        ranks = self._ranks(gold, draws[2])
        ranks = count - 1 - ranks if flipped else ranks
        best = int(np.argmax(ranks))
        others = [place for place in range(count) if place != best]
        other = others[int(draws[3]) % len(others)]
        chosen, rejected = completions[best], completions[other]
        return {
            "prompt": f"{topic}:",
            "topic": topic,
            "completions": completions,
            "scores": ranks.astype(float).tolist(),
            "gold_scores": gold.tolist(),
            "chosen": chosen,
            "rejected": rejected,
            "answer": chosen,
            "preference": self.probability(float(gold[best] - gold[other])),
            "key": f"{topic}:{'|'.join(completions)}",
        }

    def probability(self, difference: float) -> float:
        """Returns the probability that one of a pair is preferred, by how much better it is."""
        if self.temperature:
            bounded = min(max(difference / self.temperature, -700.0), 700.0)
            clean = 1 / (1 + math.exp(-bounded))
        else:
            clean = 0.5 + 0.5 * ((difference > 0) - (difference < 0))
        return (1 - self.flip_rate) * clean + self.flip_rate * (1 - clean)

    def _completion(self, topic: str, seed: np.uint64) -> str:
        draws = stream(seed, 3 + 2 * self.max_words)
        off_topic = tuple(w for other, words in TOPICS.items() if other != topic for w in words)
        # Each text has a share of good words of its own, so that rewards are spread.
        share = _uniform(draws[0])
        words = []
        for kind, which in draws[3 : 3 + 2 * (1 + int(draws[1]) % self.max_words)].reshape(-1, 2):
            rest = choose(kind, (FILLERS, FILLERS, off_topic, RUDE))
            words.append(choose(which, TOPICS[topic] if _uniform(kind) < share else rest))
        return " " + " ".join(words) + "." * (int(draws[2]) % 2)

    def _ranks(self, gold: np.ndarray, seed: np.uint64) -> np.ndarray:
        """Returns the observed rank of each, 0 for the worst; ties are broken by chance."""
        uniform = np.array([_uniform(draw) for draw in stream(seed, len(gold))])
        gumbel = -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))
        if self.temperature:
            noisy = gold / self.temperature + gumbel
            return np.argsort(np.argsort(noisy, kind="stable"), kind="stable")
        order = np.lexsort((gumbel, gold))
        ranks = np.empty(len(gold), int)
        ranks[order] = np.arange(len(gold))
        return ranks


def _uniform(draw: np.uint64 | int) -> float:
    """Maps 64 bits to [0, 1)."""
    return (int(draw) >> 11) * 2.0**-53
