"""Scoring of programs by samples: the chance that one of k passes its tests (Codex, 2107.03374)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import Row, instance_of
from jaxgen.evaluation.generations import CodeExecution
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.generation.policies import SamplingPolicy

COUNTS = (1, 10, 100)
"""The k of pass@k."""


@dataclasses.dataclass(frozen=True)
class PassAtK(CodeExecution):
    """Samples programs of each problem, and tells from those that pass how often one of k would.

    A row is a problem, with "pass@1", "pass@10" and "pass@100", as far as there are samples; the
    estimate of each is unbiased. "said" is the first sample.

    Attributes:
      num_samples: of a problem.
      policy: how tokens are chosen, with a temperature above 0.
    """

    num_samples: PositiveInt = 20
    policy: SamplingPolicy = SamplingPolicy(temperature=0.8, top_p=0.95)

    METRICS: ClassVar[tuple[str, ...]] = tuple(f"pass@{k}" for k in COUNTS)

    def __post_init__(self):
        super().__post_init__()
        if not self.policy.temperature:
            raise ConfigError(
                "pass_at_k.policy draws several programs: set a temperature above 0, or use "
                "code_execution for a greedy one."
            )

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record; see `Generation.score`."""
        count = self.num_samples
        sampled = super().score(scorer, task, [one for one in records for _ in range(count)])
        rows = []
        for place, record in enumerate(records):
            group = sampled[place * count : (place + 1) * count]
            passed = sum(row["passed"] for row in group)
            rows.append(
                {"task": task.name, "instance": instance_of(record, place)}
                | {"said": group[0]["said"], "samples": count, "passed": passed}
                | {f"pass@{k}": pass_at_k(count, passed, k) for k in COUNTS if k <= count}
            )
        return rows


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Returns the share of all choices of k of the samples in which one or more pass.

    Its mean is the chance that one of k passes, which 1 - (1 - passed / samples)^k overestimates.
    """
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)
