"""The pre-registered predictions of a study and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.studies.analyses.base import Analysis, Tree
from jaxgen.studies.formatting import between, count, number, percent
from jaxgen.studies.plots import (
    Axis,
    Block,
    Bullets,
    Cell,
    DataTable,
    Figure,
    Plot,
    Sentence,
    points,
)
from jaxgen.studies.preregistration import outcomes
from jaxgen.studies.study_runs import StudyRun

METHOD = (
    "A loss goes on as a power law whose exponent drifts with scale, by as much as it did over the "
    "smaller sizes; where sizes and tokens vary independently, as the law of both. A score is "
    "predicted in two steps: from size to the loss of the answers, and from that loss to exact "
    "match, by the curve of all runs and their checkpoints. Intervals combine what is unknown of "
    "the law, of its drift and of a run. The score of a task that no smaller size can do any of is "
    "not predicted. How often such intervals held on past ladders is in docs/findings.md."
)


def analyse_prediction(runs: Sequence[StudyRun]) -> dict[str, Any] | None:
    """Returns the outcomes of the study that the runs are of, see `preregistration.outcomes`."""
    return outcomes(runs[0].directory.path.parent)


def _present(tree: Tree) -> Sequence[Block]:
    found = tree["prediction"]
    if found is None:
        text = (
            "No prediction was pre-registered before the largest size was trained, so there is "
            "none to test; a curve drawn afterwards is only a fit."
        )
        return [Sentence(text, "soft")]
    registered = found["registered"]
    predictions = registered["predictions"]
    names = ", ".join(one["held_out"]["name"] for one in predictions)
    text = (
        f"Pre-registered on {registered['time'].replace('T', ' ')}, before any run of {names} "
        f"started, with {percent(registered['level'])} intervals."
    )
    blocks: list[Block] = [Sentence(text)]
    for predicted, outcome in zip(predictions, found["rungs"], strict=True):
        if len(predictions) > 1:
            blocks.append(Sentence(predicted["held_out"]["name"], "heading"))
        blocks += _rung_blocks(predicted, outcome)
    digest = Sentence(f"SHA-256 of the pre-registration: {registered['digest']}", "code")
    return [*blocks, digest]


def _rung_blocks(predicted: Mapping[str, Any], outcome: Mapping[str, Any]) -> Sequence[Block]:
    rung, seeds = predicted["held_out"], len(predicted["held_out"]["seeds"])
    text = (
        f"{count(rung['parameters']['active'])} active parameters, {count(rung['tokens'])} tokens, "
        f"{seeds} seeds; predicted from {len(predicted['points'])} smaller runs by "
        f"{predicted['loss']['law']['formula']}."
    )
    blocks: list[Block] = [Sentence(text)]
    # What was registered before laws had warnings has none.
    for name, one in {"held-out loss": predicted["loss"], **predicted["scores"]}.items():
        warnings = one.get("law", {}).get("warnings", [])
        blocks += [Sentence(f"The law of {name}: {text}", "bad") for text in warnings]
    if outcome["late"]:
        late = f"Started before the prediction was registered: {', '.join(outcome['late'])}."
        blocks.append(Sentence(late, "bad"))
    if outcome["missing"]:
        missing = ", ".join(map(str, outcome["missing"]))
        text = f"Not finished: seed {missing}; the interval is for the mean of all {seeds} seeds."
        blocks.append(Sentence(text, "soft"))
    forecasts = {"held-out loss": (predicted["loss"], outcome["loss"])}
    for task, forecast in predicted["scores"].items():
        forecasts[f"{task}, exact match"] = forecast, outcome["scores"].get(task)
    made = {name: pair for name, pair in forecasts.items() if "why_not" not in pair[0]}
    if outcome["loss"]:
        blocks.append(_figure(rung["name"], {n: came for n, (_, came) in made.items() if came}))
    rows = [
        (name, number(forecast["value"], 4), between(forecast["seed_mean"], 4), *_came(came))
        for name, (forecast, came) in made.items()
    ]
    columns = ("predicted", "interval", "actual", "error", "")
    blocks.append(DataTable(("mean over seeds", *columns), rows))
    by_run = [
        (name, run, number(one["predicted"], 4), between(one["interval"], 4), *_came(one))
        for name, (_, came) in made.items()
        for run, one in (came or {"by_run": {}})["by_run"].items()
    ]
    if by_run:
        blocks.append(DataTable(("single run", "run", *columns), by_run, "Every run"))
    reasons = [f"{n}: {pair[0]['why_not']}" for n, pair in forecasts.items() if n not in made]
    return [*blocks, *([Sentence("Not predicted:"), Bullets(reasons)] if reasons else [])]


def _came(one: Mapping[str, Any] | None) -> Sequence[Cell]:
    if one is None:
        return "not yet", "", ""
    verdict: Cell = (
        ("inside", "good")
        if one["is_inside"]
        else (f"outside by {number(abs(one['outside_by']))}", "bad")
    )
    sign = "+" if one["error"] > 0 else ""
    return number(one["actual"], 4), f"{sign}{number(one['error'])}", verdict


def _figure(rung: str, found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Returns the outcomes over the predicted value, so that losses and scores share an axis."""
    rows, runs = [], []
    for place, one in enumerate(found.values()):
        unit = one["predicted"] or 1.0
        tip = f"predicted: {number(one['predicted'], 4)}; mean: {number(one['actual'], 4)}"
        row = {"y": place, "one": 1.0, "mean": one["actual"] / unit, "tip": tip}
        rows.append(row | {"ends": [end / unit for end in one["interval"]]})
        for run, came in one["by_run"].items():
            tip = f"{run}: {number(came['actual'], 4)}"
            runs.append({"x": came["actual"] / unit, "y": place, "tip": tip})
    low, high = zip(*(row["ends"] for row in rows), strict=True)
    interval = {"low": low, "high": high, "is_horizontal": True}
    predicted = {"color": "accent", "is_open": True, "label": "predicted"} | interval
    series = (
        points("circle", rows, "one", "y", _tip, **predicted),
        points("circle", runs, "x", "y", _tip, shade=0.3, label="a run"),
        points("diamond", rows, "mean", "y", _tip, label="mean over seeds"),
    )
    y = Axis("", categories=tuple(found))
    plot = Plot(Axis("actual / predicted value"), y, series, f"Rung {rung}")
    return Figure((plot,), f"prediction-{rung}")


def _tip(row: Mapping[str, Any]) -> str:
    return row["tip"]


PREDICTION = Analysis(
    "prediction", "Pre-registered predictions", "Prediction", analyse_prediction, _present, METHOD
)
