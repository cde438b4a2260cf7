"""A reward in a process of its own, which can be given up whatever it does."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveFloat, check_domains
from jaxgen.evaluation.sandbox import end
from jaxgen.posttraining.rewards import Reward, RewardError, checked_parts

CHILD = "from jaxgen.posttraining.guarded import child; child()"


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Another reward, computed in a process of its own that is killed when its time is over.

    The process costs its start at each call, about half a second. Reward and records are pickled,
    so the reward's class must be importable there: from an installed module, or a file on the path.

    Attributes:
      reward: the reward.
      seconds: the time that a call has, from the start of the process on.
      on_failure: "raise" ends with a RewardError; "exclude" gives the completions that make the
        reward fail no score (nan). These are found by halving, so that one of n costs about
        2 log2(n) calls.
    """

    reward: Reward
    seconds: PositiveFloat = 60.0
    on_failure: Literal["raise", "exclude"] = "raise"

    def __post_init__(self):
        check_domains(self, "guarded")

    @property
    def name(self) -> str:
        """Returns the name of the reward itself."""
        return self.reward.name

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> Sequence[float]:
        """Returns the reward's scores."""
        return self.by_part(records, completions)[self.name]

    def by_part(
        self, records: Sequence[Record], completions: Sequence[str]
    ) -> dict[str, Sequence[float]]:
        """Returns the scores of the reward and of its parts.

        Raises:
          RewardError: if it fails and `on_failure` is "raise".
        """
        found = self._scored(list(records), list(completions))
        names = {name: None for part in found for name in part} or {self.name: None}
        return {name: [part.get(name, np.nan) for part in found] for name in names}

    def _scored(self, records: list[Record], completions: list[str]) -> list[dict[str, float]]:
        """Returns the scores of each completion by part; none for one that is excluded."""
        try:
            parts = self._in_child(records, completions)
        except RewardError:
            if self.on_failure == "raise":
                raise
            if len(completions) == 1:
                return [{}]
            half = len(completions) // 2
            return [
                *self._scored(records[:half], completions[:half]),
                *self._scored(records[half:], completions[half:]),
            ]
        places = range(len(completions))
        return [{name: float(scores[i]) for name, scores in parts.items()} for i in places]

    def _in_child(self, records: list[Record], completions: list[str]) -> dict[str, np.ndarray]:
        task = pickle.dumps((self.reward, records, completions))
        message = pickle.dumps((_modules(self.reward), task))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, env=environment,
        )  # fmt: skip
        try:
            told, _ = process.communicate(message, timeout=self.seconds)
        except subprocess.TimeoutExpired:
            raise RewardError(
                f"reward {self.name!r} was not done with {len(completions)} completions after "
                f"{self.seconds:g} s (guarded.seconds), and its process was ended."
            ) from None
        finally:
            end(process)
        try:
            outcome = pickle.loads(told)
        except (EOFError, pickle.UnpicklingError):
            raise RewardError(
                f"the process of reward {self.name!r} died (exit status {process.returncode}) "
                f"while scoring {len(completions)} completions."
            ) from None
        if isinstance(outcome, str):
            raise RewardError(outcome)
        return outcome


def child() -> None:
    """Scores what comes on standard input; the main function of the process."""
    modules, task = pickle.load(sys.stdin.buffer)
    # What the reward prints must not reach the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        for name, file in modules.items():
            _import(name, file)
        outcome: Any = checked_parts(*pickle.loads(task))
    except RewardError as error:
        outcome = str(error)
    except Exception as error:
        outcome = f"the reward cannot be used in a process of its own: {error!r}"
    with answer:
        answer.write(pickle.dumps(outcome))


def _modules(part: Any) -> dict[str, str | None]:
    """Returns the modules of the classes of a reward and of its parts, with their files."""
    name = type(part).__module__
    found = {name: getattr(sys.modules.get(name), "__file__", None)}
    if isinstance(part, tuple | list):
        inner = list(part)
    else:
        is_object = dataclasses.is_dataclass(part)
        inner = [getattr(part, f.name) for f in dataclasses.fields(part)] if is_object else []
    for one in inner:
        found |= _modules(one)
    return found


def _import(name: str, file: str | None) -> None:
    """Imports a module by its file where it cannot be found by its name, as a user's part."""
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(name) is not None and name != "__main__":
            return
    spec = None if file is None else importlib.util.spec_from_file_location(name, file)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
