"""Paired differences: their intervals leave out what is hard for all."""

import numpy as np
import pytest

from jaxgen.errors import DataError
from jaxgen.evaluation.pairing import paired_difference


def rows(values, task="t"):
    return [{"task": task, "instance": f"i{n}", "score": float(v)} for n, v in enumerate(values)]


def test_what_is_hard_for_all_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 400)
    found = paired_difference([rows(hard)], [rows(hard + 1 + rng.normal(0, 0.5, 400))], "score")
    assert found.is_clear and found.count == 400
    assert abs(found.mean - 1) < 0.15 and 0.05 < found.high - found.low < 0.2
    np.testing.assert_allclose(found.after - found.before, found.mean)
    same = paired_difference([rows(hard)], [rows(hard + rng.normal(0, 0.5, 400))], "score")
    assert same.low < 0 < same.high and not same.is_clear


def test_seeds_are_averaged_and_repeated_instances_counted():
    twice = [{"task": "t", "instance": "a", "score": v} for v in (0.0, 1.0)]
    found = paired_difference([twice, twice], [rows([1.0]) and twice], "score")
    assert found.count == 2 and found.mean == 0
    found = paired_difference([rows([0, 0]), rows([1, 0])], [rows([1, 1])], "score")
    assert (found.before, found.after, found.mean) == (0.25, 1.0, 0.75)


def test_unlike_instances_are_refused():
    with pytest.raises(DataError, match="1 are on one side alone, 2 on both"):
        paired_difference([rows([0, 1])], [rows([0, 1, 1])], "score")
    with pytest.raises(DataError, match="not scored on the same instances"):
        paired_difference([rows([0])], [rows([0])], "another")
