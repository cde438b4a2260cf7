"""How often a design would be judged rightly, by kind of task.

>>> power(Design(scales=8, seeds=8), "bimodal", draws=200).right
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval, wilson
from jaxgen.emergence.simulate import Design, simulate
from jaxgen.emergence.verdict import EXPLAINED, NOT_EXPLAINED, verdict

RIGHT = {"mirage": EXPLAINED, "break": NOT_EXPLAINED, "bimodal": NOT_EXPLAINED}


@dataclasses.dataclass(frozen=True)
class Power:
    """Of one design and kind.

    Attributes:
      kind: of the simulated tasks.
      right: share of right verdicts, with Wilson's interval over the draws.
      verdicts: each verdict's share.
    """

    kind: str
    right: Interval
    verdicts: Mapping[str, float]


def power(design: Design, kind: str, draws: int = 200, seed: int = 0) -> Power:
    """Judges simulated tasks of a kind; a fraction of a second for each draw.

    Raises:
      EmergenceError: no draws, or a kind that there is none of.
    """
    if draws < 1:
        raise EmergenceError(f"draws={draws} must be at least 1.")
    counts = collections.Counter(
        verdict(simulate(design, kind, seed + draw)).verdict for draw in range(draws)
    )
    return Power(
        kind,
        wilson(counts[RIGHT[kind]], draws),
        {said: count / draws for said, count in counts.most_common()},
    )
