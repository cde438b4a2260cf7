"""Media in every format that a data set comes in, and files of every kind of fault."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.data.sound_files import encode_wav
from jaxgen.data.sources import FileSource
from jaxgen.data.tables import HuggingFaceDataset, Parquet
from jaxgen.data.text_files import Jsonl
from jaxgen.data.web_dataset import WebDataset

RATE = 8000
Sample = dict[str, Any]
"""key, png (bytes), wav (bytes) and caption; a field that is None is missing."""


def picture(colour=(200, 30, 40), size=(8, 6), mode="RGB") -> Image.Image:
    return Image.new("RGB", size, colour).convert(mode)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size: int = 24) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    )


def tone(rate: int = RATE, seconds: float = 0.1, channels: int = 1) -> bytes:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return encode_wav(wave if channels == 1 else np.tile(wave[:, None], channels), rate)


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes whose header says how many pixels follow."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(10_000))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def a_sample(key: str = "a", **fields: Any) -> Sample:
    whole = {"png": file_of(picture()), "wav": tone(), "caption": f"picture {key}"}
    return {"key": key, **whole, **fields}


def write_media_webdataset(folder: Path, samples: list[Sample]) -> FileSource:
    with tarfile.open(folder / "a.tar", "w") as archive:
        for sample in samples:
            for ending in ("png", "wav", "caption"):
                value = sample[ending]
                if value is not None:
                    data = value.encode() if isinstance(value, str) else value
                    member = tarfile.TarInfo(f"{sample['key']}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return WebDataset(str(folder), heldout_fraction=0.0)


def write_media_jsonl(folder: Path, samples: list[Sample]) -> FileSource:
    """A table beside a folder `files`, as it is unpacked from most archives."""
    (folder / "files").mkdir(exist_ok=True)
    with open(folder / "a.jsonl", "w") as table:
        for sample in samples:
            line = {"key": sample["key"], "caption": sample["caption"]}
            for ending in ("png", "wav"):
                if sample[ending] is not None:
                    line[ending] = f"files/{sample['key']}.{ending}"
                    (folder / line[ending]).write_bytes(sample[ending])
            table.write(json.dumps({k: v for k, v in line.items() if v is not None}) + "\n")
    return Jsonl(str(folder), key_field="key", heldout_fraction=0.0)


def write_media_parquet(folder: Path, samples: list[Sample]) -> FileSource:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(samples), folder / "a.parquet")
    return Parquet(str(folder), key_field="key", heldout_fraction=0.0)


def write_media_hugging_face(folder: Path, samples: list[Sample]) -> FileSource:
    """As `Dataset.save_to_disk` leaves columns of the features Image and Audio."""
    import pyarrow

    rows = [
        {
            name: {"bytes": value, "path": f"{sample['key']}.{name}"}
            if name in ("png", "wav") and value is not None
            else value
            for name, value in sample.items()
        }
        for sample in samples
    ]
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(str(folder / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    return HuggingFaceDataset(str(folder), key_field="key", heldout_fraction=0.0)


MEDIA_WRITERS = {
    "webdataset": write_media_webdataset,
    "jsonl": write_media_jsonl,
    "parquet": write_media_parquet,
    "hugging_face": write_media_hugging_face,
}
