"""Tasks alone and together: the differences of known losses, with Student's interval."""

import numpy as np
import pytest
import scipy.stats
from support.browser import assert_paints
from support.synthetic_study import config_text, write_law_study, write_run

from jaxgen.studies.analyses.transfer import TRANSFER
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.plots import DataTable
from jaxgen.studies.report import page_of

HELP = [-0.10, -0.12, -0.08, -0.11]
HURT = [0.20, 0.01, 0.15, 0.02]


def write(folder, mixture, size, seed, losses, tokens=1e6):
    config = config_text(mixture=mixture)
    total = tokens * len(losses)
    return write_run(
        folder, f"{mixture}-{size:g}", seed, size, total, 2.0, {}, config,
        evaluation={name: {"loss": loss} for name, loss in losses.items()},
        shares=dict.fromkeys(losses, 1 / len(losses)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Prose helped by pictures, and hurt by sounds: two sizes with two seeds each."""
    folder = tmp_path_factory.mktemp("study")
    for place, (size, seed) in enumerate([(1e4, 0), (1e4, 1), (1e5, 0), (1e5, 1)]):
        prose = 2.5 - place / 10
        write(folder, "text", size, seed, {"prose": prose})
        write(folder, "seen", size, seed, {"prose": prose + HELP[place], "drawn": 1.0})
        heard = {"prose": prose + HURT[place], "heard": 1.0}
        swapped = {"drawn": 1.0, "heard": 1.0}  # Has a task of another mixture, and lacks one.
        write(folder, "swapped", size, seed, swapped)
        write(folder, "sound", size, seed, heard, tokens=2e6 if place else 1e6)
    write(folder, "seen", 1e6, 0, {"prose": 1.0, "drawn": 1.0})  # Nothing to compare it with.
    return analyse(folder)


def test_differences_are_of_pairs_of_one_size_and_seed(tree):
    (prose,) = tree["transfer"]  # Nothing tells what other tasks do to "drawn" and "heard".
    assert (prose["task"], prose["alone"]) == ("prose", "text")
    others = {other["mixture"]: other for other in prose["others"]}
    for name, expected, further in (("seen", HELP, "drawn"), ("sound", HURT, "heard")):
        found = others[name]
        assert found["further"] == [further]
        assert sorted(one["difference"] for one in found["differences"]) == pytest.approx(
            sorted(expected)
        )
        interval = scipy.stats.ttest_1samp(expected, 0).confidence_interval()
        assert found["mean"] == pytest.approx(np.mean(expected))
        assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


def test_the_page_says_what_helps_and_which_tokens_are_not_equal(tree, tmp_path):
    section = TRANSFER.section(tree)
    assert section is not None
    (table,) = [block for block in section.blocks if isinstance(block, DataTable)]
    helped, hurt = table.rows
    assert helped[2] == "seen" and helped[3][1] == "good" and helped[-1] == "1M, 1M"
    assert hurt[2] == "sound" and hurt[3][1] == ""  # The interval holds 0.
    assert hurt[-1] == ("1M, 1.75M: not equal", "bad")
    assert_paints(page_of("T", "L", sections_of(tree), tree), sections_of(tree), tmp_path)


@pytest.mark.slow
def test_studies_of_one_mixture_have_no_section(tmp_path):
    write_law_study(tmp_path)
    tree = analyse(tmp_path)
    assert tree["transfer"] == [] and TRANSFER.section(tree) is None
