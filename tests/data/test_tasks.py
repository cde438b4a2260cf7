"""A share of the training records: nested, the same wherever they lie, and nothing else changes."""

import shutil

import numpy as np
import pytest
from scipy import stats
from support.data_writers import write_jsonl, write_text

from jaxgen.configuration import load
from jaxgen.data.features import PromptAnswer
from jaxgen.data.few_shot import FewShot
from jaxgen.data.generated import Addition
from jaxgen.data.prepared import PreparedCorpus
from jaxgen.data.rows import open_store
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError, NoRecordsError

SHARES = (0.1, 0.3, 0.6, 1.0)


def texts(task, split="train"):
    return {record["text"] for record in task.records(split)}


@pytest.mark.parametrize("write", [write_jsonl, write_text])
def test_shares_are_nested_and_held_out_records_stay(write, tmp_path):
    source = write(tmp_path)
    tasks = [Task("task", source, train_share=share) for share in SHARES]
    parts = [texts(task) for task in tasks]
    for share, smaller, larger in zip(SHARES, parts, parts[1:], strict=False):
        assert smaller < larger
        # One in a hundred thousand such tests would fail by chance; here the records are fixed.
        low, high = stats.binom(len(parts[-1]), share).interval(1 - 1e-5)
        assert low <= len(smaller) <= high
    assert all(texts(task, "heldout") == texts(tasks[-1], "heldout") for task in tasks)


def test_a_share_does_not_depend_on_where_the_files_are(tmp_path):
    (tmp_path / "here").mkdir()
    source = write_text(tmp_path / "here")
    part = texts(Task("task", source, train_share=0.3))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = type(source)(str(tmp_path / "there"), heldout_fraction=source.heldout_fraction)
    assert texts(Task("task", moved, train_share=0.3)) == part


def test_every_share_has_its_own_stored_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    source = write_jsonl(tmp_path / "data")
    for share in (*SHARES, *SHARES):
        task = Task("task", source, train_share=share)
        store = open_store(task, "train")
        stored = {bytes(store.example(i).ids.astype(np.uint8)) for i in range(len(store.lengths))}
        assert len(stored) == len(store.lengths) == len(texts(task))


def test_solved_examples_are_of_the_share():
    records = tuple({"prompt": f"<{i}>", "answer": str(i)} for i in range(200))
    task = Task("task", InMemory(records, 0.1), PromptAnswer(), train_share=0.1)
    chosen = {record["prompt"] for record in task.records("train")}
    shown = Task("task", task.source, PromptAnswer(), preprocessors=(FewShot(2),), train_share=0.1)
    for split in ("train", "heldout"):
        for record in shown.records(split):
            before = record["prompt"].split("<")[1:-1]
            assert len(before) == 2
            assert all("<" + one.split(">")[0] + ">" in chosen for one in before)


def test_shares_that_cannot_be_are_refused(tmp_path):
    records = InMemory(tuple({"text": str(i)} for i in range(20)), 0.0)
    with pytest.raises(DataError, match="Addition has none; set its number of examples"):
        Task("a", Addition(), PromptAnswer(), train_share=0.5)
    with pytest.raises(DataError, match="prepare a corpus"):
        Task("a", PreparedCorpus(str(tmp_path)), train_share=0.5)
    with pytest.raises(NoRecordsError, match="train_share=1e-09 leaves no record"):
        list(Task("a", records, train_share=1e-9).records("train"))


def test_a_share_is_set_in_gin():
    config = load(["runs/quickstart.gin"], ["code/task.train_share=0.25"])
    assert {task.name: task.train_share for task in config.mixture.every_task} == {
        "code": 0.25, "prose": 1, "addition": 1, "recall": 1, "copying": 1, "lookup": 1
    }  # fmt: skip
