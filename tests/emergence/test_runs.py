"""Runs of means: what is refused, each fault by its own message, and what means alone can show."""

import dataclasses

import numpy as np
import pytest

from jaxgen.emergence import (
    EXPLAINED,
    INCONCLUSIVE,
    PER_TOKEN,
    Design,
    EmergenceError,
    Runs,
    average_runs,
    read_rows,
    simulate,
    verdict,
    verdict_of_runs,
)

SCALES, SEEDS = 8, 6
RUNG, SEED = (part.ravel() for part in np.indices((SCALES, SEEDS)))
LOSS = 2.5 * 0.57**RUNG * np.exp(np.random.default_rng(1).normal(0, 0.05, len(RUNG)))


def runs_of(**changes):
    """Runs whose exact match is that of eight independent tokens, with lists for arrays."""
    of_runs = {"exact_match": np.exp(-8 * LOSS).tolist(), PER_TOKEN: (-LOSS).tolist()}
    of_runs |= changes.pop("metrics", {})
    fields = {
        "task": "sums",
        "chance": 0.0,
        "scale": (1e5 * 2.0 ** np.arange(SCALES)).tolist(),
        "axis": "parameters",
        "rung": RUNG.tolist(),
        "seed": SEED.tolist(),
        "instances": [200] * len(RUNG),
        "metrics": of_runs,
    }
    return Runs(**(fields | changes))


def exact(values):
    return {"exact_match": values}


FAULTS = {
    "falling": ({"scale": 2.0 ** -np.arange(8)}, "goes from 1 to 0.5.*sort it"),
    "unsorted": ({"scale": [1, 2, 4, 3, 5, 6, 7, 8]}, "goes from 4 to 3 on the axis 'parameters'"),
    "rising loss": ({"axis": "loss"}, "goes from 100000 to 200000.*loss falls"),
    "scale of zero": ({"scale": [0, 1, 2, 3, 4, 5, 6, 7]}, "scale=0 .*above 0"),
    "scale below zero": ({"scale": [-3, 1, 2, 3, 4, 5, 6, 7]}, "scale=-3 .*above 0"),
    "infinite scale": ({"scale": [1, 2, 3, 4, 5, 6, 7, np.inf]}, "scale of .* is inf at place 7"),
    "no scale": ({"scale": []}, "scale of .* is empty"),
    "two axes": ({"scale": np.ones((8, 2))}, r"shape \(8, 2\)"),
    "percent": ({"metrics": exact(100 * np.exp(-8 * LOSS))}, "divide percent by 100"),
    "below zero": ({"metrics": exact(-np.exp(-8 * LOSS))}, "exact_match=-.*from 0 to 1"),
    "other shares": ({"metrics": {"token_accuracy": 100 * np.exp(-LOSS)}}, "token_accuracy=.*100"),
    "loss": ({"metrics": {PER_TOKEN: LOSS}}, "of a loss, give its negative"),
    "nan": ({"metrics": exact([np.nan, *np.exp(-8 * LOSS[1:])])}, "is nan at place 0"),
    "words": ({"metrics": exact(["many"] * 48)}, "exact_match .* must be a list of numbers"),
    "certain chance": ({"chance": 1.0}, "chance=1.0 .* below 1"),
    "chance in percent": ({"chance": 25}, "chance=25 .* below 1"),
    "chance in words": ({"chance": "half"}, "chance=half"),
    "no chance": ({"chance": float("nan")}, "chance=nan"),
    "one name": ({"seed": ["0"] * 48}, "6 runs of seed '0' at scale 100000"),
    "no instances": ({"instances": [0] * 48}, "instances=0"),
    "short metric": ({"metrics": exact([0.1] * 47)}, "unequal length.*exact_match 47"),
    "short seeds": ({"seed": SEED[:-1]}, "unequal length.*seed 47"),
    "a rung too many": ({"scale": [1, 2, 3, 4, 5, 6, 7, 8, 9]}, "must be 0 to 8"),
    "half a rung": ({"rung": RUNG / 2}, "whole numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(fault):
    changes, message = FAULTS[fault]
    with pytest.raises(EmergenceError, match=message):
        runs_of(**changes)


def test_copies_are_no_seeds():
    one = 2.5 * 0.57**RUNG
    metrics = {"exact_match": np.exp(-8 * one), PER_TOKEN: -one}
    with pytest.raises(EmergenceError, match=r"seeds '0' and '1' .* copies"):
        runs_of(metrics=metrics)
    # Nor do sums in another order.
    almost = {name: column * (1 + 1e-12 * SEED.astype(int)) for name, column in metrics.items()}
    with pytest.raises(EmergenceError, match=r"seeds '0' and '1' .* copies"):
        runs_of(metrics=almost)
    # Names that no two sizes share do not hide it.
    with pytest.raises(EmergenceError, match=r"half of the seeds .* copies"):
        runs_of(metrics=metrics, seed=np.arange(48))
    pairs = LOSS.reshape(8, 6)[:, [0, 1, 2, 0, 4, 5]].ravel()
    with pytest.raises(EmergenceError, match=r"seeds '0' and '3' .* copies"):
        runs_of(metrics={"exact_match": np.exp(-8 * pairs), PER_TOKEN: -pairs})


def test_copies_in_rows_are_no_seeds():
    rows = simulate(Design(scales=6, seeds=1, instances=50), "mirage")
    copied = [
        {
            "task": "t",
            "seed": seed,
            "instance": rows.instance[place],
            "parameters": rows.scales["parameters"][rows.rung[place]],
            **{name: column[place] for name, column in rows.metrics.items()},
        }
        for place in range(len(rows.rung))
        for seed in range(4)
    ]
    with pytest.raises(EmergenceError, match="copies of a run are not seeds"):
        verdict(read_rows(copied)["t"])


def test_seeds_may_agree_where_they_know_everything():
    """A rounded table has seeds of exact match 1 and loss 0 at the larger sizes."""
    metrics = {"exact_match": np.exp(-8 * LOSS), PER_TOKEN: -LOSS}
    full = RUNG >= 4
    metrics = {"exact_match": np.where(full, 1.0, 0.1), PER_TOKEN: np.where(full, 0.0, -LOSS)}
    assert runs_of(metrics=metrics).seeds.tolist() == [6] * 8


def test_equal_scales_are_allowed_and_count_once():
    scale = np.repeat([1e5, 2e5, 4e5, 8e5], 2)
    found = verdict_of_runs(runs_of(scale=scale))
    assert found.verdict == INCONCLUSIVE
    assert "4 scales, of 6 needed" in found.because


def test_a_chance_of_a_task_that_is_not_there_is_refused():
    rows = [
        {
            "task": "sums",
            "seed": 0,
            "instance": "1+1",
            "parameters": 10,
            "exact_match": 1,
            "token_accuracy": 1,
            "log_probability": -1,
            "answer_tokens": 1,
        }
    ]
    with pytest.raises(EmergenceError, match=r"chance names 'summs', .*tasks are 'sums'"):
        read_rows(rows, {"summs": 0.25})


def test_a_falling_exact_match_is_said_to_fall():
    found = verdict_of_runs(runs_of(metrics=exact(np.linspace(0.9, 0.2, SCALES)[RUNG])))
    assert found.verdict == INCONCLUSIVE
    assert "Exact match falls by 70% of the way from chance to 1" in found.because
    assert "rises" not in found.because


@pytest.mark.parametrize("kind", ["mirage", "slow mirage"])
@pytest.mark.parametrize("answer_tokens", [2, 16])
def test_means_alone_show_that_the_metric_explains(kind, answer_tokens):
    """The map that is fitted to means predicts exact match as the one of single answers does."""
    runs = average_runs(simulate(Design(answer_tokens=answer_tokens), kind, 1))
    names = ("exact_match", PER_TOKEN)
    means = dataclasses.replace(runs, metrics={name: runs.metrics[name] for name in names})
    found = verdict_of_runs(means)
    assert found.verdict == EXPLAINED, found
    assert "mean log probability" in found.criteria[-1].evidence


def test_a_map_of_means_does_not_explain_what_does_not_follow():
    """Exact match that turns back while the log probability goes on."""
    turned = np.where(RUNG < 5, np.exp(-8 * LOSS), 0.05)
    turned[RUNG == 4] = 0.9
    found = {one.name: one for one in verdict_of_runs(runs_of(metrics=exact(turned))).criteria}
    assert found["predicted"].outcome == "fails"


def test_a_break_decides_without_any_prediction():
    runs = average_runs(simulate(Design(instances=80), "break", 1))
    names = ("exact_match", PER_TOKEN)
    means = dataclasses.replace(runs, metrics={name: runs.metrics[name] for name in names})
    assert verdict_of_runs(means).verdict == verdict_of_runs(runs).verdict == "not explained"


def test_few_means_say_what_they_lack():
    few = RUNG < 4
    found = verdict_of_runs(
        runs_of(
            scale=1e5 * 2.0 ** np.arange(4),
            rung=RUNG[few],
            seed=SEED[few],
            instances=[200] * 24,
            metrics={"exact_match": np.exp(-8 * LOSS[few]), PER_TOKEN: -LOSS[few]},
        )
    )
    assert found.verdict == INCONCLUSIVE
    assert "`independent_tokens`" in found.criteria[-1].evidence


def test_sizes_that_differ_by_a_trifle_suggest_a_rung():
    order = np.argsort(size := 1e5 * 2.0**RUNG * (1 + 1e-4 * SEED))
    found = verdict_of_runs(
        runs_of(
            scale=size[order],
            rung=np.arange(48),
            metrics={"exact_match": np.exp(-8 * LOSS[order]), PER_TOKEN: -LOSS[order]},
        )
    )
    assert "1 seed at a scale, of 4 needed" in found.because
    assert "the same `rung`, which would make 8 scales" in found.because
    assert "`rung`" not in verdict_of_runs(runs_of(instances=[20] * 48)).because
