"""The same records in every format, by libraries that only write."""

import gzip
import io
import json
import tarfile

import zstandard

from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.data.web_dataset import WebDataset

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


def write_hugging_face(folder):
    """As `Dataset.save_to_disk` leaves it."""
    import pyarrow

    table = pyarrow.Table.from_pylist(RECORDS)
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table.slice(0, 90), table.slice(90)), strict=True):
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(part, max_chunksize=40)
    state = {"_data_files": [{"filename": name} for name in names], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    return HuggingFaceDataset(str(folder), key_field="id", heldout_fraction=0.1)


def write_gzip(folder):
    source = write_jsonl(folder)
    for file in folder.glob("*.jsonl"):
        # Two members, as `cat a.gz b.gz` makes them.
        half = file.stat().st_size // 2
        data = file.read_bytes()
        zipped = gzip.compress(data[:half]) + gzip.compress(data[half:])
        file.with_suffix(".jsonl.gz").write_bytes(zipped)
        file.unlink()
    return source


def write_zstandard(folder):
    source = write_jsonl(folder)
    for file in folder.glob("*.jsonl"):
        data = file.read_bytes()
        frames = [zstandard.compress(data[:777]), zstandard.compress(data[777:])]
        file.with_suffix(".jsonl.zst").write_bytes(b"".join(frames))
        file.unlink()
    return source


def write_webdataset(folder):
    for name, records in (("a.tar", RECORDS[:120]), ("b.tar.gz", RECORDS[120:])):
        mode = "w:gz" if name.endswith("gz") else "w"
        with tarfile.open(folder / name, mode) as archive:
            for record in records:
                for ending, text in (("txt", record["text"]), ("json", json.dumps(record))):
                    member = tarfile.TarInfo(f"part/{record['id']}.{ending}")
                    member.size = len(text.encode())
                    archive.addfile(member, io.BytesIO(text.encode()))
    return WebDataset(str(folder), heldout_fraction=0.1)


KEYED = (
    write_jsonl, write_gzip, write_zstandard, write_parquet, write_array_record, write_hugging_face
)  # fmt: skip
