"""Every prefix of a mixture holds each task's share, changes come where they should."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.data import shares as module
from jaxgen.data.schedule import RowSchedule, ShareStage
from jaxgen.data.shares import Interleaving, as_written, whole_parts


def largest_distance(parts, count):
    """From proportion, over all tasks and all prefixes of so many rows."""
    tasks, _ = Interleaving(parts).rows(0, count)
    rows = np.arange(1, count + 1)
    return max(
        np.abs(np.cumsum(tasks == task) - rows * (part / sum(parts))).max()
        for task, part in enumerate(parts)
    )


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
def test_no_prefix_is_a_whole_row_off(parts):
    assert largest_distance(parts, 3000) < 1


@pytest.mark.parametrize("seed", range(3))
def test_many_tasks_of_very_unequal_shares(seed):
    weights = np.random.default_rng(seed).dirichlet(np.full(40, 0.2)) + 1e-7
    parts = whole_parts([as_written(weight) for weight in weights])
    assert largest_distance(parts, 40_000) < 1 + 1e-6


def test_a_hundred_thousandth_over_ten_million_rows():
    """Entered at a thousand places, and every place at which the task comes."""
    sequence = Interleaving(whole_parts([as_written(1 - 1e-5), as_written(1e-5)]))
    rows = [sequence.row_of(1, index) for index in range(100)]
    assert rows[-1] < 10**7 <= sequence.row_of(1, 100)
    for index, row in enumerate(rows):
        assert abs(index + 1 - 1e-5 * (row + 1)) < 1 and abs(index - 1e-5 * row) < 1
        assert sequence.rows(row, row + 1)[0].tolist() == [1]
    assert sequence.counts(10**7) == [10**7 - 100, 100]


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    start=st.integers(0, 5000),
    size=st.integers(0, 300),
    block=st.sampled_from([7, 64, 2**14]),
)
def test_rows_from_anywhere_are_those_of_reading_from_the_start(parts, start, size, block):
    whole, indices = Interleaving(parts).rows(0, start + size)
    original, module.BLOCK = module.BLOCK, block
    try:
        sequence = Interleaving(parts)
        tasks, rows = sequence.rows(start, start + size)
        counts = sequence.counts(start)
    finally:
        module.BLOCK = original
    np.testing.assert_array_equal(tasks, whole[start:])
    np.testing.assert_array_equal(rows, indices[start:])
    assert counts == np.bincount(whole[:start], minlength=len(parts)).tolist()
    for task in range(len(parts)):
        assert (indices[whole == task] == np.arange((whole == task).sum())).all()


def test_a_share_is_the_decimal_that_is_written():
    assert whole_parts([as_written(w) for w in (0.1, 0.2, 0.7)]) == [1, 2, 7]
    assert whole_parts([as_written(w) for w in (1e-5, 1 - 1e-5)]) == [1, 99_999]
    irrational = whole_parts([as_written(w) for w in (2**0.5, 3**0.5, 1e-13)])
    assert min(irrational) == 1 and irrational[0] / irrational[1] == pytest.approx(2**0.5 / 3**0.5)


def fractions(*weights):
    return tuple(Fraction(weight) for weight in weights)


def test_shares_change_at_their_row_and_rows_go_on():
    schedule = RowSchedule(
        [
            ShareStage(0, fractions(5, 3, 2)),
            ShareStage(100, fractions(1, 1, 8)),
            ShareStage(300, fractions(0, 1, 0)),
        ],
        [None] * 3,
    )
    tasks, rows = schedule.rows(0, 400)
    counted = [np.bincount(tasks[a:b], minlength=3).tolist() for a, b in ((0, 100), (100, 300))]
    assert counted == [[50, 30, 20], [20, 20, 160]]
    assert (tasks[300:] == 1).all()
    for task in range(3):
        assert rows[tasks == task].tolist() == list(range((tasks == task).sum()))
    for start, stop in ((0, 1), (95, 130), (299, 301), (300, 400)):
        again = schedule.rows(start, stop)
        assert again[0].tolist() == tasks[start:stop].tolist()
        assert again[1].tolist() == rows[start:stop].tolist()


def test_a_task_that_ends_leaves_its_share_to_the_others():
    schedule = RowSchedule([ShareStage(0, fractions(2, 1, 1))], [10, None, 30])
    tasks, rows = schedule.rows(0, 200)
    assert np.flatnonzero(tasks == 0).max() < 20 and (tasks == 0).sum() == 10
    last = int(np.flatnonzero(tasks == 2).max())
    both = tasks[np.flatnonzero(tasks == 0).max() + 1 : last + 1]
    assert abs((both == 1).sum() - (both == 2).sum()) <= 1
    assert (tasks == 2).sum() == 30 and (tasks[last + 1 :] == 1).all()
    assert rows[tasks == 1].tolist() == list(range((tasks == 1).sum()))
    assert schedule.counts(200) == [10, 160, 30] and schedule.num_rows(10**9) == 10**9


def test_when_all_have_ended_there_are_no_rows():
    schedule = RowSchedule([ShareStage(0, fractions(1, 3))], [4, 6])
    assert len(schedule.rows(0, 100)[0]) == 10 and schedule.num_rows(100) == 10
    assert len(schedule.rows(50, 60)[0]) == 0 and schedule.counts(100) == [4, 6]
