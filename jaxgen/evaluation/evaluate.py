"""Evaluates a model: held-out loss of every task, and one row for every instance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxgen import distributed
from jaxgen.data.base import DataConfig
from jaxgen.data.media_rows import MediaRows
from jaxgen.data.packing import RowShape
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import tasks_of
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import writes_answers
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask
from jaxgen.evaluation.contamination import contaminated
from jaxgen.evaluation.heldout import HeldoutLosses
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.summary import summarise
from jaxgen.files import write_atomically
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Objective
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import check_batch_fits


def evaluate(
    model: Any,
    objective: Objective,
    mixture: DataConfig,
    settings: EvaluationConfig,
    length: int,
    path: Path,
    source_length: int | None = None,
    heldout: HeldoutLosses | None = None,
    write: Callable[[Path, str], None] = write_atomically,
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
      heldout: of the same settings, if it is there already.
      write: writes the file, on the main process.

    Returns:
      By task: its scores by `HeldoutLosses`, if it is of the mixture; and if it has answers, the
      summary of its rows by `summarise`.
    """
    context = EvaluationContext(
        mixture, objective, settings.seed, settings.batch_size, length, source_length
    )
    if heldout is None:  # Nothing was checked before.
        heldout = HeldoutLosses(objective, mixture, settings, length, source_length)
        _check_evaluators(settings, context)
    summary: dict[str, dict[str, Any]] = heldout(model)
    rows = []
    tasks = [
        (one, one.task.instances(one.num_examples or settings.num_examples, settings.seed))
        for one in scored_tasks(mixture, settings)
    ]
    writer = language_model(model)
    longest = _longest(settings, getattr(writer, "config", None), length)
    scorer = Scorer(writer, settings.batch_size, longest, source_length)
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
        summary.setdefault(task.name, {}).update(
            summarise(scored, tuple(metrics), chance, getattr(scoring, "RATIOS", None))
        )
        rows.extend(scored)
    for evaluator in settings.evaluators:
        found = [{"task": evaluator.name} | row for row in evaluator(model, context)]
        numbers = {name for row in found for name, value in row.items() if _is_metric(name, value)}
        summary.setdefault(evaluator.name, {}).update(summarise(found, sorted(numbers)))
        rows.extend(found)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    distributed.on_main(write, path, text)
    return summary


def check_heldout(heldout: HeldoutLosses, config: Any, rules: Rules) -> None:
    """Checks, without a model, that there is all that `evaluate` will need; call under a mesh.

    Args:
      heldout: of the same settings.
      config: the model's, for how much it reads.
      rules: of the mesh, which must divide the batches.

    Raises:
      JaxgenError: whatever would stop the evaluation, before anything is trained for it.
    """
    settings, mixture, length = heldout.settings, heldout.mixture, heldout.length
    source_length = heldout.source_length
    check_batch_fits(
        "evaluation.batch_size", settings.batch_size, length, jax.sharding.get_mesh(), rules
    )
    for data in heldout.opened.values():
        data.batch(0)
    shape = RowShape(_longest(settings, language_model(config), length), source_length)
    context = EvaluationContext(
        mixture, heldout.objective, settings.seed, settings.batch_size, length, source_length
    )
    _check_evaluators(settings, context)
    for one in scored_tasks(mixture, settings):
        records = one.task.instances(one.num_examples or settings.num_examples, settings.seed)
        examples = one.task.encode(records, shape.has_source)
        check = getattr(one.scoring, "check", None)
        if check is not None:
            check(one.task, examples, shape)


def _check_evaluators(settings: EvaluationConfig, context: EvaluationContext) -> None:
    for evaluator in settings.evaluators:
        check = getattr(evaluator, "check", None)
        if check is not None:
            check(context)


def _longest(settings: EvaluationConfig, config: Any, length: int) -> int:
    """Returns the most tokens of an instance; a model of one's own need not say what it reads."""
    return settings.length or max(getattr(config, "max_length", None) or 0, length)


def _is_metric(name: str, value: Any) -> bool:
    return name not in ("task", "instance", "chance") and isinstance(value, int | float)


def scored_tasks(mixture: DataConfig, settings: EvaluationConfig) -> list[EvaluationTask]:
    """Returns the mixture's tasks that have answers, and the suite's in the mixture's codec.

    Tasks whose answers are drawn by flow are left out, as their tokens say only that a picture
    begins; `DrawnPictures` scores them.

    Raises:
      ConfigError: if a task of the suite has the name of one of the mixture, or the data are no
        rows of tokens.
    """
    tasks = tasks_of(mixture)
    if settings.suite and isinstance(mixture, ImageTextPairs | MediaRows):
        raise ConfigError(
            f"evaluation.suite is answered in tokens, and a model of {type(mixture).__name__} "
            "writes none; evaluate a run of a transformer, or give evaluation.evaluators."
        )
    own = [EvaluationTask(task) for task in tasks if writes_answers(task)]
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
