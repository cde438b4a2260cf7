"""Backtests on ladders whose law is known, and the command that prints them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxgen.cli import main
from jaxgen.studies.backtesting import Trial, backtest_task, half_of, summarise
from jaxgen.studies.law_selection import Forecast
from jaxgen.studies.task_forecasts import METHODS, tables_of_checkpoints
from jaxgen.studies.task_runs import TaskRuns, read_csv, write_csv

ROOT = Path(__file__).parents[2]
SIZES = np.geomspace(1e4, 1e6, 7)
TOKENS = 1e6


def ladder(task, curve, score=None, seeds=3, noise=0.01, seed=0):
    """Runs of seven sizes; `curve` gives the loss of a size, `score` the exact match of a loss."""
    random = np.random.default_rng(seed)
    size, which = np.repeat(np.arange(7), seeds), np.tile(np.arange(seeds), 7)
    loss = curve(SIZES[size]) * np.exp(noise * random.standard_normal(len(size)))
    exact = np.full(len(size), np.nan)
    if score is not None:
        exact = random.binomial(200, score(loss)) / 200
    numbers = {
        "seed": which, "step": np.full(len(size), 10), "steps": np.full(len(size), 10),
        "parameters": SIZES[size], "tokens": np.full(len(size), TOKENS),
        "flops": 6 * SIZES[size] * TOKENS, "loss": loss,
        "answer_loss": loss if score else np.full(len(size), np.nan), "exact_match": exact,
        "chance": np.zeros(len(size)), "instances": np.full(len(size), 200),
    }  # fmt: skip
    names = np.array([f"size{one}" for one in size])
    floats = {name: values.astype(float) for name, values in numbers.items()}
    return TaskRuns("study", "dense", "mixture", task, names, floats)


def power(size):
    return 30 * size**-0.25


def logistic(loss):
    return 1 / (1 + np.exp(12 * (loss - 1.6)))


def test_a_power_law_is_forecast_within_its_intervals():
    trials = [
        trial
        for seed in range(12)
        for trial in backtest_task(ladder(f"text{seed}", power, seed=seed), METHODS["drift"])
    ]
    # Three sizes of each are forecast: with all seeds, each alone (a half of three is one alone).
    assert len(trials) == 12 * 3 * 4 and {trial.rung for trial in trials} == {
        "size4", "size5", "size6"
    }  # fmt: skip
    record = summarise(trials)
    assert record.sizes == 36 and record.made == 1.0
    assert record.coverage >= 0.85
    whole = [trial for trial in trials if len(trial.seeds) == 3]
    errors = [np.log(one.forecast.value / one.actual) for one in whole if one.forecast]
    assert np.sqrt(np.mean(np.square(errors))) < 0.05


def with_checkpoints(runs, seed=0):
    """The same runs with the losses that they had halfway, from a ladder of its own."""
    earlier = ladder(runs.task, lambda size: 50 * size**-0.2, seeds=3, seed=seed + 100)
    earlier.numbers["step"] = earlier["step"] / 2
    numbers = {name: np.append(earlier[name], runs[name]) for name in runs.numbers}
    return dataclasses.replace(runs, rung=np.append(earlier.rung, runs.rung), numbers=numbers)


def test_losses_at_checkpoints_narrow_the_forecasts_of_ladders_without_drift():
    tasks = [with_checkpoints(ladder(f"text{s}", power, seed=s), s) for s in range(8)]
    (half,) = tables_of_checkpoints(tasks[0], "loss")
    assert half.loss.tolist() == tasks[0]["loss"][:21].tolist() and len(half) == 21
    partly = tasks[0].select(np.arange(len(tasks[0])) != 3)
    assert tables_of_checkpoints(partly, "loss") == []
    records = [
        summarise(trial for task in tasks for trial in backtest_task(task, METHODS[name]))
        for name in ("ends", "drift")
    ]
    assert records[1].width < 0.9 * records[0].width and records[1].coverage >= 0.85


def test_scores_follow_from_the_answers_loss():
    trials = backtest_task(ladder("sums", power, logistic, seeds=2), METHODS["drift"])
    scores = [trial for trial in trials if trial.of == "exact_match" and trial.forecast]
    assert {trial.rung for trial in scores} == {"size4", "size5", "size6"}
    assert np.mean([trial.is_inside for trial in scores]) >= 0.85
    (last,) = [
        one.forecast
        for one in scores
        if one.rung == "size6" and len(one.seeds) == 2 and one.forecast
    ]
    assert abs(last.value - logistic(power(SIZES[6]))) < 0.1


def test_what_no_size_can_do_is_withheld_until_one_can():
    def sudden(size):
        return np.where(size < SIZES[5], 2.9, 0.2)

    trials = backtest_task(ladder("hidden", sudden, logistic), METHODS["drift"])
    scores = [trial for trial in trials if trial.of == "exact_match"]
    early = [trial for trial in scores if trial.rung in ("size4", "size5")]
    assert early and all(trial.forecast is None for trial in early)
    assert all("nothing tells when one will" in trial.why_not for trial in early)
    assert summarise(early).made == 0
    # The loss goes on as it was: a break that nothing announces is not foreseen.
    breaks = [trial for trial in trials if trial.of == "loss" and trial.rung == "size5"]
    assert breaks and not any(trial.is_inside for trial in breaks)


def test_interval_score_and_weights_of_sizes():
    def trial(rung, actual, low, high):
        pair = (low, high)
        return Trial("s", "t", "exact_match", rung, (0,), actual, Forecast(0.5, pair, pair))

    inside, outside = trial("a", 0.5, 0.4, 0.6), trial("b", 0.9, 0.4, 0.6)
    assert inside.interval_score(0.9) == pytest.approx(0.2)
    assert outside.interval_score(0.9) == pytest.approx(0.2 + 20 * 0.3)
    record = summarise([inside, inside, inside, outside])  # a size counts once
    assert record.coverage == 0.5 and record.sizes == 2
    assert record.width == pytest.approx(0.2) and record.score == pytest.approx(3.2)


def test_the_half_of_a_task_depends_on_its_name_alone():
    assert {half_of(f"task{number}") for number in range(20)} == {"fixed", "judged"}
    assert half_of("addition") == half_of("addition") == "fixed"


def test_the_command_prints_records_and_reasons(tmp_path, capsys):
    file = tmp_path / "ladders.csv"
    write_csv(file, [ladder("prose", power), ladder("never", power, lambda loss: 0 * loss)])
    assert main(["backtest", str(file), "--by_task"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines if "%" in line}
    assert rows["loss of texts"][3:6] == ["3", "100%", "100%"]
    assert rows["loss of generated tasks"][-2:] == ["0", "%"] or "0 %" in "".join(lines)
    assert any(line.startswith("  never, size6: no size up to") for line in lines)
    assert main(["backtest", str(file), f"--csv={tmp_path / 'again.csv'}", "--half=fixed"]) in (
        0,
        1,
    )
    assert (tmp_path / "again.csv").read_text() == file.read_text()
    capsys.readouterr()
    few = ladder("few", power)
    write_csv(file, [few.select(few["parameters"] < SIZES[3])])
    assert main(["backtest", str(file)]) == 1
    assert "five sizes or more" in capsys.readouterr().err


@pytest.mark.slow
def test_forecasts_of_the_shipped_ladder_are_calibrated():
    """The prior was set on it, so that this shows no more than that it is still the one."""
    tasks = read_csv(ROOT / "experiments" / "results" / "forecasts.csv")
    trials = [trial for task in tasks for trial in backtest_task(task, METHODS["drift"])]
    losses, scores = ([one for one in trials if one.of == of] for of in ("loss", "exact_match"))
    of_losses, of_scores = summarise(losses), summarise(scores)
    assert of_losses.sizes + round(of_scores.sizes * of_scores.made) >= 55
    assert 0.85 <= of_losses.coverage <= 0.97 and of_losses.made == 1
    assert 0.85 <= of_scores.coverage <= 0.97
    flat = [one for one in scores if one.task in ("induction", "regression", "word_completion")]
    assert flat and all(one.forecast is None for one in flat)
