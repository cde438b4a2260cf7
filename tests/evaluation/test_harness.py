"""The real lm-eval on a model of ours: its figures are jaxgen's own."""

import json

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense, tiny_model

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.features import PromptAnswer
from jaxgen.data.segments import Segment
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.choices import MultipleChoice
from jaxgen.evaluation.generations import Generation
from jaxgen.evaluation.harness import HarnessModel, run_harness
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.ops.initializers import Initialization

CODEC = ByteCodec()
RECORDS = [
    {"prompt": f"Is {i} odd or even? It is", "choices": [" odd", " even", " neither"],
     "label": 1 - i % 2, "answer": " odd" if i % 2 else " even", "key": str(i)}
    for i in range(9)
]  # fmt: skip
# The harness takes one letter of a metric's name as that of its kind of task.
CHOICES = """
task: local_choices
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{metric: acc}]
"""
WRITTEN = """
task: local_written
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: answer
target_delimiter: ""
generation_kwargs: {until: ["e"], max_gen_toks: 7, do_sample: false}
metric_list: [{metric: exact_match}]
"""
ROLLING = """
task: local_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{prompt}}"
metric_list: [{metric: bits_per_byte}]
"""


@pytest.fixture(scope="module")
def model():
    with jax.set_mesh(one_device_mesh()):
        return build(
            tiny_dense(vocab_size=320, initialization=Initialization(embedding_stddev=0.5))
        )


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A folder of tasks over a file of this machine, and nothing fetched from anywhere."""
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "hub"))
    import datasets.config  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    for name, text in (("choices", CHOICES), ("written", WRITTEN), ("rolling", ROLLING)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    return str(tmp_path)


def test_the_harness_and_jaxgen_agree(model, local):
    own = Task("own", InMemory(tuple(RECORDS)), PromptAnswer())
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(model, 4, 64), CODEC)
        found = run_harness(wrapped, ["local_choices", "local_written", "local_rolling"], local)
        choices = MultipleChoice("none").score(Scorer(model, 4, 64), own, RECORDS)
        written = Generation(stop=("e",), max_tokens=7).score(Scorer(model, 4, 64), own, RECORDS)
    results, samples = found["results"], found["samples"]
    assert results["local_choices"]["acc,none"] == pytest.approx(
        np.mean([row["exact_match"] for row in choices])
    )
    for sample, row, record in zip(samples["local_choices"], choices, RECORDS, strict=True):
        score = float(sample["resps"][record["label"]][0][0])
        assert abs(score - row["log_probability"]) < 1e-4
    for sample, row in zip(samples["local_written"], written, strict=True):
        assert sample["resps"][0][0] == row["said"]
    assert "local_rolling" in found["table"]
    with jax.set_mesh(one_device_mesh()), pytest.raises(DataError, match=r"no task \['nothing'\]"):
        run_harness(wrapped, ["nothing"], local)


def instance(*arguments):
    return Instance("loglikelihood", {}, arguments, 0)


def whole_log_probability(model, ids, length):
    """Of a text in windows of the length, by the harness's own words: a token of context each."""
    total, begin = 0.0, 0
    ids = [CODEC.begin_id, *ids]
    while begin < len(ids) - 1:
        end = min(begin + length, len(ids) - 1)
        # The last window is as long as the others and sees what came before.
        first = max(0, end - length)
        inputs, targets = np.array(ids[first:end]), np.array(ids[first + 1 : end + 1])
        weights = (np.arange(first, end) >= begin).astype(np.float32)
        segment = Segment(inputs, targets, weights)
        total += Scorer(model, 1, length).score("t", [segment], 0)[0].total
        begin = end
    return total


def test_long_texts_are_read_in_windows(model):
    text = "abcdefghij" * 7 + "klm"
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(model, 4, 32), CODEC)
        found = wrapped.loglikelihood_rolling([instance(text), instance("short")])
        for one, total in zip((text, "short"), found, strict=True):
            ids = CODEC.encode(one).tolist()
            assert total == pytest.approx(whole_log_probability(model, ids, 32), rel=1e-4)


def test_long_contexts_lose_their_beginning_and_spaces_belong_to_what_follows(model):
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(model, 2, 32), CODEC)
        ends = [instance("x" * n + "abc" * 10, "def") for n in (0, 50)]
        first, second = wrapped.loglikelihood(ends)
        assert first[0] == pytest.approx(second[0], rel=1e-5)
        one, other = wrapped.loglikelihood([instance("a ", "b"), instance("a", " b")])
        assert one[0] == pytest.approx(other[0], rel=1e-6)
        assert np.isfinite(wrapped.loglikelihood([instance("", "b")])[0][0])
        with pytest.raises(DataError, match="does not fit 32"):
            wrapped.loglikelihood([instance("a", "b" * 40)])


def test_an_encoder_decoder_reads_contexts_and_has_no_rolling():
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(build(tiny_model("t5")), 2, 32, source_length=32), CODEC)
        (found,) = wrapped.loglikelihood([instance("a question", " answer")])
        assert np.isfinite(found[0])
        with pytest.raises(DataError, match="encoder-decoder"):
            wrapped.loglikelihood_rolling([instance("text")])
