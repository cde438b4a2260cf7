"""Simulated tables of a known kind show what a design can tell apart before it is paid for.

A run of scale s and seed r has on instance i the loss per token

    l = L(s, r) * exp(difficulty_i + noise),        L in nats,

a token is correct with probability exp(-l), an answer is exact where all its tokens are correct,
and its log probability is minus the sum of its tokens' losses. L(s, r) is, times exp(seed noise),

  "mirage"       a power law, floor + start (s / s_min)^-exponent: the metric makes exact match look
                 sudden (Schaeffer et al., 2023)
  "slow mirage"  the same from a slow beginning, floor + start / (1 + (s / s_bend)^exponent) with a
                 bend that takes most of the range
  "break"        slow before a scale, and steep from there: start (s / s_min)^-slow, then
                 (s / s_break)^-steep
  "bimodal"      each seed follows one of two smooth laws, without or with the ability; the chance
                 of the second rises with scale (Zhao et al., 2025)
  "idle groups"  one of the mirages; at one scale before exact match rises, a few seeds are two or
                 three times as sure of their wrong answers as the others, and as often right
  "late groups"  all seeds first learn the format of the answers, most of the whole fall of the
                 loss, without being right; only then each seed gets the ability or does not

Exponents, places and difficulty, which the design leaves open, are drawn anew for each table.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.table import TaskRows

KINDS = ("mirage", "slow mirage", "break", "bimodal", "idle groups", "late groups")
MINOR_LOSS = 1e-4
"""The least loss of a token, in nats."""


@dataclasses.dataclass(frozen=True)
class Design:
    """A design has the numbers of scales, seeds and instances of a study, and its noise.

    Attributes:
      scales: number of rungs, evenly spaced in log scale.
      decades: decades from the smallest scale to the largest.
      seeds: runs of each rung.
      instances: instances of the task.
      answer_tokens: tokens of an answer.
      seed_noise: standard deviation over seeds of the log of the loss.
      difficulty: standard deviation over instances of the log of the loss.
      token_noise: standard deviation of the same over runs of an instance.
      vocabulary: size of the vocabulary; its logarithm is the largest loss of a token.
    """

    scales: int = 8
    decades: float = 3.0
    seeds: int = 8
    instances: int = 200
    answer_tokens: int = 8
    seed_noise: float = 0.06
    difficulty: float = 0.4
    token_noise: float = 0.2
    vocabulary: int = 64

    def __post_init__(self):
        for name in ("scales", "seeds", "instances", "answer_tokens"):
            if getattr(self, name) < 1:
                raise EmergenceError(f"{name}={getattr(self, name)} must be at least 1.")
        if not 0 < self.decades < np.inf or self.vocabulary < 2:
            raise EmergenceError(
                f"decades={self.decades} must be above 0 and vocabulary={self.vocabulary} above 1."
            )
        for name in ("seed_noise", "difficulty", "token_noise"):
            if not 0 <= getattr(self, name) < np.inf:
                raise EmergenceError(f"{name}={getattr(self, name)} must be 0 or more, and finite.")


def simulate(design: Design, kind: str, seed: int = 0) -> TaskRows:
    """Simulates a table of a kind, the same for the same seed.

    Raises:
      EmergenceError: the kind is unknown.
    """
    if kind not in KINDS:
        raise EmergenceError(f"kind={kind!r} must be one of {', '.join(KINDS)}.")
    random = np.random.default_rng([seed, KINDS.index(kind)])
    level = _levels(design, kind, random)  # [scales, seeds]
    level *= np.exp(random.normal(0, design.seed_noise, level.shape))
    difficulty = random.normal(0, design.difficulty, design.instances)
    shape = (design.scales, design.seeds, design.instances)
    loss = level[..., None] * np.exp(difficulty + random.normal(0, design.token_noise, shape))
    loss = np.clip(loss, MINOR_LOSS, np.log(design.vocabulary))
    of_token = loss[..., None] * np.exp(
        random.normal(0, design.token_noise, (*shape, design.answer_tokens))
    )
    is_correct = random.random(of_token.shape) < np.exp(-of_token)
    if kind == "idle groups":
        of_token = _surer(design, level, of_token, is_correct, random)
    rung, run_seed, instance = (part.ravel() for part in np.indices(shape))
    parameters = 1e5 * 10 ** np.linspace(0, design.decades, design.scales)
    return TaskRows(
        task=kind,
        chance=0.0,
        rung=rung,
        seed=run_seed.astype(str),
        instance=instance.astype(str),
        scales={"parameters": parameters},
        metrics={
            "exact_match": is_correct.all(-1).ravel().astype(np.float64),
            "token_accuracy": is_correct.mean(-1).ravel(),
            "log_probability": -of_token.sum(-1).ravel(),
            "answer_tokens": np.full(rung.shape, float(design.answer_tokens)),
        },
    )


def _levels(design: Design, kind: str, random: np.random.Generator) -> np.ndarray:
    """Returns L(s, r) in nats, [scales, seeds]."""
    x = np.linspace(0, 1, design.scales)[:, None] * np.ones(design.seeds)
    reach = design.decades * np.log(10)
    highest = np.log(design.vocabulary)
    # The last loss of a token: between one in two and one in fifty answers are then not exact.
    end = -np.log(random.uniform(0.5, 0.98)) / design.answer_tokens
    if kind == "late groups":
        return _after_format(design, x, random)
    if kind == "idle groups":
        kind = "mirage" if random.random() < 0.5 else "slow mirage"
    if kind in ("mirage", "slow mirage"):
        start = random.uniform(0.25, 0.6) * highest
        if kind == "mirage":
            floor = end * random.uniform(0, 0.5)
            exponent = np.log(start / max(end - floor, MINOR_LOSS)) / reach
            return floor + start * np.exp(-exponent * reach * x)
        width = random.uniform(0.6, 1.0)
        bend = 1 / (1 + np.exp(2 * np.log(9) / width * (x - random.uniform(0.3, 0.6))))
        bend = (bend - bend[-1:]) / (bend[:1] - bend[-1:])
        return end + (start - end) * bend
    start = random.uniform(0.25, 0.6) * highest
    slow = random.uniform(0.0, 0.1) * np.ones(())
    before = start * np.exp(-slow * reach * x)
    place = random.uniform(0.3, 0.7)
    if kind == "break":
        steep = random.uniform(2.0, 4.0)
        after = np.exp(-steep * reach * np.maximum(0, x - place))
        return np.maximum(before * after, end)
    with_ability = end * np.exp(-slow * reach * (x - 1))
    chance = 1 / (1 + np.exp(-random.uniform(5, 12) * (x - place)))
    return np.where(random.random(x.shape) < chance, with_ability, before)


def _after_format(design: Design, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns L of seeds that get the ability or not once they know the format."""
    # Without the ability one in 30 to 200 answers is exact, with it most are.
    without = -np.log(random.uniform(0.005, 0.03)) / design.answer_tokens
    having = -np.log(random.uniform(0.8, 0.99)) / design.answer_tokens
    start = max(random.uniform(0.6, 1.0) * np.log(design.vocabulary), without)
    excess = (start - without) * np.exp(-np.log(20) / random.uniform(0.3, 0.5) * x)
    chance = 1 / (1 + np.exp(-random.uniform(5, 12) * (x - random.uniform(0.5, 0.8))))
    has_it = (random.random(x.shape) < chance) & (excess < without)
    return np.where(
        has_it,
        having * np.exp(random.normal(0, 0.5, x.shape)),
        (without + excess) * np.exp(random.normal(0, 0.2, x.shape)),
    )


def _surer(
    design: Design,
    level: np.ndarray,
    of_token: np.ndarray,
    is_correct: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Returns the losses with those of some seeds' wrong answers larger, at one scale."""
    share = np.exp(-level.mean(1) * design.answer_tokens)
    rung = random.integers(max(int((share < 0.05).sum()), 1))
    few = min(max(2, round(random.uniform(0.2, 0.3) * design.seeds)), design.seeds)
    seeds = random.permutation(design.seeds)[:few]
    of_token = of_token.copy()
    chosen = of_token[rung, seeds]
    larger = np.minimum(chosen * random.uniform(2, 3), np.log(design.vocabulary))
    of_token[rung, seeds] = np.where(is_correct[rung, seeds].all(-1, keepdims=True), chosen, larger)
    return of_token
