"""Records in, records out, held-out ones apart; and what each bad input says."""

import dataclasses
import gzip
import io
import json
import os
import random
import tarfile
import tracemalloc

import pytest
import zstandard
from support.data_writers import (
    KEYED,
    RECORDS,
    write_array_record,
    write_gzip,
    write_hugging_face,
    write_jsonl,
    write_parquet,
    write_text,
    write_webdataset,
    write_zstandard,
)

from jaxgen.data.embedded import LICENCE_WORDS, StandardLibraryCode, StandardLibraryProse
from jaxgen.data.sources import InMemory, Skipped
from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.data.web_dataset import WebDataset
from jaxgen.errors import DataError


@pytest.mark.parametrize("write", [*KEYED, write_text])
def test_every_record_is_in_one_split(write, tmp_path):
    source = write(tmp_path)
    texts = [[r["text"] for r in source.read(split)] for split in ("train", "heldout")]
    assert sorted(texts[0] + texts[1]) == sorted(record["text"] for record in RECORDS)
    assert 5 <= len(texts[1]) <= 40
    assert [record["text"] for record in source.read("train")] == texts[0]
    everything = [r["text"] for file in source.files() for r in source.read_file(file)]
    assert sorted(everything) == sorted(texts[0] + texts[1])


def test_keys_decide_the_same_split_in_every_format(tmp_path):
    heldout = []
    for write in (*KEYED,):
        folder = tmp_path / write.__name__
        folder.mkdir()
        heldout.append(sorted(record["id"] for record in write(folder).read("heldout")))
    in_memory = InMemory(tuple(RECORDS), heldout_fraction=0.1).read("heldout")
    assert all(ids == heldout[0] for ids in heldout)
    assert 5 <= len(list(in_memory)) <= 40


def test_adding_a_file_moves_no_other(tmp_path):
    source = write_text(tmp_path)
    before = {record["path"] for record in source.read("heldout")}
    (tmp_path / "new.txt").write_text("new")
    assert before <= {record["path"] for record in source.read("heldout")}


def test_of_two_files_one_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    source = TextFiles(str(tmp_path))
    assert len(list(source.read("train"))) == len(list(source.read("heldout"))) == 1


@pytest.mark.parametrize("source", [StandardLibraryCode(), StandardLibraryProse()])
def test_the_standard_library_is_split_by_file_and_no_licence_is_held_out(source):
    train, heldout = list(source.read("train")), list(source.read("heldout"))
    assert len(train) > 200 and len(heldout) > 5
    assert sum(len(record["text"]) for record in train) > 1_000_000
    paths = [{record["path"] for record in records} for records in (train, heldout)]
    assert not paths[0] & paths[1]
    if isinstance(source, StandardLibraryCode):
        for record in heldout:
            assert not any(word in record["text"].lower() for word in LICENCE_WORDS)


def test_a_held_out_files_docstrings_are_not_trained_on_as_code():
    trained = {record["path"] for record in StandardLibraryCode().read("train")}
    heldout = {record["path"] for record in StandardLibraryProse().read("heldout")}
    assert not trained & heldout


def complaint(source, split="train"):
    with pytest.raises(DataError) as error:
        list(source.read(split))
    return str(error.value)


def test_a_corrupt_line_is_named_or_counted(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"\n{"text": "c"}\n')
    assert f"{path}:2" in complaint(Jsonl(str(path)))
    skipping = Jsonl(str(path), heldout_fraction=0.0, on_error="skip")
    skipped = Skipped()
    assert len(list(skipping.read("train", skipped))) == 2
    assert f"{path}: 1 skipped" in caplog.text and skipped.of(str(path)) == 1
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
    assert len(list(skipping.read("train"))) == 2


@pytest.mark.parametrize("kind", [TextFiles, Jsonl, Parquet, ArrayRecord])
def test_paths_that_match_nothing_are_named(kind, tmp_path):
    for pattern in (tmp_path / "missing", tmp_path / "*.nothing", tmp_path):
        assert str(pattern) in complaint(kind(str(pattern)))


def test_a_single_file_has_nothing_to_hold_out(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert len(list(TextFiles(str(tmp_path)).read("train"))) == 1
    assert "only one" in complaint(TextFiles(str(tmp_path)), "heldout")


def test_half_a_parquet_file_and_a_missing_column_are_named(tmp_path):
    source = write_parquet(tmp_path)
    with pytest.raises(DataError, match="missing_column"):
        list(Parquet(source.pattern, columns=("missing_column",)).read("train"))
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:500])
    assert str(path) in complaint(source)


def test_a_missing_key_field_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n')
    message = complaint(Jsonl(str(path), key_field="id"))
    assert f"{path}:1" in message and "'id'" in message and "text" in message


def test_samples_of_an_archive_are_its_members_by_name(tmp_path):
    source = write_webdataset(tmp_path)
    found = [*source.read("train"), *source.read("heldout")]
    assert len(found) == 200 and len({record["__key__"] for record in found}) == 200
    for record in found:
        assert record["json"]["text"] == record["txt"]
        assert record["__key__"] == f"part/{record['json']['id']}"


def test_a_datasets_part_and_columns(tmp_path):
    (tmp_path / "train").mkdir()
    write_hugging_face(tmp_path / "train")
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    source = HuggingFaceDataset(str(tmp_path), part="train", columns=("id",), heldout_fraction=0.0)
    assert next(source.read("train")) == {"id": "0"}
    assert "['train', 'test']" in complaint(HuggingFaceDataset(str(tmp_path)))
    assert "leave out hf_dataset.part" in complaint(
        HuggingFaceDataset(str(tmp_path / "train"), part="train")
    )
    assert "no column ['nothing']" in complaint(
        HuggingFaceDataset(str(tmp_path), part="train", columns=("nothing",))
    )
    (tmp_path / "other").mkdir()
    assert "state.json" in complaint(HuggingFaceDataset(str(tmp_path / "other")))


def cut_in_half(folder):
    file = max(folder.glob("*.*"), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


@pytest.mark.parametrize(
    "write",
    [write_gzip, write_zstandard, write_parquet, write_array_record, write_hugging_face,
     write_webdataset],
)  # fmt: skip
def test_half_a_file_is_named_or_counted_and_stays_as_it_is(write, tmp_path):
    source = write(tmp_path)
    file = cut_in_half(tmp_path)
    before = file.read_bytes()
    message = complaint(source)
    assert str(file) in message and "cut off" in message and "Fetch it again" in message
    skipped = Skipped()
    skipping = dataclasses.replace(source, heldout_fraction=0.0, on_error="skip")
    try:
        rest = len(list(skipping.read("train", skipped)))
    except DataError as error:  # Nothing of a single file could be read.
        assert "no record" in str(error)
        rest = 0
    assert rest < 200 and skipped.of(str(file)) == 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
def test_an_archive_cut_anywhere_is_named(ending, tmp_path):
    """Capitals of members' endings do not matter."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for number, kind in enumerate(("txt", "TXT", "Txt")):
            member = tarfile.TarInfo(f"{number}.{kind}")
            member.size = 700
            archive.addfile(member, io.BytesIO(bytes(random.Random(number).choices(b"abc", k=700))))
    squeeze = {".tar": bytes, ".tar.gz": gzip.compress, ".tar.zst": zstandard.compress}[ending]
    whole = squeeze(plain.getvalue())
    path = tmp_path / f"a{ending}"
    source = WebDataset(str(path), heldout_fraction=0.0)
    path.write_bytes(whole)
    assert [len(record["txt"]) for record in source.read("train")] == [700] * 3
    # The blocks of zeros at the end of an archive are more than its readers ask for.
    needed = len(plain.getvalue().rstrip(b"\0")) if ending == ".tar" else len(whole) - 12
    for length in range(1, needed, 7):
        path.write_bytes(whole[:length])
        assert "cut off or damaged" in complaint(source)


def test_a_line_of_ten_megabytes_is_read_and_one_too_long_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    long = "x" * 10_000_000
    lines = [{"text": "first"}, {"text": long}, {"text": "last"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Jsonl(str(path), heldout_fraction=0.0)
    assert [len(record["text"]) for record in source.read("train")] == [5, 10_000_000, 4]
    short = dataclasses.replace(source, max_line_bytes=1_000_000)
    assert f"{path}:2: the line is longer than 1000000 bytes" in complaint(short)
    skipping = dataclasses.replace(short, on_error="skip")
    assert [record["text"] for record in skipping.read("train")] == ["first", "last"]


def test_encodings_are_told_apart(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = '{"text": "café"}\n'
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode() * 2)
    assert [r["text"] for r in Jsonl(str(path), heldout_fraction=0.0).read("train")] == ["café"] * 2
    path.write_bytes(lines.encode() + lines.encode("latin-1") + lines.encode())
    assert f"{path}:2: not UTF-8 (byte 0xe9)" in complaint(Jsonl(str(path)))
    (tmp_path / "b.txt").write_bytes("text".encode("utf-16"))
    assert "it is UTF-16" in complaint(TextFiles(str(tmp_path / "b.txt")))


def test_an_empty_shard_among_others_is_named_or_counted(tmp_path):
    source = write_jsonl(tmp_path)
    (tmp_path / "aa.jsonl").write_text("")
    assert "aa.jsonl is empty" in complaint(source)
    skipping = dataclasses.replace(source, heldout_fraction=0.0, on_error="skip")
    assert len(list(skipping.read("train"))) == 200


def test_streams_keep_nothing_in_memory(tmp_path):
    """30 MB of records pass through a few hundred kilobytes."""
    path = tmp_path / "a.jsonl.zst"
    rng = random.Random(0)
    lines = (json.dumps({"text": rng.randbytes(500).hex()}) + "\n" for _ in range(30_000))
    with open(path, "wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for line in lines:
            writer.write(line.encode())
    tracemalloc.start()
    count = sum(1 for _ in Jsonl(str(path), heldout_fraction=0.0).read("train"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000 and peak < 6_000_000 < os.path.getsize(path)
