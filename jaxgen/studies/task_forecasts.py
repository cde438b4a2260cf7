"""Forecasts from the measurements of a task's runs, by either method that backtests compare.

"drift" is what pre-registrations use, see `forecasting`, and "ends" the same without the losses of
checkpoints; "law" is what they used at first: the law that the runs can identify, whose misfit is
taken for the noise of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jaxgen.errors import StudyError
from jaxgen.laws import Fitting, LawError, Table
from jaxgen.studies import law_selection
from jaxgen.studies.forecasting import (
    Answers,
    forecast_loss,
    forecast_score,
)
from jaxgen.studies.law_selection import Forecast
from jaxgen.studies.study_runs import LEAST_LOSS
from jaxgen.studies.task_runs import TaskRuns

Method = Callable[[TaskRuns, Mapping[str, float], int, float], Forecast]
"""Smaller runs, the scale to forecast, seeds, level -> the forecast, or a StudyError: why not."""
BOOTSTRAPS = 100
"""Of the law; a backtest fits it many times."""


def table_of_ends(runs: TaskRuns, column: str) -> Table:
    """Returns the ends of runs as a table whose loss is a column, in the order of the rows."""
    ends = runs.select(runs.is_final)
    if not np.all(np.isfinite(ends[column])):
        raise StudyError(f"some runs have no {column.replace('_', ' ')} of {runs.task}.")
    return _table(ends, column)


def tables_of_checkpoints(runs: TaskRuns, column: str) -> list[Table]:
    """Returns a table of the runs at each share of training at which all of them were measured."""
    shares = np.round(runs["step"] / runs["steps"], 2)
    count, tables = len({*runs.names}), []
    for share in np.unique(shares):
        one = runs.select((shares == share) & ~runs.is_final & np.isfinite(runs[column]))
        if len(one) == len({*one.names}) == count:
            tables.append(_table(one, column))
    return tables


def _table(rows: TaskRuns, column: str) -> Table:
    return Table(
        parameters=rows["parameters"],
        tokens=rows["tokens"],
        loss=np.maximum(rows[column], LEAST_LOSS),
        flops=rows["flops"],
        seeds=rows["seed"],
        runs=rows.names,
    )


def answers_of(runs: TaskRuns) -> Answers:
    """Returns the scored answers of runs and of their checkpoints."""
    ends = runs.select(runs.is_final)
    scored = runs.select(np.isfinite(runs["exact_match"]))
    return Answers(
        ends["exact_match"],
        float(ends["chance"][0]),
        float(ends["instances"].mean()),
        np.maximum(scored["answer_loss"], LEAST_LOSS),
        scored["exact_match"],
        scored.names,
    )


def loss_by_drift(runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float) -> Forecast:
    """Forecasts a task's held-out loss."""
    table, earlier = table_of_ends(runs, "loss"), tables_of_checkpoints(runs, "loss")
    return _or_reason(lambda: forecast_loss(table, scale, seeds, level, earlier)[0])


def loss_by_ends(runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float) -> Forecast:
    """Forecasts a task's held-out loss by the ends of runs alone."""
    table = table_of_ends(runs, "loss")
    return _or_reason(lambda: forecast_loss(table, scale, seeds, level)[0])


def score_by_drift(
    runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float
) -> Forecast:
    """Forecasts a task's exact match."""
    table, answers = table_of_ends(runs, "answer_loss"), answers_of(runs)
    earlier = tables_of_checkpoints(runs, "answer_loss")
    return _or_reason(lambda: forecast_score(table, answers, scale, seeds, level, earlier)[0])


def score_by_ends(runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float) -> Forecast:
    """Forecasts a task's exact match by its answers' loss at the ends of runs alone."""
    table, answers = table_of_ends(runs, "answer_loss"), answers_of(runs)
    return _or_reason(lambda: forecast_score(table, answers, scale, seeds, level)[0])


def loss_by_law(runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float) -> Forecast:
    """Forecasts a task's held-out loss by the law that the runs can identify."""
    table = table_of_ends(runs, "loss")

    def forecast() -> Forecast:
        fit = law_selection.select_law(table).fit(table, Fitting(bootstraps=BOOTSTRAPS))
        return law_selection.forecast_loss(fit, dict(scale), seeds, level)

    return _or_reason(forecast)


def score_by_law(runs: TaskRuns, scale: Mapping[str, float], seeds: int, level: float) -> Forecast:
    """Forecasts a task's exact match by that law of its answers' loss, and a curve of ends."""
    table = table_of_ends(runs, "answer_loss")

    def forecast() -> Forecast:
        exact_match = runs.select(runs.is_final)["exact_match"]
        curve = law_selection.fit_score(table.loss, exact_match, BOOTSTRAPS)
        fit = law_selection.select_law(table).fit(table, Fitting(bootstraps=BOOTSTRAPS))
        return law_selection.forecast_score(fit, curve, dict(scale), seeds, level)

    return _or_reason(forecast)


METHODS: dict[str, dict[str, Method]] = {
    "drift": {"loss": loss_by_drift, "exact_match": score_by_drift},
    "ends": {"loss": loss_by_ends, "exact_match": score_by_ends},
    "law": {"loss": loss_by_law, "exact_match": score_by_law},
}


def _or_reason(forecast: Callable[[], Forecast]) -> Forecast:
    try:
        return forecast()
    except LawError as error:
        raise StudyError(str(error)) from error
