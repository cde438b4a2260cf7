"""Records of any content: what is no text of a task is one message of ours, from every source."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tokenizers import byte_level

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data.bigbench import BigBench
from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.few_shot import FewShot
from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.preprocessors import Choices, Keep, Rename, Template
from jaxgen.data.tables import Parquet
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.data.web_dataset import WebDataset
from jaxgen.errors import JaxgenError

TEXTS = st.text(max_size=8) | st.sampled_from(["\ud83d", "\x00", "", "{a}", "<|end|>"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = ("text", "prompt", "answer", "turns", "messages", "choices", "label", "key", "a")
RECORDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES
FEATURES = (Text(), PromptAnswer(), Chat())
STEPS = (
    (), (Template({"text": "{a} {text[0]}"}),), (Choices(),), (Keep(pattern="a"),),
    (Rename({"a": "text"}),), (FillInTheMiddle(rate=1.0),), (FewShot(1),),
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = byte_level(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    return TokenizerCodec(path, pad="</s>", begin="<s>", end="</s>")


def read_all(source, codec, features, steps):
    """Every way in which a task's records are read; only errors of ours may come."""
    task = Task("t", source, features, codec, preprocessors=steps)
    for use in (lambda: list(task.examples("train")), lambda: task.instances(2, 0, "train")):
        try:
            for example in use():
                assert isinstance(example, dict) or example.ids.dtype == np.int32
        except JaxgenError as error:
            assert str(error)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    records=st.lists(RECORDS, min_size=1, max_size=3),
    features=st.sampled_from(FEATURES), steps=st.sampled_from(STEPS),
    on_error=st.sampled_from(["raise", "skip"]), has_key=st.booleans(), of_bytes=st.booleans(),
)  # fmt: skip
def test_any_json_in_lines(
    records, features, steps, on_error, has_key, of_bytes, tokenizer, tmp_path
):
    file = tmp_path / "some.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    key = "key" if has_key else None
    source = Jsonl(str(file), key_field=key, heldout_fraction=0.0, on_error=on_error)
    read_all(source, ByteCodec() if of_bytes else tokenizer, features, steps)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(task=VALUES, examples=st.lists(RECORDS, max_size=3))
def test_any_json_as_a_task_of_big_bench(task, examples, tokenizer, tmp_path):
    task = task if isinstance(task, dict) else {"name": task}
    (tmp_path / "task.json").write_text(json.dumps(task | {"examples": examples}))
    read_all(BigBench(str(tmp_path / "task.json"), on_error="skip"), tokenizer, PromptAnswer(), ())


COLUMNS = {
    "int64": st.integers(-(2**63), 2**63 - 1), "float64": st.floats(), "bool_": st.booleans(),
    "string": st.text(max_size=5), "binary": st.binary(max_size=5),
    "date32": st.dates(), "null": st.none(),
}  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(), features=st.sampled_from(FEATURES), steps=st.sampled_from(STEPS),
    nested=st.booleans(),
)  # fmt: skip
def test_any_type_of_column(data, features, steps, nested, tokenizer, tmp_path):
    columns = {}
    for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        kind = data.draw(st.sampled_from(sorted(COLUMNS)))
        values = data.draw(st.lists(COLUMNS[kind] | st.none(), min_size=2, max_size=2))
        column = pa.array(values, getattr(pa, kind)())
        columns[name] = pa.array([[v] for v in column.to_pylist()]) if nested else column
    pq.write_table(pa.table(columns), tmp_path / "some.parquet")
    source = Parquet(str(tmp_path / "some.parquet"), heldout_fraction=0.0)
    read_all(source, tokenizer, features, steps)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ending=st.sampled_from(["json", "cls", "txt", "png"]), content=st.binary(max_size=12),
    value=VALUES, is_json=st.booleans(),
)  # fmt: skip
def test_any_member_of_an_archive(ending, content, value, is_json, tokenizer, tmp_path):
    content = json.dumps(value).encode() if is_json else content
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        member = tarfile.TarInfo(f"0.{ending}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    source = WebDataset(str(tmp_path / "some.tar"), heldout_fraction=0.0)
    read_all(source, tokenizer, Text(field=ending), ())


@pytest.mark.parametrize("line", ['{"text": ' + "9" * 6000 + "}", "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_more_than_python_reads(line, tokenizer, tmp_path, caplog):
    file = tmp_path / "some.jsonl"
    file.write_text(line + '\n{"text": "fine"}\n')
    strict, lenient = (
        Task("t", source, Text(), tokenizer)
        for source in (Jsonl(str(file), None, 0.0), Jsonl(str(file), None, 0.0, "skip"))
    )
    with pytest.raises(JaxgenError, match=r"some\.jsonl:1: not JSON"):
        list(strict.examples("train"))
    assert len(list(lenient.examples("train"))) == 1
    assert "1 skipped" in caplog.text
