"""One fault of a round: injected, waited for until the run is past it, and measured."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time

from chaos_faults.faults import Kind, NotPossibleError, Since
from chaos_faults.running import Moment, RoundError, Running


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
      kind: its name.
      step: the last one completed when it struck.
      detected: whether jaxgen noticed it; None: there was nothing that it should notice.
      recovered: whether the run went on past that step by itself.
      steps_lost: that had to be taken again.
      seconds_lost: beyond what the same steps take otherwise.
      problem: why it did not recover, or was not possible here.
      possible: whether it could be injected.
    """

    kind: str
    step: int = 0
    detected: bool | None = None
    recovered: bool = False
    steps_lost: int = 0
    seconds_lost: float = 0.0
    problem: str = ""
    possible: bool = True


def disturb(run: Running, kind: Kind, draw: random.Random, step_seconds: float) -> Outcome:
    """Injects a fault, waits until the run is past it, and returns what came of it.

    A run that does not go on by itself is given its command again, as a person would.

    Args:
      run: the round.
      kind: of the fault.
      draw: decides all that is open about it.
      step_seconds: what a step takes, with its share of checkpoints and evaluations.
    """
    assert run.now is not None, "the round has begun"
    first, began, before = len(run.moments) - 1, time.monotonic(), run.now.step
    history, printed, starts = len(run.history()), run.log.stat().st_size, run.starts_again
    problem, past = "", None
    try:
        kind.inject(run, draw)
        past = run.wait(lambda: when_past(run.moments[first:], kind.resumes))
    except NotPossibleError as error:
        return Outcome(kind.name, before, problem=str(error), possible=False)
    except RoundError as error:
        problem = str(error)
        with contextlib.suppress(RoundError):  # The round is then over.
            if not run.has_ended():
                run.start_by_hand()
                past = run.wait(lambda: when_past(run.moments[first:], True))
    since = Since(run.history()[history:], run.printed(printed), run.starts_again - starts)
    struck, resumed, at = (before, before, began) if past is None else past
    gained = resumed - before + 1
    return Outcome(
        kind.name,
        struck,
        None if kind.seen is None else kind.seen(since),
        not problem,
        struck - resumed,
        max(0.0, at - began - gained * step_seconds) if past is not None else 0.0,
        problem,
    )


def when_past(moments: list[Moment], resumes: bool) -> tuple[int, int, float] | None:
    """Returns the step at which a fault struck, that from which it went on, and when it was past.

    None: it is not past, which it is one step after the last that was completed before.
    """
    turns = [
        place
        for place in range(1, len(moments))
        if moments[place].process_id != moments[place - 1].process_id
        or moments[place].step < moments[place - 1].step
    ]
    if not turns:
        if resumes:
            return None
        struck = moments[0].step
        later = [one for one in moments if one.step > struck + 1]
        return (struck, struck, later[0].time) if later else None
    struck = max(one.step for one in moments[: turns[-1]])
    resumed = min(moments[turn].step for turn in turns)
    later = [one for one in moments[turns[-1] :] if one.step > struck]
    return (struck, resumed, later[0].time) if later else None
