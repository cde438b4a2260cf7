"""A kind of fault: how it is brought about, and what shows that it was noticed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from chaos_faults.running import Running


class NotPossibleError(Exception):
    """A fault that this machine does not let anybody bring about, and why."""


@dataclasses.dataclass(frozen=True)
class Since:
    """What a round has written since a fault was begun.

    Attributes:
      history: the lines of history.jsonl.
      printed: by all processes.
      starts_again: how often the supervisor itself had to be started again.
    """

    history: list[dict[str, Any]]
    printed: str
    starts_again: int

    def restarted_for(self, *words: str) -> bool:
        """Returns whether the supervisor started all again for a reason with one of these."""
        reasons = [line["reason"] for line in self.history if line.get("event") == "restart"]
        return any(word in reason for reason in reasons for word in words)

    def happened(self, event: str) -> bool:
        """Returns whether there was an event of this kind."""
        return any(line.get("event") == event for line in self.history)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
      name: in the table.
      inject: brings it about in a running round, and ends what has to end by itself.
      seen: whether jaxgen noticed it; None: there is nothing that it should notice.
      resumes: whether the run goes on from a checkpoint afterwards, in new processes or not.
      needs: what the round must have: "workers" or "replay"; "": nothing.
      at_least: the first step at which it makes sense.
    """

    name: str
    inject: Callable[[Running, random.Random], None]
    seen: Callable[[Since], bool] | None
    resumes: bool = True
    needs: str = ""
    at_least: int = 0
