"""Tables: what is read, and what is refused with a message that says why."""

import numpy as np
import pytest

from jaxgen.emergence import (
    EmergenceError,
    average_runs,
    curve,
    heat_map,
    read_rows,
    success_curve,
)


def row(**changes):
    return {
        "task": "sums",
        "seed": 0,
        "instance": "1+1",
        "parameters": 1000.0,
        "exact_match": 1,
        "token_accuracy": 1.0,
        "log_probability": -0.5,
        "answer_tokens": 2,
    } | changes


def table():
    """Two scales, two seeds, two instances; `b` is solved at the larger scale by one seed."""
    rows = []
    for parameters, solved in ((100, ("a",)), (1000, ("a", "b"))):
        for seed in (0, 1):
            for instance in ("a", "b"):
                right = int(instance in solved and not (instance == "b" and seed == 1))
                rows.append(
                    row(
                        parameters=parameters,
                        seed=seed,
                        instance=instance,
                        exact_match=right,
                        token_accuracy=0.5 + right / 2,
                        log_probability=-1.0 - seed,
                        loss=3.0 - parameters / 1000,
                    )
                )
    return rows


def test_order_of_rows_does_not_matter():
    rows = table()
    one, other = read_rows(rows)["sums"], read_rows(rows[::-1])["sums"]
    assert np.array_equal(one.rung, other.rung)
    assert np.array_equal(one.metrics["exact_match"], other.metrics["exact_match"])
    assert list(one.scale("parameters")) == [100, 1000]


def test_runs_are_means_over_instances():
    runs = average_runs(read_rows(table())["sums"])
    assert list(runs.metric("exact_match")) == [0.5, 0.5, 1.0, 0.5]
    assert list(runs.metric("log_probability_per_token")) == [-0.5, -1.0, -0.5, -1.0]
    assert list(runs.metric("independent_tokens")) == [0.75**2, 0.75**2, 1.0, 0.75**2]
    assert list(runs.instances) == [2, 2, 2, 2]


def test_a_smaller_loss_is_a_larger_scale():
    runs = average_runs(read_rows(table())["sums"], "loss")
    assert list(runs.scale) == [2.9, 2.0]
    assert list(runs.means("exact_match")) == [0.5, 0.75]
    assert runs.log_scale[1] > runs.log_scale[0]


def test_curves():
    runs = average_runs(read_rows(table())["sums"])
    points = curve(runs, "exact_match")
    assert points[1].by_seed == (("0", 1.0), ("1", 0.5))
    assert points[1].mean.value == 0.75
    assert points[1].mean.low < 0.75 < points[1].mean.high
    assert [one.successes for one in success_curve(runs, 0.6)] == [0, 1]
    assert success_curve(runs, 0.6)[1].share.low == pytest.approx(0.0945, abs=1e-3)


def test_threshold_lies_between_chance_and_one():
    runs = average_runs(read_rows(table(), chance={"sums": 0.25})["sums"])
    # Half the way from 0.25 to 1 is 0.625, which a half does not reach.
    assert [one.successes for one in success_curve(runs)] == [0, 1]
    with pytest.raises(EmergenceError, match="threshold=1"):
        success_curve(runs, 1)


def test_heat_map_is_sorted_by_first_solved():
    found = heat_map(read_rows(table())["sums"])
    assert found.instances == ("a", "b")
    assert found.solved.tolist() == [[1, 1], [0, 0.5]]
    assert found.first_solved.tolist() == [0, 1]
    assert heat_map(read_rows(table())["sums"], threshold=1.0).first_solved.tolist() == [0, 2]


def lacking(name):
    return {key: value for key, value in row().items() if key != name}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows is empty"),
        ([lacking("log_probability")], "no 'log_probability'"),
        ([lacking("parameters")], "no scale"),
        ([lacking("seed")], "no 'seed'"),
        ([row(), row(instance="x", brier=0.1)], "no 'brier'"),
        ([row(), lacking("parameters") | {"flops": 1.0}], "no '(parameters|flops)'"),
        ([row(log_probability=float("nan"))], "log_probability=nan"),
        ([row(log_probability=-np.inf)], "log_probability=-inf"),
        ([row(log_probability=0.3)], "log_probability=0.3"),
        ([row(exact_match=2)], "exact_match=2"),
        ([row(exact_match=0.5)], "exact_match=0.5"),
        ([row(token_accuracy="many")], "not a number"),
        ([row(parameters=0)], "parameters=0"),
        ([row(), row()], "two rows"),
        ([row(chance=0.1), row(instance="x", chance=0.2)], "several chance levels"),
        ([row(chance=1.0)], "chance=1.0"),
    ],
)
def test_refusals(rows, message):
    with pytest.raises(EmergenceError, match=message):
        read_rows(rows)


def test_unknown_names_are_refused():
    rows = read_rows(table())["sums"]
    with pytest.raises(EmergenceError, match="axis='tokens'"):
        average_runs(rows, "tokens")
    with pytest.raises(EmergenceError, match="metric='speed'"):
        curve(average_runs(rows), "speed")
