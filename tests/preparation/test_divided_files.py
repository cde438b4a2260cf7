"""Files that several workers share: each record is read once, wherever the file is divided."""

import itertools
import json
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from support.data_writers import write_array_record

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.sources import Skipped
from jaxgen.data.tables import Parquet
from jaxgen.data.text_files import Jsonl
from jaxgen.data.token_files import read_token_file
from jaxgen.preparation import items
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.items import Item, make_items
from jaxgen.preparation.prepare import prepare

LINES = st.lists(st.sampled_from(["", "  ", '{"text": "a"}', '{"text": "ärger"}', "[1", "x" * 30]))


def read_parts(source, file, at_most):
    skipped = Skipped()
    extents = source.extents(file, at_most)
    return [list(source.read_part(file, extent, skipped)) for extent in extents], skipped


@settings(max_examples=60, deadline=None)
@given(
    lines=LINES, at_most=st.integers(1, 40), ends=st.booleans(), bom=st.booleans(),
    longest=st.sampled_from([8, 20, 100]),
)  # fmt: skip
def test_lines_are_read_once_wherever_the_bytes_are_divided(
    lines, at_most, ends, bom, longest, tmp_path_factory
):
    file = tmp_path_factory.getbasetemp() / "lines.jsonl"
    text = "\n".join(lines) + "\n" * ends
    file.write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    source = Jsonl(str(file), on_error="skip", max_line_bytes=longest)
    found, skipped = read_parts(source, str(file), at_most)
    whole = Skipped()
    assert list(itertools.chain(*found)) == [
        r for _, r in source._placed(str(file), source.entries(str(file)), whole)
    ]
    assert skipped.counts == whole.counts


def test_compressed_files_are_not_divided(tmp_path):
    assert Jsonl("x").extents("a.jsonl.gz", 1) == Jsonl("x").extents("a.jsonl.zst", 1) == ()


@pytest.mark.parametrize("at_most", [1, 2000, 10**9])
def test_row_groups_are_divided(at_most, tmp_path):
    table = pa.table({"text": [f"text {i}" * (i % 9) for i in range(500)]})
    file = str(tmp_path / "a.parquet")
    parquet.write_table(table, file, row_group_size=37)
    found, _ = read_parts(Parquet(file), file, at_most)
    assert list(itertools.chain(*found)) == table.to_pylist()
    assert len(found) == {1: 14, 10**9: 1}.get(at_most, len(found))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 cut off")
    assert Parquet(file).extents(str(tmp_path / "b.parquet"), 1) == ()


@pytest.mark.parametrize("at_most", [1, 3000, 10**9])
def test_array_records_are_divided(at_most, tmp_path):
    source = write_array_record(tmp_path)
    (file,) = source.files()
    found, _ = read_parts(source, file, at_most)
    assert list(itertools.chain(*found)) == list(source.read_file(file))
    assert len(found) > 1 or at_most == 10**9
    (tmp_path / "b.array_record").write_bytes(b"cut off")
    assert source.extents(str(tmp_path / "b.array_record"), 1) == ()


def write(folder):
    rng, texts = random.Random(0), []
    for number in range(300):
        text = " ".join(f"w{rng.randrange(500)}" for _ in range(rng.randrange(5, 80)))
        texts.append(texts[rng.randrange(number)] + " more" if number % 10 == 9 else text)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "b.jsonl").write_text(lines)
    for name in "ac":
        (folder / f"{name}.jsonl").write_text(f'{{"text": "alone in the file {name}"}}\n')


def documents(folder, manifest):
    codec, found = ByteCodec(), {}
    for split, files in manifest["splits"].items():
        found[split] = []
        for file in files:
            shard = read_token_file(folder, file["name"])
            found[split] += [
                codec.decode(shard.tokens[start:stop])
                for start, stop in zip(shard.offsets, shard.offsets[1:], strict=False)
            ]
    return found


def test_a_corpus_does_not_depend_on_how_its_files_are_divided(tmp_path, monkeypatch):
    monkeypatch.setattr(items, "SMALLEST_PART", 1000)
    monkeypatch.setattr(
        "jaxgen.preparation.prepare.map_items",
        lambda function, jobs, *rest: enumerate(map(function, jobs)),
    )
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    made = {}
    for size in (10**9, 2**13, 1):
        preparation = Preparation(
            (Jsonl(str(tmp_path / "in")),), near_duplicates=NearDuplicates(), item_bytes=size,
            heldout_fraction=0.2,
        )  # fmt: skip
        output = tmp_path / str(size)
        manifest = prepare(preparation, output, workers=1).manifest
        made[size] = documents(output, manifest), manifest["stages"], manifest["inputs"]
        assert len(manifest["splits"]["train"]) == len(make_items(preparation))
    assert made[1] == made[2**13] == made[10**9]
    assert len(list((tmp_path / "1").glob("train-*.tokens"))) > 20
    near = made[1][1][4]
    assert near["in"] - near["out"] > 10 and sum(map(len, made[1][0].values())) == near["out"]


def test_groups_and_parts_come_in_the_order_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(items, "SMALLEST_PART", 10)
    for name, size in (("a", 30), ("b", 30), ("c", 250), ("d", 40)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"x" * size)
    made = make_items(Preparation((Jsonl(str(tmp_path)),), item_bytes=100))
    assert [one.number for one in made] == [0, 1, 2, 3, 4]
    names = ["".join(file[-7] for file in one.files) for one in made]
    assert names == ["ab", "c", "c", "c", "d"]
    assert [one.extent and one.extent.start for one in made] == [None, 0, 100, 200, None]
    assert [len(one.digested) for one in made] == [2, 1, 0, 0, 1]
    assert made[0] == Item(0, 0, made[0].files)
