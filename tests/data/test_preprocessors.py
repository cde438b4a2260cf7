"""Preprocessors against records written by hand; solved examples never tell the answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.data.features import PromptAnswer
from jaxgen.data.few_shot import FewShot
from jaxgen.data.generated import Addition
from jaxgen.data.preprocessors import Choices, Keep, Rename, Template
from jaxgen.data.protocols import Context
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import ConfigError, DataError

NOTHING = Context(lambda: iter(()))


def apply(step, *records):
    return list(step.apply(iter(records), NOTHING))


def test_renaming_and_templates():
    record = {"q": "2+2?", "a": 4, "more": {"hint": "even"}}
    assert apply(Rename({"q": "prompt"}), record) == [
        {"prompt": "2+2?", "a": 4, "more": {"hint": "even"}}
    ]
    written = apply(
        Template({"prompt": "Q: {q} ({more[hint]})\nA:", "answer": " {a:03d}{{}}"}), record
    )
    assert written[0]["prompt"] == "Q: 2+2? (even)\nA:" and written[0]["answer"] == " 004{}"


def test_choices_by_number_and_by_name():
    record = {"choices": ["red", "blue"], "label": 1}
    for label in (1, "blue"):
        done = apply(Choices(), record | {"label": label})[0]
        assert done["answer"] == "blue" and done["listed"] == "A. red\nB. blue"
    with pytest.raises(DataError, match="'green' is none of the 2 choices"):
        apply(Choices(), record | {"label": "green"})


def test_keeping_by_length_and_pattern():
    records = [{"text": text} for text in ("a", "abc", "abcdef", "xyz")]
    kept = apply(Keep(min_characters=2, max_characters=5, pattern="^a"), *records)
    assert kept == [{"text": "abc"}]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Template({"a": "{b"}), "not a template"),
        (lambda: Keep(pattern="("), "pattern"),
        (lambda: FewShot(0), "count=0"),
        (lambda: FewShot(5, pool=4), "pool=4"),
        (
            lambda: apply(Rename({"x": "y"}), {"z": 1, "jaxgen.parts": ()}),
            r"rename.fields asks for 'x'.*\['z'\]",
        ),
        (lambda: apply(Template({"a": "{b.c}"}), {"z": 1}), r"template.fields\['a'\] asks for 'b'"),
    ],
)
def test_wrong_settings_and_fields_are_named(make, words):
    with pytest.raises((ConfigError, DataError), match=words):
        make()


def few_shot_task(count, records, heldout=0.3, **changes):
    source = InMemory(tuple(records), heldout_fraction=heldout)
    return Task("t", source, PromptAnswer(), preprocessors=(FewShot(count, **changes),))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 4), seed=st.integers(0, 3))
def test_solved_examples_are_of_the_training_split_and_never_the_record(count, seed):
    # Every third prompt comes twice, with another answer.
    records = [{"prompt": f"p{i % 60}=", "answer": f"a{i}."} for i in range(90)]
    task = few_shot_task(count, records, seed=seed)
    training = {f"{r['prompt']}{r['answer']}" for r in task.raw_records("train")}
    for split in ("train", "heldout"):
        plain = list(task.raw_records(split))
        for record, before in zip(task.records(split), plain, strict=True):
            *shots, prompt = record["prompt"].split("\n\n")
            assert prompt == before["prompt"] and record["answer"] == before["answer"]
            assert len(set(shots)) == count and set(shots) <= training
            assert not any(shot.startswith(prompt) for shot in shots)


def test_solved_examples_do_not_depend_on_the_order():
    records = [{"prompt": f"p{i}=", "answer": f"a{i}."} for i in range(40)]
    forwards = {r["answer"]: r["prompt"] for r in few_shot_task(2, records).records("train")}
    backwards = {r["answer"]: r["prompt"] for r in few_shot_task(2, records[::-1]).records("train")}
    assert forwards == backwards
    assert len({prompt.split("\n\n")[0] for prompt in forwards.values()}) > 5


def test_too_few_solved_examples_are_named():
    records = [{"prompt": f"p{i}=", "answer": "a"} for i in range(6)]
    with pytest.raises(DataError, match=r"count=50.*has \d others"):
        list(few_shot_task(50, records).records("heldout"))


def test_generated_tasks_have_solved_examples_too():
    task = Task("sums", Addition(2), PromptAnswer(), preprocessors=(FewShot(2),))
    for record in task.instances(5, seed=0):
        first, second, asked = record["prompt"].split("\n\n")
        for shot in (first, second):
            summands, total = shot.split("=")
            assert sum(map(int, summands.split("+"))) == int(total)
        assert asked.endswith("=")


def test_a_record_without_its_field_is_an_error_or_skipped_by_on_error(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"title": "b"}\n{"text": "c"}\n')
    task = Task("t", Jsonl(str(path), heldout_fraction=0.0))
    with pytest.raises(DataError, match=r"task t: .*'text' is missing.*title"):
        list(task.examples("train"))
    skipping = Task("t", Jsonl(str(path), heldout_fraction=0.0, on_error="skip"))
    assert [task.codec.decode(e.ids) for e in skipping.examples("train")] == ["a", "c"]
    assert "task t: 1 unusable record(s) skipped" in caplog.text
