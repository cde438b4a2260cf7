"""Scores against closed forms and published numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.evaluation.metrics import (
    bits_per_byte,
    brier,
    calibration_error,
    edit_similarity,
    mean_interval,
    softmax,
    success_interval,
)


def distance(a, b):
    """Levenshtein's by his recursion."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return distance(a[1:], b[1:])
    return 1 + min(distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]))


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_edit_similarity_is_levenshteins(a, b):
    longest = max(len(a), len(b))
    assert edit_similarity(a, b) == pytest.approx(1 - distance(a, b) / longest if longest else 1)


def test_bits_per_byte_of_a_uniform_guess_over_bytes():
    assert bits_per_byte(4 * math.log(1 / 256), "café"[:3] + "x") == pytest.approx(8)
    assert bits_per_byte(5 * math.log(1 / 256), "café") == pytest.approx(8)
    assert math.isnan(bits_per_byte(0.0, ""))


def test_brier_is_0_where_right_and_sure_and_2_where_wrong_and_sure():
    assert brier(np.array([0.0, 1.0]), 1) == 0
    assert brier(np.array([1.0, 0.0]), 1) == 2
    assert brier(np.full(4, 0.25), 2) == pytest.approx(0.75)


def test_softmax_of_logs_is_the_shares():
    np.testing.assert_allclose(softmax(np.log([1, 2, 5]) + 700), [0.125, 0.25, 0.625])


def test_calibration_of_one_who_says_what_is_and_of_a_boaster():
    rng = np.random.default_rng(0)
    confidence = rng.random(40_000)
    assert calibration_error(confidence, rng.random(40_000) < confidence) < 0.02
    assert calibration_error([1.0] * 8, [0, 1] * 4) == 0.5


def test_wilsons_interval():
    """Newcombe (1998), table I: 81 of 263, and 0 of 20."""
    assert success_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert success_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_the_interval_of_a_mean_covers_it():
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.normal(3, 2, 60), seed=i) for i in range(200)]
    assert 0.9 <= np.mean([low < 3 < high for low, high in found]) <= 0.99
