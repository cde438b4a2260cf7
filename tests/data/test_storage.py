"""Object stores: real servers of S3 and of GCS here, and stores that fail now and then."""

import dataclasses
import io
import json
import os
import sys
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.data_writers import write_array_record, write_parquet, write_webdataset
from support.stores import standing_before

from jaxgen.data.sources import Skipped
from jaxgen.data.storage import matching_files, open_binary, size_of, stamp_of
from jaxgen.data.tables import ArrayRecord, Parquet
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.data.web_dataset import WebDataset
from jaxgen.errors import DataError

RECORDS = [{"text": f"document {i} " * 20, "id": str(i)} for i in range(300)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_READ_PAUSE", "0.01")
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))


def put(folder, name, store="s3"):
    """Copies a file of this machine to the bucket."""
    fsspec.filesystem(store).put_file(str(folder / name), f"corpus/{folder.name}/{name}")


def test_every_format_is_read_from_a_store_as_from_this_machine(store, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    import zstandard

    (folder / "a.jsonl").write_bytes(LINES)
    (folder / "b.jsonl.zst").write_bytes(zstandard.compress(LINES[: LINES.index(b"\n") + 1]))
    for name in ("one.txt", "two.txt", "three.txt"):
        (folder / name).write_text(f"text of {name}")
    for write in (write_parquet, write_array_record, write_webdataset):
        write(folder)
    for file in folder.iterdir():
        if file.is_file():
            put(folder, file.name, store)
    for kind in (Jsonl, Parquet, ArrayRecord, WebDataset, TextFiles):
        paths = str(folder), f"{store}://corpus/{folder.name}"
        here, there = (kind(path, heldout_fraction=0.1) for path in paths)
        assert [os.path.basename(file) for file in there.files()] == [
            os.path.basename(file) for file in here.files()
        ]
        for split in ("train", "heldout"):
            local = [record | {"path": ""} for record in here.read(split)]
            assert [record | {"path": ""} for record in there.read(split)] == local
        assert there.content_digest() == dataclasses.replace(there).content_digest()
    pattern = f"{store}://corpus/{folder.name}/t*.txt"
    assert [name.rpartition("/")[2] for name in matching_files(pattern, ())[1]] == [
        "three.txt", "two.txt",
    ]  # fmt: skip
    file = f"{store}://corpus/{folder.name}/a.jsonl"
    assert size_of(file) == len(LINES)
    before = stamp_of(file)
    (folder / "a.jsonl").write_bytes(LINES + LINES)
    put(folder, "a.jsonl", store)
    fsspec.filesystem(store).invalidate_cache()
    assert stamp_of(file) != before


def test_missing_objects_are_named(store):
    for name in ("corpus/nothing", "corpus/no*.jsonl", "nobucket/a.jsonl"):
        path = f"{store}://{name}"
        with pytest.raises(DataError) as error:
            list(Jsonl(path).read("train"))
        assert path in str(error.value)
    with pytest.raises(DataError, match=r"corpus/missing\.txt cannot be read: there is no such"):
        open_binary(f"{store}://corpus/missing.txt").read()


def test_a_part_of_a_large_object_is_read_by_itself(store, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(LINES)
    put(folder, "a.jsonl", store)
    source = Jsonl(f"{store}://corpus/{folder.name}/a.jsonl", heldout_fraction=0.0)
    (file,) = source.files()
    extents = source.extents(file, len(LINES) // 3)
    parts = [list(source.read_part(file, extent, Skipped())) for extent in extents]
    assert len(extents) == 3 and sum(map(len, parts)) == len(RECORDS)
    assert parts[1] == RECORDS[len(parts[0]) :][: len(parts[1])]


def test_without_credentials_it_says_so_at_once(s3, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("JAXGEN_READ_PAUSE", "1000")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(DataError, match=r"s3://corpus/a\.txt cannot.*\$AWS_ACCESS_KEY_ID"):
            open_binary("s3://corpus/a.txt")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_connections_that_are_cut_off_are_made_again(s3, monkeypatch, tmp_path):
    import s3fs

    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(LINES * 50)
    put(folder, "a.jsonl")
    host, port = s3.get_host_and_port()
    with standing_before(host, port) as cutter:
        cutter.cuts_left, cutter.cut_after = 8, 400_000
        monkeypatch.setenv("AWS_ENDPOINT_URL", cutter.url)
        s3fs.S3FileSystem.clear_instance_cache()
        path = f"s3://corpus/{folder.name}/a.jsonl"
        try:
            source = Jsonl(path, heldout_fraction=0.0)
            assert list(source.read("train")) == RECORDS * 50
            assert cutter.cuts_left == 0
            cutter.cuts_left = 10**6
            monkeypatch.setenv("JAXGEN_READ_ATTEMPTS", "2")
            with pytest.raises(DataError, match=r"cut/a\.jsonl cannot be read: .*tried 2 times"):
                list(source.read("train"))
        finally:
            s3fs.S3FileSystem.clear_instance_cache()


class Failures:
    """How often reads of the store will fail or come short, and how often files were opened."""

    def __init__(self):
        self.left = self.opened = 0


@pytest.fixture
def failures(monkeypatch):
    """A store at memory:// whose reads fail as told."""
    found, plain = Failures(), MemoryFileSystem._open

    class Flaky(io.BytesIO):
        def read(self, size=-1):
            if found.left == 0:
                return super().read(size)
            found.left -= 1
            if found.left % 2:
                return super().read(10)
            raise ConnectionResetError("connection reset by peer")

    def flaky_open(self, path, mode="rb", **options):
        file: Any = plain(self, path, mode, **options)
        if mode != "rb":
            return file
        found.opened += 1
        return Flaky(file.getvalue())

    fsspec.filesystem("memory").pipe_file("/corpus/a.jsonl", LINES)
    monkeypatch.setattr(MemoryFileSystem, "_open", flaky_open)
    return found


def test_reads_that_fail_are_tried_again(failures):
    failures.left = 4
    source = Jsonl("memory://corpus/a.jsonl", heldout_fraction=0.0)
    assert list(source.read("train")) == RECORDS
    assert failures.opened == 5


def test_reads_that_always_fail_end_with_the_path_and_the_reason(failures, monkeypatch):
    monkeypatch.setenv("JAXGEN_READ_ATTEMPTS", "3")
    failures.left = 10**6
    with pytest.raises(DataError) as error:
        list(Jsonl("memory://corpus/a.jsonl").read("train"))
    for words in ("memory:///corpus/a.jsonl", "tried 3 times", "JAXGEN_READ_ATTEMPTS"):
        assert words in str(error.value)
    assert failures.opened == 3


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for name in ("gs", "gcs"):  # What was found before is remembered.
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    with pytest.raises(DataError, match=r"gs://bucket/a needs a library.*jaxgen\[gcs\]"):
        open_binary("gs://bucket/a")


def test_a_dataset_that_the_library_saved_is_read_as_it_reads_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    from jaxgen.data.tables import HuggingFaceDataset

    made = datasets.Dataset.from_list(RECORDS)
    datasets.DatasetDict({"train": made}).save_to_disk(
        str(tmp_path / "set"), num_shards={"train": 3}
    )
    source = HuggingFaceDataset(str(tmp_path / "set"), part="train", heldout_fraction=0.0)
    assert list(source.read("train")) == list(
        datasets.load_from_disk(str(tmp_path / "set"))["train"]
    )
    shuffled = made.shuffle(seed=0)
    shuffled.flatten_indices().save_to_disk(str(tmp_path / "shuffled"))
    source = HuggingFaceDataset(str(tmp_path / "shuffled"), heldout_fraction=0.0)
    assert list(source.read("train")) == list(shuffled)
