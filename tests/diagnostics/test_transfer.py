"""The best rate of curves in closed form, and of models that are trained."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support.helpers import one_row, tiny_dense

from jaxgen.diagnostics.transfer import RateSweep, final_losses
from jaxgen.errors import ConfigError

WIDTHS = (32, 64, 128, 256)
RATES = tuple(2.0**power for power in range(-12, -3))


def parabolas(slope):
    """Losses 3 + (log2 rate - best)^2 / 10, the best falling by `slope` each doubling from 2^-7."""
    best = np.array([-7.0 - slope * doubling for doubling in range(4)])
    return 3 + (np.log2(RATES) - best[:, None]) ** 2 / 10


def test_a_rate_that_stays_transfers():
    sweep = RateSweep(WIDTHS, RATES, parabolas(0.0))
    assert [RATES[index] for index in sweep.best] == [2.0**-7] * 4
    assert sweep.shift == 0 and sweep.transfers


@pytest.mark.parametrize(("slope", "shift"), [(0.25, 1), (1.0, 3)])
def test_a_rate_that_falls_is_seen(slope, shift):
    sweep = RateSweep(WIDTHS, RATES, parabolas(slope))
    assert sweep.shift == shift
    assert sweep.transfers == (shift <= 1)


def test_runs_that_diverge_are_never_the_best():
    losses = parabolas(0.0)
    losses[:, -2:] = np.nan
    losses[1, 5] = -np.inf
    assert RateSweep(WIDTHS, RATES, losses).best == (5, 4, 5, 5)


def test_a_best_rate_at_the_edge_is_not_trusted():
    sweep = RateSweep(WIDTHS, RATES[5:], parabolas(0.0)[:, 5:])
    assert sweep.shift == 0 and all(sweep.at_edge) and not sweep.transfers


def test_rows_are_the_table():
    rows = RateSweep(WIDTHS, RATES, parabolas(0.0)).rows()
    assert len(rows) == 36
    assert rows[9 + 5] == {"width": 64, "rate": 2.0**-7, "loss": 3.0}


@pytest.mark.parametrize(
    ("rates", "losses", "message"),
    [
        (RATES, np.ones((4, 2)), "shape"),
        (RATES[::-1], parabolas(0.0), "ascend"),
        (RATES, np.full((4, 9), np.nan), "no finite loss"),
    ],
)
def test_what_is_no_sweep_is_refused(rates, losses, message):
    with pytest.raises(ConfigError, match=message):
        RateSweep(WIDTHS, rates, losses)


@pytest.mark.slow
def test_training_learns_at_a_sensible_rate_and_not_at_none():
    batches = jax.tree.map(lambda x: np.stack([x] * 12), one_row(16, 64, 2))
    losses = final_losses(tiny_dense(num_layers=1), (1e-6, 1e-2), batches)
    assert losses.shape == (2,)
    assert losses[1] < losses[0] - 0.5


@pytest.mark.slow
def test_the_best_rate_of_a_model_eight_times_as_wide(tmp_path):
    file = Path(__file__).parents[2] / "experiments" / "mup_transfer.py"
    command = [sys.executable, str(file), f"--out={tmp_path}", "--widths", "32", "256"]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = json.loads((tmp_path / "mup_transfer.json").read_text())
    assert found["mup"]["shift"] <= 1 and found["mup"]["transfers"]
    assert found["standard"]["shift"] >= 2
