"""Groups of seeds count where exact match moves, on two measured sets of ten seeds and simulated.

Both sets were judged wrongly by the first rule, which compared groups with the whole range of the
log probability and did not ask whether they differ in exact match.
"""

import numpy as np
import pytest

from jaxgen.emergence import (
    EXPLAINED,
    NOT_EXPLAINED,
    PER_TOKEN,
    Design,
    Runs,
    average_runs,
    seed_modes,
    simulate,
    verdict_of_runs,
)
from jaxgen.emergence.bimodality import moving_range, scales_with_groups, without_idle_groups
from jaxgen.emergence.two_components import fit_two_components

# Losses in nats per token and exact match of ten seeds of one size.
IDLE = (np.array([0.709, 0.229, 0.214, 0.301, 0.282, 0.300, 0.291, 0.291, 0.240, 0.641]), 0.04)
LATE = (
    np.array([0, 0.193, 0, 0.222, 0.121, 0.002, 0.039, 0, 0.137, 0.204]),
    np.array([1, 0.005, 1, 0.012, 0.095, 0.969, 0.347, 1, 0.072, 0.010]),
)


def runs_with(place, of_place, levels, exact_of):
    """Ten seeds of eight sizes, of losses `levels` with 5 % noise but for one measured size."""
    random = np.random.default_rng(0)
    loss = np.array(levels)[:, None] * np.exp(random.normal(0, 0.05, (len(levels), 10)))
    exact = exact_of(loss)
    loss[place], exact[place] = of_place
    rung, seed = (part.ravel() for part in np.indices(loss.shape))
    return Runs(
        task="t",
        chance=0.0,
        scale=10.0 ** np.linspace(5, 8, len(levels)),
        axis="parameters",
        rung=rung,
        seed=seed,
        instances=np.full(loss.size, 500.0),
        metrics={"exact_match": exact.ravel(), PER_TOKEN: -loss.ravel()},
    )


def outcomes(found):
    return {criterion.name: criterion.outcome for criterion in found.criteria}


def idle_runs():
    # A power law whose exact match is that of twelve independent tokens, 4 % at a loss of 0.27.
    levels = 1.3 * 0.59 ** np.arange(8)
    return runs_with(3, IDLE, levels, lambda loss: np.exp(-12 * loss))


def late_runs():
    # The format takes the first five sizes, and nine tenths of the range.
    levels = [3.0, 1.9, 1.0, 0.5, 0.29, 0.24, 0.0, 0.001]
    return runs_with(6, LATE, levels, lambda loss: np.exp(-25 * loss))


def test_two_kinds_of_seeds_that_are_as_often_right_decide_nothing():
    found = verdict_of_runs(idle_runs())
    assert found.verdict == EXPLAINED, found
    assert outcomes(found)["one mode"] == "holds"
    assert "without 2 runs" in found.criteria[2].evidence


def test_two_kinds_of_seeds_within_a_twentieth_of_the_range_are_seen():
    found = verdict_of_runs(late_runs())
    assert found.verdict == NOT_EXPLAINED, found
    assert outcomes(found)["one mode"] == "fails"


def test_the_moving_range_is_that_of_the_map():
    loss = np.geomspace(2.5, 0.01, 60)
    runs = Runs(
        task="t",
        chance=0.0,
        scale=np.geomspace(1e3, 1e6, 60),
        axis="parameters",
        rung=np.arange(60),
        seed=np.zeros(60),
        instances=np.full(60, 500.0),
        metrics={"exact_match": np.exp(-12 * loss), PER_TOKEN: -loss},
    )
    found = moving_range(runs, PER_TOKEN)
    assert found.rise == pytest.approx(np.exp(-0.12))
    assert -found.low == pytest.approx(-np.log(0.1 * found.rise) / 12, rel=0.02)
    assert -found.high == pytest.approx(-np.log(0.9 * found.rise) / 12, rel=0.02)


def test_a_mode_is_clipped_to_the_moving_range():
    of_place = seed_modes(late_runs(), PER_TOKEN)[6]
    assert of_place.distance > 0.75 and of_place.gap > 0.75
    assert of_place.two_components.fewer == 5
    before = seed_modes(late_runs(), PER_TOKEN)[0]
    assert before.spread == 0 and before.probability == 1


def test_only_the_smaller_of_two_idle_groups_is_left_out():
    runs = idle_runs()
    kept = without_idle_groups(runs, PER_TOKEN)
    assert kept.seeds.tolist() == [10, 10, 10, 8, 10, 10, 10, 10]
    assert kept.of_rung(PER_TOKEN, 3).min() > -0.31
    late = late_runs()
    assert without_idle_groups(late, PER_TOKEN) is late


def test_groups_that_differ_in_exact_match_alone_are_found_at_every_scale_they_are_at():
    runs = average_runs(simulate(Design(instances=80), "bimodal", 2))
    found = scales_with_groups(seed_modes(runs, PER_TOKEN))
    assert found and all(mode.gap > 0.25 for mode in found)


def test_a_steep_metric_does_not_cut_one_wide_group_in_two():
    """Evenly spread seeds, nearly all of which are beyond either end of a narrow range."""
    even = np.linspace(0.05, 0.75, 10)
    exact = 1 / (1 + np.exp((even - 0.4) / 0.01))
    levels = 2.5 * 0.572 ** np.arange(8)
    place = (4, (even, exact), levels, lambda loss: 1 / (1 + np.exp((loss - 0.4) / 0.01)))
    of_place = seed_modes(runs_with(*place), PER_TOKEN)[4]
    assert of_place.gap > 0.9 and of_place.dip_probability < 0.05
    assert of_place.probability == 1


def test_the_boundary_is_where_both_components_are_as_likely():
    values = np.concatenate([np.linspace(0, 0.5, 9), np.linspace(2, 2.5, 3)])
    fit = fit_two_components(values)

    def density(share, mean):
        return share * np.exp(-0.5 * ((fit.boundary - mean) / fit.spread) ** 2)

    assert density(fit.share, fit.high) == pytest.approx(density(1 - fit.share, fit.low))
    assert 0.5 < fit.boundary < 2
