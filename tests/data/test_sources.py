"""Records in, records out, held-out ones apart; and what each bad input says."""

import json

import pytest

from jaxgen.data.embedded import LICENCE_WORDS, StandardLibraryCode, StandardLibraryProse
from jaxgen.data.sources import InMemory, Jsonl, TextFiles
from jaxgen.data.tables import ArrayRecord, Parquet
from jaxgen.errors import DataError

RECORDS = [{"text": f"document {i}", "id": str(i)} for i in range(200)]


def write_jsonl(folder):
    (folder / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS[:120]))
    (folder / "b.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS[120:]))
    return Jsonl(str(folder), key_field="id", heldout_fraction=0.1)


def write_parquet(folder):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), folder / "a.parquet")
    return Parquet(str(folder), key_field="id", heldout_fraction=0.1)


def write_array_record(folder):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "a.array_record"), "group_size:1")
    for record in RECORDS:
        writer.write(json.dumps(record).encode())
    writer.close()
    return ArrayRecord(str(folder), key_field="id", heldout_fraction=0.1)


def write_text(folder):
    for record in RECORDS:
        (folder / f"{record['id']}.txt").write_text(record["text"])
    return TextFiles(str(folder), heldout_fraction=0.1)


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_array_record, write_text])
def test_every_record_is_in_one_split(write, tmp_path):
    source = write(tmp_path)
    splits = [source.open("train"), source.open("heldout")]
    texts = [[records[i]["text"] for i in range(len(records))] for records in splits]
    assert sorted(texts[0] + texts[1]) == sorted(record["text"] for record in RECORDS)
    assert 5 <= len(texts[1]) <= 40
    again = [source.open("train")[i]["text"] for i in range(len(texts[0]))]
    assert again == texts[0]


def test_keys_decide_the_same_split_in_every_format(tmp_path):
    heldout = []
    for write in (write_jsonl, write_parquet, write_array_record):
        folder = tmp_path / write.__name__
        folder.mkdir()
        records = write(folder).open("heldout")
        heldout.append(sorted(records[i]["id"] for i in range(len(records))))
    in_memory = InMemory(tuple(RECORDS), heldout_fraction=0.1).open("heldout")
    assert heldout[0] == heldout[1] == heldout[2]
    assert 5 <= len(in_memory) <= 40


def test_adding_a_file_moves_no_other(tmp_path):
    source = write_text(tmp_path)
    before = {record["path"] for record in source.open("heldout")}
    (tmp_path / "new.txt").write_text("new")
    assert before <= {record["path"] for record in source.open("heldout")}


def test_of_two_files_one_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    source = TextFiles(str(tmp_path))
    assert len(source.open("train")) == len(source.open("heldout")) == 1


@pytest.mark.parametrize("source", [StandardLibraryCode(), StandardLibraryProse()])
def test_the_standard_library_is_split_by_file_and_no_licence_is_held_out(source):
    train, heldout = source.open("train"), source.open("heldout")
    assert len(train) > 200 and len(heldout) > 5
    assert sum(len(record["text"]) for record in train) > 1_000_000
    paths = [{records[i]["path"] for i in range(len(records))} for records in (train, heldout)]
    assert not paths[0] & paths[1]
    if isinstance(source, StandardLibraryCode):
        for record in heldout:
            assert not any(word in record["text"].lower() for word in LICENCE_WORDS)


def test_a_held_out_files_docstrings_are_not_learnt_as_code():
    learnt = {record["path"] for record in StandardLibraryCode().open("train")}
    heldout = {record["path"] for record in StandardLibraryProse().open("heldout")}
    assert not learnt & heldout


def complaint(source, split="train"):
    with pytest.raises(DataError) as error:
        source.open(split)
    return str(error.value)


def test_a_corrupt_line_is_named_or_counted(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"\n{"text": "c"}\n')
    assert f"{path}:2" in complaint(Jsonl(str(path)))
    skipping = Jsonl(str(path), heldout_fraction=0.0, on_error="skip")
    assert len(skipping.open("train")) == 2
    assert "1 unreadable line" in caplog.text
    path.write_text("[1]\n")
    assert "object" in complaint(Jsonl(str(path)))


def test_empty_files_are_named(tmp_path):
    for name, source in (("a.txt", TextFiles), ("b.jsonl", Jsonl)):
        path = tmp_path / name
        path.write_text("")
        message = complaint(source(str(path)))
        assert str(path) in message and "empty" in message


def test_invalid_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("fine\ncafé\n".encode("latin-1"))
    (tmp_path / "fine.txt").write_text("fine")
    (tmp_path / "other.txt").write_text("fine too")
    message = complaint(TextFiles(str(tmp_path), heldout_fraction=0.0))
    assert f"{path}:2" in message and "0xe9" in message and "iconv" in message
    skipping = TextFiles(str(tmp_path), heldout_fraction=0.0, on_error="skip")
    assert len(skipping.open("train")) == 2


@pytest.mark.parametrize("kind", [TextFiles, Jsonl, Parquet, ArrayRecord])
def test_paths_that_match_nothing_are_named(kind, tmp_path):
    for pattern in (tmp_path / "missing", tmp_path / "*.nothing", tmp_path):
        assert str(pattern) in complaint(kind(str(pattern)))


def test_a_single_file_has_nothing_to_hold_out(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert len(TextFiles(str(tmp_path)).open("train")) == 1
    assert "only one" in complaint(TextFiles(str(tmp_path)), "heldout")


def test_half_a_parquet_file_and_a_missing_column_are_named(tmp_path):
    source = write_parquet(tmp_path)
    with pytest.raises(DataError, match="missing_column"):
        Parquet(source.pattern, columns=("missing_column",)).open("train")
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:500])
    assert str(path) in complaint(source)


def test_a_missing_key_field_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    message = complaint(Jsonl(str(path), key_field="id"))
    assert f"{path}:1" in message and "'id'" in message and "text" in message
