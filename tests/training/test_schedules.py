import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.errors import ConfigError
from jaxgen.training.durations import parse_duration
from jaxgen.training.schedules import (
    InverseSquareRoot,
    RatePhase,
    RatePhases,
    WarmupCosine,
    WarmupStableDecay,
)


def steps_of(total):
    return lambda duration: parse_duration(duration).steps(
        steps_for_tokens=lambda tokens: math.ceil(tokens / 100),
        active_parameters=1000,
        total_steps=total,
    )


@given(st.integers(1, 10**6))
def test_steps_are_steps(count):
    for form in (count, f"{count}", f"{count} steps"):
        assert steps_of(None)(form) == count


@pytest.mark.parametrize(
    ("form", "steps"),
    [
        ("3e6 tokens", 30_000),
        ("150 tokens", 2),
        ("20x", 200),
        ("0.05x", 1),
        ("5%", 10),
        ("1 step", 1),
    ],
)
def test_other_units(form, steps):
    assert steps_of(200)(form) == steps


@pytest.mark.parametrize("form", ["", "x", "-3", "3 weeks", "20 x 3", True, "nan"])
def test_what_is_no_duration_is_shown_the_forms(form):
    with pytest.raises(ConfigError, match="tokens for each active parameter"):
        parse_duration(form)


def test_a_run_is_no_percentage_of_itself():
    with pytest.raises(ConfigError, match="percentage of itself"):
        steps_of(None)("50%")


def test_warmup_cosine_is_its_formula():
    schedule = WarmupCosine(peak=2.0, warmup=10, final_fraction=0.1).build(110, steps_of(110))
    for step in (0, 5, 10, 35, 60, 110):
        expected = (
            2.0 * step / 10
            if step <= 10
            else 0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        )
        assert np.isclose(schedule(step), expected, rtol=1e-5)


def test_warmup_stable_decay_is_its_formula():
    schedule = WarmupStableDecay(peak=2.0, warmup=10, decay="20%", final_fraction=0.0).build(
        100, steps_of(100)
    )
    expected = {0: 0.0, 5: 1.0, 10: 2.0, 50: 2.0, 80: 2.0, 90: 1.0, 100: 0.0}
    for step, rate in expected.items():
        assert np.isclose(schedule(step), rate, atol=1e-6)


def test_inverse_square_root_is_its_formula():
    schedule = InverseSquareRoot(peak=2.0, warmup=16).build(100, steps_of(100))
    for step in (0, 8, 16, 64, 100):
        expected = 2.0 * step / 16 if step <= 16 else 2.0 * math.sqrt(16 / step)
        assert np.isclose(schedule(step), expected, rtol=1e-6)


def test_phases_begin_where_the_one_before_has_left_the_rate():
    phases = (
        RatePhase(2.0, 10),
        RatePhase(0.0, 110, "cosine", cut=60),
        RatePhase(0.5, "80%"),
        RatePhase(0.25, 90, "constant"),
    )
    schedule = RatePhases(phases).build(100, steps_of(100))
    expected = {0: 0, 5: 1, 10: 2, 35: 1 + math.cos(math.pi / 4), 60: 1, 70: 0.75, 79: 0.525}
    for step, rate in (expected | {80: 0.25, 90: 0.25, 200: 0.25}).items():
        assert np.isclose(schedule(step), rate, atol=1e-6), step
    # The schedules that have names of their own are phases too.
    for named, phases in (
        (WarmupCosine(2.0, 10), (RatePhase(2.0, 10), RatePhase(0.2, 100, "cosine"))),
        (WarmupStableDecay(2.0, 10, 30), (RatePhase(2.0, 10), RatePhase(2.0, 70), RatePhase(0.0))),
    ):
        one, other = (s.build(100, steps_of(100)) for s in (named, RatePhases(phases)))
        for step in range(0, 120, 3):
            assert np.isclose(one(step), other(step), atol=1e-6)


@pytest.mark.parametrize(
    "phases", [(RatePhase(1.0, 10), RatePhase(2.0, 5)), (RatePhase(1.0, 10, cut=20),)]
)
def test_phases_that_do_not_follow_one_another_are_refused(phases):
    with pytest.raises(ConfigError, match="each phase ends after the one before"):
        RatePhases(phases).build(100, steps_of(100))
    with pytest.raises(ConfigError, match="is empty"):
        RatePhases(())


def test_parts_of_a_schedule_that_do_not_fit_in_the_run_are_refused():
    with pytest.raises(ConfigError, match="are more than the run"):
        WarmupStableDecay(warmup="60%", decay="50%")
    with pytest.raises(ConfigError, match=r"are 60 \+ 50 steps of a run of 100"):
        WarmupStableDecay(warmup=60, decay="50%").build(100, steps_of(100))
    with pytest.raises(ConfigError, match=r"is 60 steps, and .* is 50"):
        WarmupCosine(warmup=60, until="50%").build(100, steps_of(100))
    # Percentages are rounded up, so the shortest runs have both parts in one step.
    WarmupStableDecay().build(1, steps_of(1))
    WarmupStableDecay(warmup="50%", decay="50%").build(101, steps_of(101))
    WarmupCosine(warmup="100%").build(1, steps_of(1))


def test_the_first_step_of_a_warm_up_has_no_rate():
    for kind in (WarmupCosine, WarmupStableDecay, InverseSquareRoot):
        schedule = kind(peak=0.5, warmup=4).build(40, steps_of(40))
        rates = [float(np.asarray(schedule(step))) for step in range(5)]
        assert rates == [0, 0.125, 0.25, 0.375, 0.5]
