"""A held-out rung: what is known of it before it is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxgen.errors import StudyError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.studies.study_runs import Ladder, rung_of, unique_tokens
from jaxgen.training.loading import open_data


@dataclasses.dataclass(frozen=True)
class HeldOutRung:
    """A rung that is to be predicted, as it is known before training.

    Attributes:
      name: of the rung; its runs are NAME-seedN.
      mixture: the name of the mixture that they are trained on.
      parameters: by count: active, total, without_embedding.
      tokens: of a run.
      flops: of a run.
      seeds: of its runs.
      unique_tokens: of the tokens, those seen for the first time; None: all.
    """

    name: str
    mixture: str
    parameters: Mapping[str, int]
    tokens: int
    flops: int
    seeds: tuple[int, ...]
    unique_tokens: float | None = None

    @property
    def ladder(self) -> Ladder:
        """Returns the ladder of the runs that it can be predicted from."""
        is_sparse = self.parameters["active"] != self.parameters["total"]
        return Ladder(self.mixture, "sparse" if is_sparse else "dense")

    @property
    def columns(self) -> dict[str, float]:
        """Returns the inputs of a law, by the names of a table's columns."""
        counts = {name: float(count) for name, count in self.parameters.items()}
        return counts | {
            "parameters": counts["active"],
            "tokens": float(self.tokens),
            "unique_tokens": float(
                self.tokens if self.unique_tokens is None else self.unique_tokens
            ),
            "flops": float(self.flops),
        }


def held_out_rung(configs: Sequence[RunConfig]) -> HeldOutRung:
    """Describes the rung of configurations that differ in the seed alone, without training it.

    Its data are opened to count the epochs over them; the token cache has what smaller runs read.

    Raises:
      StudyError: no configuration, or several rungs.
      DataError: if its data cannot be read.
    """
    names = {rung_of(config.name) for config in configs}
    if len(names) != 1:
        raise StudyError(
            f"the configurations are of {len(names)} rungs ({sorted(names)}); pass the runs of one."
        )
    parts = (configs[0].initialize_parts or {}).values()
    if started := [one for one in (configs[0].initialize_from, *parts) if one is not None]:
        raise StudyError(
            f"the rung {names.pop()} is initialised from {started[0]}, and no law "
            "of size and tokens predicts such runs; leave it out of held_out."
        )
    count, cost = configs[0].model.count(), cost_of(configs[0])
    train = configs[0].train
    num_rows = train.batch_sizes.rows_before(cost.steps)
    data = open_data(configs[0].mixture, train, cost.steps)
    seen = data.seen(num_rows)
    return HeldOutRung(
        names.pop(),
        configs[0].mixture.name,
        {
            "active": count.active,
            "total": count.total,
            "without_embedding": count.active - count.embedding,
        },
        cost.tokens,
        cost.flops,
        tuple(sorted(one.train.seed for one in configs)),
        unique_tokens(cost.tokens, seen["shares"], seen["epochs"]),
    )
