"""The verdict on tables of known kind, and on measured ones."""

import dataclasses

import numpy as np
import pytest

from jaxgen.emergence import (
    EXPLAINED,
    INCONCLUSIVE,
    KINDS,
    NOT_EXPLAINED,
    Design,
    EmergenceError,
    Runs,
    average_runs,
    power,
    simulate,
    verdict,
    verdict_of_runs,
)
from jaxgen.emergence.prediction import predict_exact_match

SMALL = Design(instances=80)


@pytest.mark.parametrize("kind", KINDS)
def test_most_verdicts_are_right(kind):
    assert power(Design(), kind, draws=10, seed=90_000).correct.value >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("answer_tokens", [2, 8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_nine_in_ten_verdicts_are_right(kind, answer_tokens):
    found = power(Design(answer_tokens=answer_tokens), kind, draws=200, seed=70_000)
    assert found.correct.value >= 0.9
    assert found.correct.low >= 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [{"scales": 5}, {"seeds": 3}, {"instances": 40}])
def test_too_little_is_inconclusive(kind, few):
    found = verdict(simulate(dataclasses.replace(SMALL, **few), kind))
    assert found.verdict == INCONCLUSIVE
    assert "Too few" in found.because


def test_no_transition_is_inconclusive():
    rows = simulate(SMALL, "mirage")
    rows = dataclasses.replace(rows, metrics={**rows.metrics, "exact_match": rows.rung * 0.0})
    found = verdict(rows)
    assert found.verdict == INCONCLUSIVE
    assert "no transition" in found.because


def test_right_answers_that_the_probabilities_do_not_show_are_not_explained_away():
    """Log probability is smooth and exact match sudden: the map of the other scales misses it."""
    rows = simulate(SMALL, "mirage", 3)
    exact = np.where(rows.rung >= 4, 1.0, 0.0)
    found = verdict(dataclasses.replace(rows, metrics={**rows.metrics, "exact_match": exact}))
    assert found.verdict != EXPLAINED


def test_verdict_says_on_what_it_rests():
    found = verdict(simulate(SMALL, "break", 1))
    assert found.verdict == NOT_EXPLAINED
    assert (found.scales, found.seeds, found.instances) == (8, 8, 80)
    names = [criterion.name for criterion in found.criteria]
    assert names == ["enough", "transition", "gradual", "one mode", "predicted"]
    assert "breaks" in str(found)


def test_prediction_is_calibrated_where_probabilities_are():
    found = predict_exact_match(simulate(SMALL, "mirage", 5))
    assert np.abs(found.error).max() < 0.05
    assert (np.abs(found.error) <= found.half_width).mean() >= 0.7


def test_a_prediction_that_could_not_fail_says_nothing():
    """Seeds that have the ability or not, whatever the scale: any mean would be in the interval."""
    rows = simulate(SMALL, "mirage", 5)
    has_it = np.unique(rows.seed, return_inverse=True)[1] % 2 == 0
    exact, log_p = np.where(has_it, 1.0, 0.0), np.full(len(has_it), -3.0) - rows.rung
    metrics = {**rows.metrics, "exact_match": exact, "log_probability": log_p}
    found = {c.name: c for c in verdict(dataclasses.replace(rows, metrics=metrics)).criteria}
    assert found["predicted"].outcome == "unclear"
    assert "any exact match within 15 points would do" in found["predicted"].evidence


def test_simulations_repeat():
    one, other = (simulate(SMALL, "bimodal", 4).metrics["log_probability"] for _ in range(2))
    assert np.array_equal(one, other)
    with pytest.raises(EmergenceError, match="kind='magic'"):
        simulate(SMALL, "magic")
    with pytest.raises(EmergenceError, match="seeds=0"):
        Design(seeds=0)
    with pytest.raises(EmergenceError, match="decades=nan"):
        Design(decades=float("nan"))
    with pytest.raises(EmergenceError, match="seed_noise=-1"):
        Design(seed_noise=-1)
    with pytest.raises(EmergenceError, match="draws=0"):
        power(SMALL, "mirage", draws=0)


def test_runs_without_instances_are_compared_with_independent_tokens():
    found = verdict_of_runs(average_runs(simulate(SMALL, "mirage"))).criteria[-1]
    assert found.name == "predicted"
    assert "independent tokens" in found.evidence


# testbeds.md: parameters, exact match per seed, token accuracy (mean), nll a token per seed.
ADD3 = (
    (580, "0.011/0.010/0.011", 0.535, "1.2/1.2/1.2"),
    (1928, "0.043/0.010/0.009", 0.575, "0.91/1.2/1.2"),
    (4044, "0.863/0.063/0.064", 0.770, "0.12/0.89/0.76"),
    (6928, "0.067/0.072/0.809", 0.788, "0.76/0.77/0.14"),
    (15000, "0.333/0.712/0.974", 0.916, "0.45/0.18/0.028"),
    (26144, "1/1/1", 1.0, "0.00023/0.00018/0.0013"),
    (57648, "1/1", 1.0, "1.8e-05/1.3e-05"),
    (101440, "1/1", 1.0, "7.9e-06/3.5e-05"),
)
LOOKUP8 = (
    (4174, "0", 0.058, "3.8"),
    (6297, "0", 0.278, "2.9"),
    (8444, "0", 0.352, "2.5"),
    (12810, "0.082", 0.722, "1.7"),
    (17272, "0.549", 0.927, "0.93"),
    (26484, "0.996", 1.0, "0.36"),
    (36080, "1", 1.0, "0.14"),
    (56424, "1", 1.0, "0.042"),
)
MQAR8 = (
    (1076, "0/0/0", 0.159, "3/2.9/2.9"),
    (2920, "0/1/0", 0.518, "2.5/2.5e-05/2.3"),
    (8912, "0/0/0", 0.314, "2.2/1.9/1.8"),
    (17976, "0/1/0", 0.521, "1.7/1.9e-08/1.9"),
    (30112, "0/1/0", 0.575, "1.4/3.6e-08/1.5"),
    (63600, "1/1", 1.0, "1.4e-07/6.4e-07"),
    (109376, "1/1", 1.0, "2.4e-05/1.2e-07"),
)


def published(task, table, tokens):
    """Runs of a published table; token accuracy is a mean over seeds, given to each of them."""
    rung, seed, exact, nll, accuracy = [], [], [], [], []
    for place, (_, of_seeds, mean_accuracy, losses) in enumerate(table):
        for name, (right, loss) in enumerate(
            zip(of_seeds.split("/"), losses.split("/"), strict=True)
        ):
            rung.append(place)
            seed.append(str(name))
            exact.append(float(right))
            nll.append(float(loss))
            accuracy.append(mean_accuracy**tokens)
    return Runs(
        task=task,
        chance=0.0,
        scale=np.array([row[0] for row in table], float),
        axis="parameters",
        rung=np.array(rung),
        seed=np.array(seed),
        instances=np.full(len(rung), 1000.0),
        metrics={
            "exact_match": np.array(exact),
            "log_probability_per_token": -np.array(nll),
            "independent_tokens": np.array(accuracy),
        },
    )


def test_published_testbeds_have_too_few_seeds_for_a_verdict():
    for task, table, tokens in (("add3", ADD3, 4), ("lookup8", LOOKUP8, 8), ("mqar8", MQAR8, 8)):
        found = verdict_of_runs(published(task, table, tokens))
        assert found.verdict == INCONCLUSIVE
        assert "at a scale, of 4 needed" in found.because


def test_what_the_published_testbeds_show_all_the_same():
    """Found once the thresholds stood; one to three seeds leave the noisy two tables open."""
    of = {
        task: {one.name: one.outcome for one in verdict_of_runs(published(task, *table)).criteria}
        for task, table in {"add3": (ADD3, 4), "lookup8": (LOOKUP8, 8), "mqar8": (MQAR8, 8)}.items()
    }
    assert (of["lookup8"]["gradual"], of["lookup8"]["predicted"]) == ("holds", "holds")
    assert of["add3"]["gradual"] == of["mqar8"]["gradual"] == "unclear"
    assert of["add3"]["predicted"] == "fails"
