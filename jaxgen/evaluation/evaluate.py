"""Judging a model: held-out loss of every task, and one row for every instance with an answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.data.mixtures import Mixture
from jaxgen.errors import ConfigError
from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask
from jaxgen.evaluation.contamination import contaminated
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.summary import summarise
from jaxgen.files import write_atomically
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.base import Objective, Sum
from jaxgen.training.loading import put_batch


def evaluate(
    model: Transformer,
    objective: Objective,
    mixture: Mixture,
    settings: EvaluationConfig,
    length: int,
    path: Path,
    source_length: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores a model on the held-out split and leaves one row an instance in a file.

    Call under `jax.set_mesh`.

    Args:
      model: the parameters.
      objective: the run's, whose metric "loss" (or the objective itself) is the held-out loss.
      mixture: its tasks are scored, and those of the suite.
      settings: how much is scored, and the suite.
      length: of the rows.
      path: the JSON-lines file to write, whole or not at all.
      source_length: of the encoder's rows, where there is one.

    Returns:
      By task: "loss", the held-out loss a token in nats, of the mixture's; and where the task has
      answers, what `summarise` says of its rows.
    """
    summary: dict[str, dict[str, Any]] = {
        name: {"loss": loss}
        for name, loss in heldout_losses(model, objective, mixture, settings, length, source_length)
    }
    rows = []
    asked = [
        (one, one.task.instances(one.num_examples or settings.num_examples, settings.seed))
        for one in judged_tasks(mixture, settings)
    ]
    scorer = Scorer(model, settings.batch_size, settings.length or length, source_length)
    flagged = None
    if settings.flag_contamination:
        flagged = contaminated(mixture, [(one.task, records) for one, records in asked])
    for judged, records in asked:
        task, scoring = judged.task, judged.scoring
        scored = scoring.score(scorer, task, records)
        if flagged is not None:
            for row in scored:
                row["contaminated"] = int((task.name, row["instance"]) in flagged)
        chance = getattr(task.source, "chance", None) if judged.chance is None else judged.chance
        metrics = dict.fromkeys((*task.metrics, *scoring.METRICS))
        summary.setdefault(task.name, {}).update(summarise(scored, tuple(metrics), chance))
        rows.extend(scored)
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    return summary


def judged_tasks(mixture: Mixture, settings: EvaluationConfig) -> list[EvaluationTask]:
    """The mixture's tasks that have answers, and the suite's, in the mixture's codec.

    Raises:
      ConfigError: if a task of the suite has the name of one of the mixture.
    """
    own = [EvaluationTask(task) for task in mixture.every_task if task.has_answers]
    twice = {task.name for task in mixture.every_task} & {one.task.name for one in settings.suite}
    if twice:
        raise ConfigError(
            f"the tasks {sorted(twice)} of evaluation.suite have the names of tasks of the "
            "mixture; give them others, such as addition_3_shot."
        )
    suite = (
        dataclasses.replace(one, task=dataclasses.replace(one.task, codec=mixture.codec))
        for one in settings.suite
    )
    return [*own, *suite]


def heldout_losses(
    model: Transformer,
    objective: Objective,
    mixture: Mixture,
    settings: EvaluationConfig,
    length: int,
    source_length: int | None = None,
) -> Sequence[tuple[str, float | None]]:
    """(task, mean loss of its held-out tokens) for every task; None where a task had no row.

    Every task is read by itself, so that a task of small weight is judged on as many tokens.
    """
    losses = []

    @jax.jit
    def loss_sum(model: Any, batch: Any) -> Sum:
        loss = objective(model, batch, None)
        return loss.metrics.get("loss", Sum(loss.total, loss.weight))

    mesh = jax.sharding.get_mesh()
    for task in mixture.every_task:
        alone = Mixture(task.name, (dataclasses.replace(task, epochs=None),))
        data = alone.open(
            batch_size=settings.batch_size,
            length=length,
            seed=settings.seed,
            split="heldout",
            source_length=source_length,
        )
        total = np.zeros(2)
        for step in range(settings.num_batches):
            batch = put_batch(data.batch(step), mesh, model.layout.rules)
            one = loss_sum(model, batch)
            total += [np.sum(one.total), np.sum(one.weight)]
        losses.append((task.name, float(total[0] / total[1]) if total[1] else None))
    return losses
