"""A reward scores what a model wrote. Any object with a name and this call is one.

    @dataclasses.dataclass(frozen=True)
    class Polite:
        name: str = "polite"

        def __call__(self, records, completions):
            return [float("please" in one) for one in completions]

    scored = score(Polite(), records, completions)
    scored.total          # [n] float64, nan where a completion was not scored
    scored.parts          # the same by name, and each summand of a sum of rewards

A score of nan says "not scored": such completions are counted (`num_unscored`), and belong in no
mean. Whatever else is wrong with a reward is one message that names it. The ready-made ones are in
`verifiers`; `guarded` runs one in a process that can be given up.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, check_domains
from jaxgen.errors import ConfigError, JaxgenError

T = TypeVar("T")
SECONDS = 600.0
"""The time that a reward has for one call, unless the caller says otherwise."""


class RewardError(JaxgenError):
    """A reward that raises, takes too long or returns what is no score."""


@runtime_checkable
class Reward(Protocol):
    """Scores completions, larger is better.

    It may have a method `by_part(records, completions)`, which returns the scores of its parts by
    name, its own name among them; and an attribute `in_thread = False`, where it must run in the
    thread that calls it, as one that computes under a mesh must.

    Attributes:
      name: the column that its scores are reported in.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, records: Sequence[Record], completions: Sequence[str], /) -> Sequence[float]:
        """Returns one score for each completion; nan where it has none.

        Args:
          records: after the preprocessors, one for each completion.
          completions: what was written, as text.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Scored:
    """The scores of some completions.

    Attributes:
      total: [n] float64; nan where a completion was not scored.
      parts: [n] float64 by name: the reward itself, and the parts that it has.
    """

    total: np.ndarray
    parts: Mapping[str, np.ndarray]

    @property
    def num_unscored(self) -> int:
        """Returns how many completions have no score."""
        return int(np.isnan(self.total).sum())


@dataclasses.dataclass(frozen=True)
class RewardSum:
    """The weighted sum of several rewards, each of which is reported by itself too.

    A completion that a part with a weight other than 0 does not score has no score.

    Attributes:
      rewards: of different names.
      weights: one for each; () weighs all by 1. 0 only reports a part, and a weight below 0 makes
        it a penalty.
      name: of the sum.
    """

    rewards: tuple[Reward, ...]
    weights: tuple[Annotated[float, Domain(-1000, 1000)], ...] = ()
    name: str = "reward"

    def __post_init__(self):
        check_domains(self, "reward_sum")
        names = [self.name, *(reward.name for reward in self.rewards)]
        if not self.rewards or len(set(names)) < len(names):
            raise ConfigError(
                f"reward_sum needs rewards of different names, and has {names}; set their `name`."
            )
        if len(self.weights) not in (0, len(self.rewards)):
            raise ConfigError(
                f"reward_sum.weights={self.weights}: give each of the {len(self.rewards)} rewards "
                "one weight."
            )

    @property
    def in_thread(self) -> bool:
        """Returns whether all parts may run in another thread."""
        return all(getattr(reward, "in_thread", True) for reward in self.rewards)

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> Sequence[float]:
        """Returns the weighted sums."""
        return self.by_part(records, completions)[self.name].tolist()

    def by_part(
        self, records: Sequence[Record], completions: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Returns the sums, then the scores of every part by name."""
        parts: dict[str, np.ndarray] = {}
        total = np.zeros(len(completions))
        weights = self.weights or (1.0,) * len(self.rewards)
        for reward, weight in zip(self.rewards, weights, strict=True):
            found = checked_parts(reward, records, completions)
            parts |= found
            if weight:
                total = total + weight * found[reward.name]
        return {self.name: total, **parts}


def score(
    reward: Reward,
    records: Sequence[Record],
    completions: Sequence[str],
    seconds: float | None = SECONDS,
) -> Scored:
    """Returns the scores of completions, checked.

    Args:
      reward: the reward.
      records: one for each completion.
      completions: texts.
      seconds: the time that it has; it then runs in a thread that is given up when they are over.
        A thread that never lets go of the interpreter, as a runaway regular expression does, can
        only be ended as a process (`guarded.Guarded`). None waits as long as it takes.

    Raises:
      RewardError: naming the reward, if it raises, takes longer, or returns a wrong number of
        scores, something else than numbers, or an infinite one.
    """
    if not completions:
        return Scored(np.zeros(0), {reward.name: np.zeros(0)})

    def work() -> dict[str, np.ndarray]:
        return checked_parts(reward, records, completions)

    if seconds is None or not getattr(reward, "in_thread", True):
        parts = work()
    else:
        parts = within(seconds, work, f"reward {reward.name!r}")
    return Scored(parts[reward.name], parts)


def checked_parts(
    reward: Reward, records: Sequence[Record], completions: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns the scores by part, the reward's own first; raises RewardError as `score` does."""
    by_part = getattr(reward, "by_part", None)
    try:
        found: Mapping[str, Any] = (
            {reward.name: reward(records, completions)}
            if by_part is None
            else by_part(records, completions)
        )
        parts = {name: _as_scores(name, values, completions) for name, values in found.items()}
    except JaxgenError:
        raise
    except Exception as error:  # Whatever a reward's own code raises.
        raise RewardError(
            f"reward {reward.name!r} raised {type(error).__name__}: {error} (scoring "
            f"{len(completions)} completions, the first {completions[0]!a:.80}); repair it, or "
            "let guarded.on_failure='exclude' leave such completions out."
        ) from error
    return {reward.name: parts[reward.name], **parts}


def within(seconds: float, work: Callable[[], T], what: str) -> T:
    """Returns what `work` returns, or raises RewardError if that takes longer than `seconds`."""
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True, name=what).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        raise RewardError(
            f"{what} was not done after {seconds:g} s and was given up; make it faster, or allow "
            "it more time."
        ) from None
    if error is not None:
        raise error
    return value


def _as_scores(name: str, values: Any, completions: Sequence[str]) -> np.ndarray:
    try:
        scores = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise RewardError(
            f"reward {name!r} returned {values!a:.80}, which are no numbers ({error}); return one "
            "number for each completion, nan where it has no score."
        ) from error
    if scores.shape != (len(completions),):
        raise RewardError(
            f"reward {name!r} returned scores of shape {list(scores.shape)} for "
            f"{len(completions)} completions; return one number for each, nan where it has none."
        )
    if np.isinf(scores).any():
        place = int(np.flatnonzero(np.isinf(scores))[0])
        raise RewardError(
            f"reward {name!r} is infinite for {completions[place]!a:.80}; return a finite number, "
            "or nan where there is no score."
        )
    return scores
