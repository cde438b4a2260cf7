"""The trade-off of steps and examples, and the noise scale, against their equations."""

import math

import numpy as np
import pytest

from jaxgen.diagnostics.critical_batch import (
    CriticalBatch,
    fit_critical_batch,
    lowest_shared_loss,
    noise_scales,
    steps_to_loss,
)
from jaxgen.errors import StudyError


def test_trade_off_of_steps_and_examples():
    """(S / S_min - 1)(E / E_min - 1) = 1, at every batch; at B_crit both are twice the least."""
    trade = CriticalBatch(min_steps=20.0, min_examples=6000.0)
    assert trade.size == 300
    for batch in (10.0, 300.0, 4000.0):
        steps, examples = trade.steps(batch), trade.examples(batch)
        assert (steps / 20 - 1) * (examples / 6000 - 1) == pytest.approx(1)
        assert examples == pytest.approx(steps * batch)
    assert trade.steps(300.0) == 40


def test_the_fit_finds_a_known_trade_off():
    batches = (4, 16, 64, 256)
    exact = fit_critical_batch({batch: 20 + 6000 / batch for batch in batches})
    assert (exact.min_steps, exact.min_examples) == pytest.approx((20, 6000))
    noise = np.random.default_rng(0).normal(1, 0.05, len(batches))
    noisy = fit_critical_batch(
        {batch: (20 + 6000 / batch) * factor for batch, factor in zip(batches, noise, strict=True)}
    )
    assert noisy.size == pytest.approx(300, rel=0.25)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({4: 100.0, 8: 60.0}, "three batch sizes or more"),
        ({4: 10.0, 8: 20.0, 16: 40.0}, "no trade-off"),  # Larger batches need more steps.
        ({4: 100.0, 8: 45.0, 16: 20.0}, "no trade-off"),  # Even fewer than in proportion.
    ],
)
def test_steps_without_a_trade_off_are_refused(steps, words):
    with pytest.raises(StudyError, match=words):
        fit_critical_batch(steps)


def test_steps_to_a_loss_are_read_between_rows():
    rows = [
        {"step": 10, "loss": 4.0},
        {"step": 20, "loss": None},
        {"step": 30, "loss": 3.0},
        {"step": 40, "loss": 3.2},
    ]
    assert steps_to_loss(rows, 4.0) == 10
    assert steps_to_loss(rows, 3.5) == 20
    assert steps_to_loss(rows, 2.9) is None
    worse = [{"step": 10, "loss": 3.8}, {"step": 20, "loss": 3.4}]
    assert lowest_shared_loss({4: [rows], 8: [worse, worse[:1]]}) == 3.4


def test_noise_scales_are_ratios_of_means():
    rows = [
        {"step": 10, "noise_scale/variance": 8.0, "noise_scale/squared_gradient": 1.0},
        {"step": 20, "noise_scale/variance": 4.0, "noise_scale/squared_gradient": 3.0},
        {"step": 30, "noise_scale/variance": 5.0, "noise_scale/squared_gradient": -1.0},
    ]
    whole, last = noise_scales(rows, parts=2)
    assert (whole.first_step, whole.last_step, whole.rows) == (1, 20, 3.0)
    assert (last.first_step, last.last_step) == (21, 30) and math.isnan(last.rows)
    # A row counts by its steps.
    rows[1] = rows[1] | {"step": 40}
    assert noise_scales(rows[:2], parts=1)[0].rows == (10 * 8 + 30 * 4) / (10 * 1 + 30 * 3)
    with pytest.raises(StudyError, match="did not measure"):
        noise_scales([{"step": 10, "loss": 3.0}])
