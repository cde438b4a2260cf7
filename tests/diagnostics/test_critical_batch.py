"""The trade-off of steps and examples against its equation."""

import pytest

from jaxgen.diagnostics.critical_batch import critical_batch, examples_at, steps_at


def test_trade_off_of_steps_and_examples():
    """(S / S_min - 1)(E / E_min - 1) = 1, at every batch; at B_crit both are twice the least."""
    critical = critical_batch(6000.0, 20.0)
    assert critical == 300
    for batch in (10.0, 300.0, 4000.0):
        steps, examples = steps_at(batch, 20.0, critical), examples_at(batch, 6000.0, critical)
        assert (steps / 20 - 1) * (examples / 6000 - 1) == pytest.approx(1)
        assert examples == pytest.approx(steps * batch)
    assert steps_at(300.0, 20.0, critical) == 40
