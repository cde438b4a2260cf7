"""The report's numbers against counting by hand, and the page itself."""

import html
import re

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.denoising import MaskedTokens
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.generated import Addition
from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.mixtures import Mixture
from jaxgen.data.preprocessors import Keep
from jaxgen.data.report import write_data_report
from jaxgen.data.showing import lines, show
from jaxgen.data.sources import InMemory
from jaxgen.data.statistics import ReadingPlan, describe
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

CODEC = ByteCodec(SpecialTokens())
# 40 documents of 9 bytes, of which 10 come twice; and sums of 10 tokens.
TEXTS = tuple(
    {"text": f"text <{i:02}>", "key": str(n)} for n, i in enumerate([*range(30), *range(10)])
)
TEXT = Task("text", InMemory(TEXTS, 0.0), codec=CODEC)
SUMS = Task("sums", Addition(2), PromptAnswer(), CODEC)
MIXTURE = Mixture("m", (TEXT, SUMS), {"text": 0.25, "sums": 0.75})


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_shares_duplicates_lengths_and_repeats_agree_with_counting():
    sums, text = describe(MIXTURE, ReadingPlan(8, 25, None, 800))
    assert (text.share_of_rows, sums.share_of_rows) == (0.25, 0.75)
    # Rows of text are full; two sums of 10 stand in 25.
    assert text.share_used == 1 and sums.share_used == 20 / 25
    assert text.share_of_tokens == pytest.approx(0.25 * 25 / (0.25 * 25 + 0.75 * 20))
    assert text.share_in_loss == 1 and sums.share_in_loss == pytest.approx(4 / 10)
    assert text.duplicates == 10 and sums.duplicates is None
    assert (text.lengths == 10).all() and (sums.lengths == 10).all()
    assert text.bytes_per_token == 1 and (text.documents, text.heldout_documents) == (40, 0)
    assert text.rows_per_epoch == 40 * 10 // 25 and text.epochs == 200 / 16


def test_the_page_stands_alone_and_says_the_numbers(tmp_path):
    path = tmp_path / "report.html"
    write_data_report(MIXTURE, ReadingPlan(8, 25, None, 800), path)
    page = path.read_text()
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://""", page)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.split("</style>")[1]))
    words = " ".join(text.split())
    assert "text@1 25.0 %" not in words and "29.4 %" in words  # of tokens: 6.25 of 21.25
    assert "sums@1" in words and "12.50" in words and "text <" in words
    assert "85.0 % of them used, 15.0 % padding" in words


def test_a_mixture_that_ends_before_the_run_is_refused(tmp_path):
    ending = Mixture("m", (Task("text", InMemory(TEXTS, 0.0), codec=CODEC, epochs=1.0),))
    with pytest.raises(DataError, match="ends after 16 rows"):
        write_data_report(ending, ReadingPlan(8, 25, None, 800), tmp_path / "report.html")


def test_shown_segments_are_the_models_inputs_and_targets():
    (one,) = show(SUMS, 1, seed=0, longest=80, has_source=False)
    prompt, answer = one.record["prompt"], one.record["answer"]
    inputs, targets, weights, _ = list(lines(one.segments[0], CODEC))
    assert inputs.split()[2:] == list(prompt + answer)
    assert targets.split()[1:-1] == list(prompt + answer) and targets.endswith("<|end|>")
    assert weights.split()[1:] == ["0"] * len(prompt) + ["1"] * (len(answer) + 1)


def test_steps_on_the_way_are_shown():
    task = Task(
        "cut", InMemory(TEXTS, 0.0), codec=CODEC, preprocessors=(FillInTheMiddle(rate=1.0),)
    )
    (one,) = show(task, 1, seed=0, longest=80, has_source=False)
    assert "<|fim_middle|>" in "\n".join(lines(one.segments[0], CODEC))
    (left_out,) = show(
        Task("none", InMemory(TEXTS, 0.0), preprocessors=(Keep(pattern="^x"),)), 1, 0, 80, False
    )
    assert left_out.processed == [] and left_out.segments == []


def test_long_rows_are_folded_and_lose_nothing():
    record = ({"text": "abcdefghij" * 20},)
    task = Task("long", InMemory(record, 0.0), Text(denoising=MaskedTokens()), CODEC)
    (one,) = show(task, 1, seed=0, longest=200, has_source=False)
    shown = list(lines(one.segments[0], CODEC))
    assert max(map(len, shown)) <= 100 and len(shown) > 6
    targets = [word for line in shown if line.startswith("target") for word in line.split()[1:]]
    assert "".join(targets[1:-1]) == record[0]["text"]
    assert np.mean(
        [word == "1" for line in shown if line.startswith("weight") for word in line.split()[1:]]
    ) == pytest.approx(30 / 202)
