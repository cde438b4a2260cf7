"""Choices by likelihood and free answers, against the model's own logits and samples."""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense, tiny_model

from jaxgen.batch import Batch
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.configuration import imported, load
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.few_shot import FewShot
from jaxgen.data.generated import Addition, CodeInfilling, EventSummary
from jaxgen.data.mixtures import Mixture
from jaxgen.data.packing import RowShape
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.base import Scoring
from jaxgen.evaluation.choices import MultipleChoice
from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask
from jaxgen.evaluation.contamination import contaminated
from jaxgen.evaluation.evaluate import evaluate
from jaxgen.evaluation.generations import CodeExecution, Generation, ListedItems, cut
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.summary import summarise
from jaxgen.files import read_rows
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.initializers import Initialization

CODEC = ByteCodec()
QUESTIONS = tuple(
    {"prompt": f"{i} is", "choices": [" odd", " even", " neither of the two"], "label": i % 2,
     "answer": " odd", "key": f"q{i}"} for i in range(7)
)  # fmt: skip
TASK = Task("parity", InMemory(QUESTIONS, 0.5), PromptAnswer())


@pytest.fixture(scope="module")
def model():
    with jax.set_mesh(one_device_mesh()):
        return build(
            tiny_dense(vocab_size=320, initialization=Initialization(embedding_stddev=0.5))
        )


@jax.jit
def log_softmax(model, inputs):
    """[1, length] ids -> [length, vocab]."""
    ones = jnp.ones_like(inputs)
    batch = Batch(inputs, inputs, ones * 1.0, jnp.arange(inputs.shape[1])[None], ones, ones)
    return jax.nn.log_softmax(model.logits(model(batch).hidden))[0]


def log_probability(model, prompt, choice):
    """Of the choice's bytes after the prompt's."""
    text = (prompt + choice).encode()
    # What stands to the right changes nothing, and one length is one program.
    padded = np.array([[CODEC.begin_id, *text.ljust(40)]], np.int32)
    log_p = np.asarray(log_softmax(model, padded))
    places = range(len(text) - len(choice.encode()), len(text))
    return sum(float(log_p[place, text[place]]) for place in places)


@pytest.mark.parametrize("normalisation", ["none", "tokens", "bytes", "pmi"])
def test_choices_are_scored_by_the_models_likelihoods(model, normalisation):
    scoring = MultipleChoice(normalisation)
    with jax.set_mesh(one_device_mesh()):
        rows = scoring.score(Scorer(model, 8, 64), TASK, QUESTIONS)
        for row, record in zip(rows, QUESTIONS, strict=True):
            totals = [log_probability(model, record["prompt"], c) for c in record["choices"]]
            sizes = [len(c) for c in record["choices"]]
            scores = {
                "none": totals,
                "tokens": [t / n for t, n in zip(totals, sizes, strict=True)],
                "bytes": [t / n for t, n in zip(totals, sizes, strict=True)],
                "pmi": [
                    t - log_probability(model, "Answer:", c)
                    for t, c in zip(totals, record["choices"], strict=True)
                ],
            }[normalisation]
            powers = np.exp(scores)
            label = record["label"]
            assert row["instance"] == record["key"] and row["chance"] == pytest.approx(1 / 3)
            assert row["exact_match"] == int(np.argmax(scores) == label)
            assert row["choice_probability"] == pytest.approx(
                powers[label] / powers.sum(), rel=1e-3
            )
            assert row["log_probability"] == pytest.approx(totals[label], rel=1e-4)


def test_what_is_written_freely_is_cut_and_compared(model):
    prompts = [np.array(CODEC.encode(f"say {i}"), np.int32) for i in range(5)]
    with jax.set_mesh(one_device_mesh()):
        written = [
            CODEC.decode(ids)
            for ids in continue_prompts(
                model, CODEC, prompts, jax.random.key(0), SamplingPolicy(temperature=0), 6
            )
        ]
        longest = int(np.argmax([len(text) for text in written]))
        stop = written[longest][1]
        records = [
            {"prompt": f"say {i}", "answer": text or "x", "key": str(i)}
            | ({"targets": ["no", text.split(stop)[0]]} if i == longest else {})
            for i, text in enumerate(written)
        ]
        task = Task("free", InMemory(tuple(records)), PromptAnswer())
        whole = Generation(stop=(), max_tokens=6).score(Scorer(model, 2, 64), task, records)
        shorter = Generation(stop=(stop,), max_tokens=6).score(Scorer(model, 2, 64), task, records)
    assert [row["said"] for row in whole] == written
    for i, row in enumerate(whole):
        if written[i] and i != longest:
            assert row["exact_match"] == 1 and row["edit_similarity"] == 1
    assert whole[longest]["exact_match"] == 0
    assert shorter[longest]["exact_match"] == 1 and stop not in shorter[longest]["said"]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """A metric of one's own that tells its three arguments apart."""

    name = "lengths"

    def score(self, record, reference, completion):
        return float(record["key"]) + 10 * len(reference) + 1000 * len(completion)


def test_a_metric_of_ones_own_is_scored_beside_the_named_ones(model):
    records = [{"prompt": f"say {i}", "answer": "xyz"[:i], "key": str(i)} for i in (1, 2, 3)]
    metrics = ("exact_match", Lengths())
    task = Task("own", InMemory(tuple(records)), PromptAnswer(), metrics=metrics)
    with jax.set_mesh(one_device_mesh()):
        scorer = Scorer(model, 2, 64)
        likely = Answers().score(scorer, task, records)
        free = Generation(stop=(), max_tokens=6).score(scorer, task, records)
        for i, (one, other) in enumerate(zip(likely, free, strict=True), start=1):
            text = f"say {i}{'xyz'[:i]}".encode()
            padded = np.array([[CODEC.begin_id, *text.ljust(40)]], np.int32)
            likeliest = np.asarray(log_softmax(model, padded)).argmax(axis=-1)[5 : 5 + i + 1]
            assert one["lengths"] == i + 10 * i + 1000 * len(CODEC.decode(likeliest))
            assert other["lengths"] == i + 10 * i + 1000 * len(other["said"])
    expected = np.mean([row["lengths"] for row in likely])
    assert summarise(likely, task.metric_names)["lengths"] == pytest.approx(expected)


@pytest.mark.slow
def test_prompts_of_an_encoder_decoder_are_its_source():
    with jax.set_mesh(one_device_mesh()):
        model = build(tiny_model("t5"))
        prompts = [np.array(CODEC.encode(text), np.int32) for text in ("one", "another one")]
        key, greedy = jax.random.key(0), SamplingPolicy(temperature=0)
        together = continue_prompts(model, CODEC, prompts, key, greedy, 5)
        alone = [continue_prompts(model, CODEC, [p], key, greedy, 5)[0] for p in prompts]
    assert [ids.tolist() for ids in together] == [ids.tolist() for ids in alone]


def test_written_programs_are_executed_and_items_are_counted():
    source = CodeInfilling()
    records = source.records_by_index("heldout").__getitems__(range(3))
    texts = [records[0]["answer"], "1 / 0", records[2]["answer"] + " + 1"]
    rows = CodeExecution(stop=()).also(records, texts)
    assert [row["passed"] for row in rows] == [1, 0, 0]
    assert rows[0]["outcome"] == "passed" and rows[1]["outcome"].startswith("failed: ")
    summaries = EventSummary().records_by_index("heldout").__getitems__(range(2))
    items = summaries[0]["items"]
    rows = ListedItems().also(summaries, ["; ".join([items[0], "a lie"]), summaries[1]["answer"]])
    assert rows[0] == {"precision": 0.5, "recall": 1 / len(set(items))}
    assert rows[1] == {"precision": 1.0, "recall": 1.0}
    with pytest.raises(DataError, match=r"execution asks for 'prefix'"):
        CodeExecution().also([{"prompt": "a"}], ["b"])


def test_texts_are_cut_at_the_first_stop():
    assert cut("one\ntwo. three", (".", "\n")) == "one"
    assert cut("one", ("x",)) == "one" and cut("x", ("x",)) == ""


@pytest.mark.slow
def test_a_suite_is_scored_beside_the_mixture(model, tmp_path):
    shots = Task(
        "addition_2_shot", Addition(1), PromptAnswer(), preprocessors=(FewShot(2, pool=20),)
    )
    suite = (
        EvaluationTask(shots, num_examples=4),
        EvaluationTask(TASK, MultipleChoice()),
        EvaluationTask(
            dataclasses.replace(shots, name="free"), Generation(max_tokens=4), chance=0.1
        ),
    )
    settings = EvaluationConfig(num_examples=8, num_batches=1, batch_size=4, suite=suite)
    own = Task("addition", Addition(1), PromptAnswer())
    mixture = Mixture("m", (own,))
    path = tmp_path / "rows.jsonl"
    with jax.set_mesh(one_device_mesh()):
        summary = evaluate(model, NextToken(), mixture, settings, 64, path)
    assert list(summary) == ["addition", "addition_2_shot", "parity", "free"]
    assert summary["addition_2_shot"]["num_examples"] == 4 and "loss" not in summary["free"]
    assert summary["parity"]["chance"] == pytest.approx(1 / 3)
    assert summary["free"]["chance"] == 0.1
    low, high = summary["parity"]["exact_match_interval"]
    assert low <= summary["parity"]["exact_match"] <= high
    rows = read_rows(path)
    assert {row["task"] for row in rows} == set(summary)
    clash = dataclasses.replace(settings, suite=(EvaluationTask(own),))
    with (
        jax.set_mesh(one_device_mesh()),
        pytest.raises(ConfigError, match=r"\['addition'\].*names of tasks of the mixture"),
    ):
        evaluate(model, NextToken(), mixture, clash, 64, path)


def test_instances_that_were_trained_on_are_flagged():
    rng = random.Random(0)
    words = [" ".join(f"w{rng.randrange(5000)}" for _ in range(20)) for _ in range(12)]
    questions = tuple(
        {"prompt": text, "answer": " yes", "key": str(i)} for i, text in enumerate(words)
    )
    # Every third question stands in a training document, in other case and between other words.
    trained = tuple({"text": f"before {text.upper()} after", "key": f"d{i}"}
                    for i, text in enumerate(words) if i % 3 == 0)  # fmt: skip
    quiz = Task("quiz", InMemory(questions, 0.999), PromptAnswer())
    documents = Task("documents", InMemory(trained, 1e-9), Text())
    mixture = Mixture("m", (documents,))
    flagged = contaminated(mixture.every_task, [(quiz, questions), (TASK, QUESTIONS)])
    assert flagged == {("quiz", str(i)) for i in range(0, 12, 3)}
    rows = [{"exact_match": m, "contaminated": c} for m, c in ((1, 1), (1, 0), (0, 0), (1, 1))]
    summary = summarise(rows, ("exact_match",))
    assert (summary["contaminated"], summary["exact_match_clean"]) == (0.5, 0.5)


def test_a_suite_is_written_in_gin():
    config = load(
        ["runs/quickstart.gin"],
        ["evaluation.suite=(@evaluation_task(),)", "evaluation_task.task=@more/task()",
         "evaluation_task.scoring=@multiple_choice()", "multiple_choice.normalisation='pmi'",
         "more/task.name='more'", "more/task.source=@more/jsonl()",
         "more/jsonl.pattern='x.jsonl'", "more/task.features=@prompt_answer()"],
    )  # fmt: skip
    (scored,) = config.evaluation.suite
    assert scored.scoring == MultipleChoice("pmi") and scored.task.name == "more"


OWN_SCORING = """
import dataclasses

from jaxgen.evaluation.answers import Answers


@dataclasses.dataclass(frozen=True)
class Surprise:
    METRICS = ("surprise",)
    factor: float = 1.0

    def score(self, scorer, task, records):
        rows = Answers().score(scorer, task, records)
        return [row | {"surprise": -self.factor * row["log_probability"]} for row in rows]


@dataclasses.dataclass(frozen=True)
class Half:
    METRICS = ()
"""


def test_a_scoring_of_ones_own_is_bound_and_used(model, tmp_path):
    (tmp_path / "my_scoring.py").write_text(OWN_SCORING)
    texts = [{"prompt": f"say {i}", "answer": "xyz"[:i], "key": f"{i}"} for i in (1, 2, 3)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    bindings = [
        "evaluation.suite=(@evaluation_task(),)", "evaluation_task.task=@more/task()",
        "evaluation_task.scoring=@surprise()", "surprise.factor=2.0", "more/task.name='more'",
        "more/task.source=@more/jsonl()", f"more/jsonl.pattern='{tmp_path}/x.jsonl'",
        "more/jsonl.heldout_fraction=0.999", "more/task.features=@prompt_answer()",
        "evaluation.num_batches=1", "evaluation.batch_size=4",
    ]  # fmt: skip
    with imported([str(tmp_path / "my_scoring.py")]):
        settings = load([], bindings, root="evaluation")
        with pytest.raises(ConfigError, match=r"no method score\(scorer, task, records\)"):
            load([], [*bindings, "evaluation_task.scoring=@half()"], root="evaluation")
    assert isinstance(settings.suite[0].scoring, Scoring)
    mixture = Mixture("m", (Task("addition", Addition(1), PromptAnswer()),))
    path = tmp_path / "rows.jsonl"
    with jax.set_mesh(one_device_mesh()):
        summary = evaluate(model, NextToken(), mixture, settings, 64, path)
    rows = [row for row in read_rows(path) if row["task"] == "more"]
    assert [row["surprise"] for row in rows] == [-2 * row["log_probability"] for row in rows]
    mean = np.mean([row["surprise"] for row in rows])
    assert len(rows) == 3 and summary["more"]["surprise"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EvaluationTask(Task("t", InMemory(()), Text())), "no answers to score"),
        (lambda: EvaluationTask(TASK, chance=1.5), "chance=1.5"),
        (lambda: EvaluationTask(TASK, num_examples=0), "num_examples=0"),
        (lambda: EvaluationConfig(suite=(EvaluationTask(TASK),) * 2), "more than once"),
        (lambda: Generation(max_tokens=0), "max_tokens=0"),
        (lambda: Generation(stop=("",)), "stop="),
    ],
)
def test_suites_that_mean_nothing_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(
    ("scoring", "record", "words"),
    [
        (MultipleChoice(), {"prompt": "a", "answer": "b"}, "'choices'"),
        (MultipleChoice(), {"prompt": "a", "choices": ["b"], "label": 1}, "label 1"),
        (MultipleChoice(), {"prompt": "a", "choices": ["b", ""], "label": 0}, "empty"),
        (Generation(max_tokens=40), {"prompt": "a" * 30, "answer": "b"}, "leaves no room"),
    ],
)
def test_records_that_cannot_be_scored_are_named(model, scoring, record, words):
    with jax.set_mesh(one_device_mesh()), pytest.raises(DataError, match=words):
        scoring.score(Scorer(model, 2, 64), TASK, [record])


def test_a_prompt_without_room_for_an_answer_is_refused_before_training():
    examples = TASK.encode([{"prompt": "a" * 30, "answer": "b"}])
    with pytest.raises(DataError, match="leaves no room"):
        Generation(max_tokens=40).check(TASK, examples, RowShape(64))
    Generation(max_tokens=32).check(TASK, examples, RowShape(64))
