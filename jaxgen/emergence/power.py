"""The power of a design is how often it would lead to the correct verdict.

>>> power(Design(scales=8, seeds=8), "bimodal", draws=200).correct
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval, wilson
from jaxgen.emergence.simulate import Design, simulate
from jaxgen.emergence.verdict import EXPLAINED, NOT_EXPLAINED, verdict

CORRECT = {
    "mirage": EXPLAINED,
    "slow mirage": EXPLAINED,
    "break": NOT_EXPLAINED,
    "bimodal": NOT_EXPLAINED,
    "idle groups": EXPLAINED,
    "late groups": NOT_EXPLAINED,
}


@dataclasses.dataclass(frozen=True)
class DesignPower:
    """The power of one design for one kind of task.

    Attributes:
      kind: the kind of the simulated tasks.
      correct: share of correct verdicts, with Wilson's interval over the draws.
      verdicts: share of each verdict.
    """

    kind: str
    correct: Interval
    verdicts: Mapping[str, float]


def power(design: Design, kind: str, draws: int = 200, seed: int = 0) -> DesignPower:
    """Takes the verdicts of simulated tasks of a kind, a fraction of a second for each draw.

    Raises:
      EmergenceError: there are no draws, or the kind is unknown.
    """
    if draws < 1:
        raise EmergenceError(f"draws={draws} must be at least 1.")
    counts = collections.Counter(
        verdict(simulate(design, kind, seed + draw)).verdict for draw in range(draws)
    )
    return DesignPower(
        kind,
        wilson(counts[CORRECT[kind]], draws),
        {name: count / draws for name, count in counts.most_common()},
    )
