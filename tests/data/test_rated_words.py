"""Pairs of rated words: each judged by two people, with the share who agree; apart by split."""

import itertools

import numpy as np
import pytest

from jaxgen.data.installed import RatedWords
from jaxgen.data.installed.rated_words import agreement
from jaxgen.data.protocols import RecordSource
from jaxgen.errors import ConfigError, DataError

SCALE = {"awful": -3, "bad": -2, "poor": -1, "fine": 1, "good": 2, "great": 3}


@pytest.fixture
def lexicon(tmp_path, monkeypatch):
    """A package of the same form: words in threes, whose raters differ by up to one."""
    folder = tmp_path / "vaderSentiment"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('never imported')")
    random = np.random.default_rng(0)
    words = {f"{word}{end}": rating for word, rating in SCALE.items() for end in ("", "ly", "ness")}
    lines = []
    for word, rating in (words | {":-)": 2}).items():
        ratings = (rating + random.integers(-1, 2, 10)).tolist()
        lines.append(f"{word}\t{np.mean(ratings)}\t{np.std(ratings):.5f}\t{ratings}\n")
    (folder / "vader_lexicon.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder / "vader_lexicon.txt"


def test_an_agreement_is_the_share_of_pairs_of_raters_that_differ():
    better, worse = np.array([1, 2, 3]), np.array([2, 0])
    pairs = list(itertools.product(better, worse))
    wins, losses = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    assert (wins, losses) == (4, 1)
    assert agreement(better, worse) == 4 / 5
    assert agreement(better, better[:1] * 0 + 9) == 0 and agreement(worse * 0, worse * 0) == 0.5


def test_judgements_come_out_as_often_as_raters_agree(lexicon):
    records = list(RatedWords(5000, heldout_fraction=0.2).read("train"))
    assert len(records) == 5000 and isinstance(RatedWords(), RecordSource)
    shares = np.array([record["preference"] for record in records])
    # Of a pair that is drawn often, the first is preferred in that share of its judgements; so the
    # share of a judgement's own side is on average the mean of p^2 + (1 - p)^2.
    both = shares**2 + (1 - shares) ** 2
    assert abs(shares.mean() - both.mean()) < 4 * shares.std() / np.sqrt(len(shares))
    assert shares.min() < 0.5 < shares.mean()
    assert not any(":" in record["chosen"] for record in records)
    assert {record["prompt"] for record in records} == {"The kinder word:"}
    one = records[0]
    assert one["chosen"].startswith(" ") and one["key"].startswith(one["chosen"].strip())


@pytest.mark.parametrize("split_by", ["word", "pair"])
def test_held_out_words_or_pairs_are_not_trained_on(lexicon, split_by):
    source = RatedWords(2000, split_by, heldout_fraction=0.3)
    words, pairs = [], []
    for split in ("train", "heldout"):
        records = list(source.read(split))
        assert len(records) == (2000 if split == "train" else 600)
        both = [frozenset((one["chosen"], one["rejected"])) for one in records]
        assert all(len(pair) == 2 for pair in both)
        pairs.append(set(both))
        words.append(set().union(*both))
    assert not pairs[0] & pairs[1]
    assert bool(words[0] & words[1]) == (split_by == "pair")
    assert list(source.read("train")) == list(source.read("train"))


def test_what_is_missing_or_damaged_is_told(lexicon, monkeypatch):
    before = RatedWords().content_digest()
    assert before == RatedWords().content_digest() != RatedWords(seed=1).content_digest()
    with pytest.raises(ConfigError, match=r"rated_words\.heldout_fraction"):
        RatedWords(heldout_fraction=2.0)
    with pytest.raises(DataError, match="has 0 words in its heldout split"):
        list(RatedWords(heldout_fraction=0.001).read("heldout"))
    lexicon.write_text("good\t1.0\t0.5\t[1, 2]\n")
    with pytest.raises(DataError, match=r"lexicon\.txt:1: not a word with 10 ratings"):
        list(RatedWords().read("train"))
    lexicon.unlink()
    with pytest.raises(DataError, match=r"jaxgen\[ratings\]"):
        list(RatedWords().read("train"))
