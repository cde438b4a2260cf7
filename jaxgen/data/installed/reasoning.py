"""Puzzles of the package reasoning-gym, made on the spot, with its own scorers."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.data.protocols import Record, Split
from jaxgen.data.sources import some
from jaxgen.domains import InnerFraction, PositiveInt, Seed, check_domains
from jaxgen.errors import ConfigError, DataError

MARK = b"=jaxgen="
MAKE = """
import pickle, sys
name, settings, size, seed = pickle.load(sys.stdin.buffer)
import reasoning_gym
from reasoning_gym.factory import DATASETS
entries, refusal = [], ""
if name not in DATASETS:
    refusal = f"dataset={name!r} is no generator; use one of {', '.join(sorted(DATASETS))}"
else:
    try:
        made = reasoning_gym.create_dataset(name, seed=seed, size=size, **settings)
        entries = [made[index] for index in range(size)]
    except (AssertionError, TypeError, ValueError) as error:
        refusal = f"settings={settings}: {name} refuses them ({error})"
sys.stdout.buffer.write(b"=jaxgen=" + pickle.dumps((entries, refusal)))
"""
CURE = "pip install 'jaxgen[reasoning]'"


@dataclasses.dataclass(frozen=True)
class ReasoningGym:
    """Questions of one of the generators of reasoning-gym (Apache-2.0), about a hundred of them.

    A record has `prompt` (the question and a line break), `answer` (where there is a single one;
    some puzzles have many, and are for rewards alone), `key` (the question), and `dataset` and
    `entry`, by which `jaxgen.posttraining.reasoning.ReasoningGymScore` scores any answer.

    Attributes:
      dataset: the generator, such as "basic_arithmetic"; `reasoning_gym.factory.DATASETS` has all.
      settings: of the generator, such as {"max_terms": 3}.
      size: questions, held-out ones included; a question that comes twice is of one split.
      seed: of the questions.
      heldout_fraction: share of the questions that is held out.
    """

    dataset: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    size: PositiveInt = 10_000
    seed: Seed = 0
    heldout_fraction: InnerFraction = 0.1

    key_field: ClassVar[str] = "key"

    def __post_init__(self):
        check_domains(self, "reasoning_gym")

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the questions of a split.

        Raises:
          DataError: if the package is not there.
          ConfigError: if it has no such generator, or refuses the settings.
        """
        return some(
            (
                self._record(entry)
                for entry in self._made()
                if is_heldout(str(entry["question"]), self.heldout_fraction) == (split == "heldout")
            ),
            split,
            type(self).__name__,
        )

    def content_digest(self) -> str:
        """Returns a text that changes with the settings and the version of the package."""
        gym()
        return f"{hash64(self, self.settings, importlib.metadata.version('reasoning-gym')):016x}"

    def _made(self) -> list[dict[str, Any]]:
        """Returns all questions, made in a process in which texts have fixed hashes.

        Some generators go through sets, whose order is another one in each process.
        """
        gym()
        task = pickle.dumps((self.dataset, dict(self.settings), self.size, self.seed))
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-c", MAKE], input=task, env=environment, capture_output=True
        )
        if done.returncode:
            raise DataError(
                f"reasoning_gym.dataset={self.dataset!r} cannot be made: "
                f"{done.stderr.decode(errors='replace')[-300:]}"
            )
        # What a generator prints must not be taken for the questions.
        entries, refusal = pickle.loads(done.stdout.rpartition(MARK)[2])
        if refusal:
            raise ConfigError(f"reasoning_gym: {refusal}.")
        return entries

    def _record(self, entry: Mapping[str, Any]) -> Record:
        question, answer = str(entry["question"]), entry["answer"]
        record = {"prompt": f"{question}\n", "key": question, "dataset": self.dataset}
        single = {"answer": answer} if isinstance(answer, str) else {}
        return record | single | {"entry": dict(entry)}


def gym() -> Any:
    """Returns the package.

    Raises:
      DataError: if it is not installed, with the cure.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise DataError(f"the package reasoning-gym is not installed: {CURE}.")
    return importlib.import_module("reasoning_gym")
