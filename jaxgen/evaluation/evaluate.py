"""Evaluates a model: held-out loss of every task, and one row for every instance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.data.base import Data, DataConfig
from jaxgen.data.mixtures import Mixture
from jaxgen.data.packing import RowShape, check_longest
from jaxgen.data.segments import example_segment, sizes_of
from jaxgen.data.tasks import tasks_of
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask
from jaxgen.evaluation.contamination import contaminated
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.summary import summarise
from jaxgen.files import write_atomically
from jaxgen.objectives.base import Objective, Sum
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import check_batch_fits, put_batch


def evaluate(
    model: Any,
    objective: Objective,
    mixture: DataConfig,
    settings: EvaluationConfig,
    length: int,
    path: Path,
    source_length: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores a model on the held-out split, and writes one row for each instance to a file.

    Call under `jax.set_mesh`.

    Args:
      model: the parameters.
      objective: the run's; its metric "loss" (or the objective itself) is the held-out loss.
      mixture: the tasks to score, beside those of the suite.
      settings: the number of instances and batches, and the suite.
      length: of the rows.
      path: the JSON-lines file to write, whole or not at all.
      source_length: of the encoder's rows, where there is one.

    Returns:
      By task: "loss", the held-out loss in nats/token, if it is of the mixture; and if it has
      answers, the summary of its rows by `summarise`.
    """
    summary: dict[str, dict[str, Any]] = {
        name: {"loss": loss}
        for name, loss in heldout_losses(model, objective, mixture, settings, length, source_length)
    }
    rows = []
    tasks = [
        (one, one.task.instances(one.num_examples or settings.num_examples, settings.seed))
        for one in scored_tasks(mixture, settings)
    ]
    own_length = getattr(getattr(model, "config", None), "max_length", None)
    longest = settings.length or max(own_length or 0, length)
    scorer = Scorer(model, settings.batch_size, longest, source_length)
    flagged = None
    if settings.flag_contamination:
        flagged = contaminated(tasks_of(mixture), [(one.task, records) for one, records in tasks])
    for one, records in tasks:
        task, scoring = one.task, one.scoring
        scored = scoring.score(scorer, task, records)
        if flagged is not None:
            for row in scored:
                row["contaminated"] = int((task.name, row["instance"]) in flagged)
        chance = getattr(task.source, "chance", None) if one.chance is None else one.chance
        metrics = dict.fromkeys((*task.metric_names, *scoring.METRICS))
        summary.setdefault(task.name, {}).update(summarise(scored, tuple(metrics), chance))
        rows.extend(scored)
    context = EvaluationContext(
        mixture, objective, settings.seed, settings.batch_size, length, source_length
    )
    for evaluator in settings.evaluators:
        found = [{"task": evaluator.name} | row for row in evaluator(model, context)]
        numbers = {name for row in found for name, value in row.items() if _is_metric(name, value)}
        summary.setdefault(evaluator.name, {}).update(summarise(found, sorted(numbers)))
        rows.extend(found)
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    return summary


def check_heldout(
    mixture: DataConfig,
    settings: EvaluationConfig,
    length: int,
    source_length: int | None,
    config: Any,
    rules: Rules,
) -> None:
    """Checks, without a model, that there is all that `evaluate` will need; call under a mesh.

    Args:
      mixture: as in `evaluate`.
      settings: likewise.
      length: likewise.
      source_length: likewise.
      config: the model's, for how much it reads.
      rules: of the mesh, which must divide the batches.

    Raises:
      JaxgenError: whatever would stop the evaluation, before anything is trained for it.
    """
    check_batch_fits(
        "evaluation.batch_size", settings.batch_size, length, jax.sharding.get_mesh(), rules
    )
    for part in _parts(mixture):
        _open_heldout(part, settings, length, source_length).batch(0)
    longest = settings.length or max(getattr(config, "max_length", None) or 0, length)
    for one in scored_tasks(mixture, settings):
        records = one.task.instances(one.num_examples or settings.num_examples, settings.seed)
        examples = one.task.encode(records, source_length is not None)
        segments = [example_segment(e, one.task.codec, source_length is not None) for e in examples]
        if isinstance(one.scoring, Answers):
            shape = RowShape(longest, source_length)
            check_longest(one.task.name, sizes_of(segments), shape)


def _parts(mixture: DataConfig) -> list[DataConfig]:
    """Returns the tasks that held-out losses are of, each as a mixture; or data of another kind."""
    parts: list[DataConfig] = [
        Mixture(task.name, (dataclasses.replace(task, epochs=None),)) for task in tasks_of(mixture)
    ]
    return parts or [mixture]


def _open_heldout(
    part: DataConfig, settings: EvaluationConfig, length: int, source_length: int | None
) -> Data:
    return part.open(
        batch_size=settings.batch_size,
        length=length,
        seed=settings.seed,
        split="heldout",
        source_length=source_length,
    )


def _is_metric(name: str, value: Any) -> bool:
    return name not in ("task", "instance") and isinstance(value, int | float)


def scored_tasks(mixture: DataConfig, settings: EvaluationConfig) -> list[EvaluationTask]:
    """Returns the mixture's tasks that have answers, and the suite's in the mixture's codec.

    Raises:
      ConfigError: if a task of the suite has the name of one of the mixture.
    """
    tasks = tasks_of(mixture)
    own = [EvaluationTask(task) for task in tasks if task.has_answers]
    twice = {task.name for task in tasks} & {one.task.name for one in settings.suite}
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
    model: Any,
    objective: Objective,
    mixture: DataConfig,
    settings: EvaluationConfig,
    length: int,
    source_length: int | None = None,
) -> Sequence[tuple[str, float | None]]:
    """Returns (task, mean loss of its held-out tokens) of every task; None if a task had no row.

    Every task of a mixture is read by itself, so that a task of small weight is scored on as many
    tokens; data of another kind is read as a whole.
    """
    losses = []

    @jax.jit
    def loss_sum(model: Any, batch: Any) -> Sum:
        loss = objective(model, batch, None)
        return loss.metrics.get("loss", Sum(loss.total, loss.weight))

    mesh = jax.sharding.get_mesh()
    rules = getattr(model, "layout", Layout()).rules
    check_batch_fits("evaluation.batch_size", settings.batch_size, length, mesh, rules)
    for part in _parts(mixture):
        data = _open_heldout(part, settings, length, source_length)
        total = np.zeros(2)
        for step in range(settings.num_batches):
            batch = put_batch(data.batch(step), mesh, rules)
            one = loss_sum(model, batch)
            total += [np.sum(one.total), np.sum(one.weight)]
        losses.append((part.name, float(total[0] / total[1]) if total[1] else None))
    return losses
