"""Loading images with captions: jaxgen beside plain Grain with Pillow, by time of one core.

    python tools/bench/media_loading.py [--records 4000] [--size 64] [--batch_size 64]

Both read the same WebDataset tar of PNG files, decode and resize them, turn captions into bytes and
give shuffled batches. jaxgen decodes stored images once, when they are first read; so its first
epoch, which has all of that, is compared with an epoch of Grain, and further epochs are told apart.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.features import Text
from jaxgen.data.generated import Sprites
from jaxgen.data.image_files import encode_png
from jaxgen.data.media_files import DecodeMedia
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.data.web_dataset import WebDataset

LENGTH = 72
STORED = 2
"""Stored images are so many times as high and wide as those of a batch."""


def write_tar(path: Path, count: int, size: int) -> None:
    """Writes noisy sprites with their captions as a WebDataset."""
    random = np.random.default_rng(0)
    records = Sprites(size=16).records_by_index("train").__getitems__(range(count))
    with tarfile.open(path, "w") as tar:
        for number, record in enumerate(records):
            picture = Image.fromarray(record["image"]).resize((STORED * size, STORED * size))
            pixels = np.asarray(picture, np.int16)
            noisy = pixels + random.integers(-8, 9, pixels.shape)
            files = {
                "png": encode_png(np.clip(noisy, 0, 255).astype(np.uint8)),
                "txt": record["caption"].encode(),
            }
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{number:06}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def jaxgen_batches(tar: Path, size: int, batch_size: int) -> Iterator[Any]:
    """Pairs as a contrastive run reads them."""
    decode = DecodeMedia(images={"image": "png"}, height=size, width=size)
    task = Task("photos", WebDataset(str(tar), heldout_fraction=0.001), Text("txt"),
                preprocessors=(decode,))  # fmt: skip
    pairs = ImageTextPairs(task, image_size=size, text="txt")
    opened = pairs.open(batch_size=batch_size, length=LENGTH, seed=0)
    return opened.iterate()


class Members:
    """The examples of a tar by number, decoded by Pillow."""

    def __init__(self, tar: Path, size: int):
        self._tar = tarfile.open(tar)  # noqa: SIM115 - read as long as the source is
        self._size, self._codec = size, ByteCodec()
        members = self._tar.getmembers()
        self._pairs = list(zip(members[::2], members[1::2], strict=True))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        png, txt = (self._tar.extractfile(one).read() for one in self._pairs[index])  # pyright: ignore
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        picture = picture.resize((self._size, self._size), Image.Resampling.BICUBIC)
        ids = self._codec.encode(txt.decode())[: LENGTH - 2]
        tokens = np.full(LENGTH, self._codec.pad_id, np.int32)
        tokens[: len(ids) + 2] = [self._codec.begin_id, *ids, self._codec.end_id]
        return {"images": np.asarray(picture), "tokens": tokens, "lengths": np.int32(len(ids) + 2)}


def grain_batches(tar: Path, size: int, batch_size: int) -> Iterator[Any]:
    """Plain Grain: shuffle, decode, batch."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    examples = grain.MapDataset.source(Members(tar, size)).seed(0).shuffle().repeat()
    return iter(examples.to_iter_dataset(options).batch(batch_size))


def main() -> None:
    """Prints examples a second of one core."""
    parser = argparse.ArgumentParser(description="Loading images with captions.")
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=64)
    arguments = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    steps = arguments.records // arguments.batch_size
    candidates: dict[str, Callable[[Path, int, int], Iterator[Any]]] = {
        "jaxgen": jaxgen_batches,
        "plain Grain, Pillow": grain_batches,
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "photos.tar"
        write_tar(tar, arguments.records, arguments.size)
        for _ in range(3):
            for name, make in candidates.items():
                begun = time.process_time()
                batches = make(tar, arguments.size, arguments.batch_size)
                for _ in range(steps):
                    next(batches)
                first = time.process_time()
                for _ in range(steps):
                    next(batches)
                seconds[name].append((first - begun, time.process_time() - first))
    title = f"{arguments.size} x {arguments.size} of {STORED * arguments.size} squared PNG"
    table = Table(title=title, title_justify="left")
    for heading in ("", "examples/s of a core", "time / plain Grain", "second epoch"):
        table.add_column(heading, justify="left" if not heading else "right")
    middle = {name: sorted(found)[1] for name, found in seconds.items()}
    for name, (first, later) in middle.items():
        ratio = first / middle["plain Grain, Pillow"][0]
        counts = (f"{steps * arguments.batch_size / one:,.0f}" for one in (first, later))
        table.add_row(name, next(counts), f"{ratio:.2f}", next(counts))
    Console().print(table)


if __name__ == "__main__":
    main()
