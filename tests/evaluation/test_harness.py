"""The real lm-eval on a model of ours: its figures are jaxgen's own."""

import json
from pathlib import Path

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


class TwoBegins(ByteCodec):
    """Bytes whose texts begin with two tokens, as GLM's."""

    @property
    def begin_ids(self) -> tuple[int, ...]:
        return self.begin_id, self.pad_id


def test_all_begin_tokens_stand_before_contexts_and_whole_texts(model):
    begin = [CODEC.begin_id, CODEC.pad_id]
    with jax.set_mesh(one_device_mesh()):
        scorer = Scorer(model, 4, 32)
        wrapped = HarnessModel(scorer, TwoBegins())
        (rolled, long), (pair,) = (
            wrapped.loglikelihood_rolling([instance("short"), instance("abcde" * 20)]),
            wrapped.loglikelihood([instance("sho", "rt")]),
        )
        ids = np.array([*begin, *CODEC.encode("short")], np.int32)
        for found, first in ((rolled, 1), (pair[0], 4)):
            weights = (np.arange(len(ids) - 1) >= first).astype(np.float32)
            expected = scorer.score("t", [Segment(ids[:-1], ids[1:], weights)], 0)[0].total
            assert found == pytest.approx(expected, rel=1e-4)
        assert np.isfinite(long)


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


def asked(text, task="t", document=0, **settings):
    return Instance("generate_until", {}, (text, settings), 0, (task, document, 1))


def test_the_room_for_an_answer_never_takes_the_whole_prompt(model, caplog):
    """Of a task without max_gen_toks, which asks for 256 tokens of a model that reads 64."""
    prompts = ["a" * 20, "b" * 20, "something else " * 9]
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(model, 4, 64), CODEC)
        answers = wrapped.generate_until([asked(p, document=i) for i, p in enumerate(prompts)])
        alone = wrapped.generate_until([asked(prompts[0], max_gen_toks=8)])
    assert len(set(answers)) == 3
    assert answers[0].startswith(alone[0]) or alone[0].startswith(answers[0])
    # 135 tokens, of which the last 31 and the begin token are half of what the model reads.
    assert wrapped.truncated == {("t", 2): 135 - 31}
    assert "answers are at most 32 tokens" in caplog.text


def test_a_cut_context_is_counted_and_told_in_its_row(model, local, tmp_path):
    long = [dict(RECORDS[0], prompt="x" * 90), *RECORDS[1:]]
    data = "".join(json.dumps(record) + "\n" for record in long)
    (tmp_path / "data.jsonl").write_text(data)
    with jax.set_mesh(one_device_mesh()):
        found = run_harness(HarnessModel(Scorer(model, 4, 64), CODEC), ["local_choices"], local)
    # Of three choices the longest leaves least room: 64 less " neither" and the begin token.
    lost = 90 - (64 - len(" neither") - 1)
    assert found["truncated"] == {"local_choices": {"contexts": 1, "of": 9, "most_tokens": lost}}
    rows = found["samples"]["local_choices"]
    assert [row.get("truncated_tokens") for row in rows if row["doc_id"] == 0] == [lost]
    assert all("truncated_tokens" not in row for row in rows if row["doc_id"])


def test_settings_that_are_not_honoured_are_named_before_anything_is_computed(model, local):
    wrong = WRITTEN.replace("local_written", "local_wrong").replace(
        "do_sample: false", "num_beams: 4, repetition_penalty: 1.3, num_return_sequences: 1"
    )
    data = Path(local) / "data.jsonl"
    (Path(local) / "wrong.yaml").write_text(wrong.replace("DATA", str(data)))
    with pytest.raises(DataError, match=r"local_wrong asks for num_beams=4, repetition_penalty"):
        run_harness(HarnessModel(None, CODEC), ["local_choices", "local_wrong"], local)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("metric_list: [{metric: nosuchmetric}]", "cannot make the task local_wrong"),
        ("filter_list: [{name: x, filter: [{function: nosuch}]}]", "Unknown filter 'nosuch'"),
        ('doc_to_text: "{{nosuch}}"', "'nosuch' is undefined"),
        ("dataset_kwargs: {data_files: {test: /no/such.jsonl}}", "no/such.jsonl"),
        ("unsafe_code: true", "local_wrong executes code"),
        ("doc_to_image: prompt", "local_wrong shows the model pictures"),
        ("process_results: !function wrong.f", "cannot evaluate local_wrong.*ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_task_is_one_message(model, local, line, told):
    (Path(local) / "wrong.py").write_text("def f(doc, results):\n    return {'acc': 1 / 0}\n")
    kept = [one for one in WRITTEN.splitlines() if not one.startswith(line.split(":")[0])]
    text = "\n".join([*kept, line]).replace("DATA", str(Path(local) / "data.jsonl"))
    (Path(local) / "wrong.yaml").write_text(text.replace("local_written", "local_wrong"))
    with jax.set_mesh(one_device_mesh()), pytest.raises(DataError, match=told):
        run_harness(HarnessModel(Scorer(model, 4, 64), CODEC), ["local_wrong"], local)


def test_an_error_of_the_model_is_not_called_one_of_the_task(local, monkeypatch):
    monkeypatch.setattr(HarnessModel, "_score", lambda self, segments: 1 / 0)
    with jax.set_mesh(one_device_mesh()), pytest.raises(ZeroDivisionError):
        run_harness(HarnessModel(Scorer(None, 4, 64), CODEC), ["local_choices"], local)  # pyright: ignore[reportArgumentType]


def test_an_encoder_decoder_reads_contexts_and_has_no_rolling():
    with jax.set_mesh(one_device_mesh()):
        wrapped = HarnessModel(Scorer(build(tiny_model("t5")), 2, 32, source_length=32), CODEC)
        (found,) = wrapped.loglikelihood([instance("a question", " answer")])
        assert np.isfinite(found[0])
        with pytest.raises(DataError, match="encoder-decoder"):
            wrapped.loglikelihood_rolling([instance("text")])
