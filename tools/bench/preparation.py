"""Preparation of a corpus of real text, stage by stage, and tokenisation beside the library alone.

python tools/bench/preparation.py [--megabytes 1000] [--workers 2] [--vocab_size 8192]

The text is that of this machine's Python packages and documentation; files are taken several times,
each time with other words changed, until the size is reached, and every twentieth is a copy.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from jaxgen.codecs.training import train_tokenizer
from jaxgen.data.sources import InMemory
from jaxgen.data.text_files import Jsonl
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import Decontaminate
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.filters import Characters, Repetition
from jaxgen.preparation.prepare import prepare
from jaxgen.preparation.scrubbing import Scrub

ENDINGS = (".py", ".pyi", ".rst", ".txt", ".md", ".h", ".html", ".js", ".c")
WORD = re.compile(r"[a-z]{6,}")


def real_texts() -> list[str]:
    """Files of 1 kB to 200 kB below Python's libraries."""
    root = Path(sysconfig.get_paths()["stdlib"])
    folders = [root, Path(sysconfig.get_paths()["purelib"]), Path("/usr/share/doc")]
    texts = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in ENDINGS and path.is_file() and 1000 < path.stat().st_size < 200_000:
                texts.append(path.read_text(encoding="utf-8", errors="ignore"))
    return texts


def varied(texts: list[str], megabytes: float) -> Iterator[str]:
    """Texts up to a size: later rounds have a third of the long words changed."""
    size, turn = 0, 0
    while True:
        rng = random.Random(turn)
        for number, text in enumerate(texts):
            if turn and number % 20:
                text = _changed(text, rng)
            yield text
            size += len(text.encode())
            if size >= megabytes * 1e6:
                return
        turn += 1


def _changed(text: str, rng: random.Random) -> str:
    return WORD.sub(lambda m: m.group()[::-1] if rng.random() < 0.3 else m.group(), text)


def write(folder: Path, texts: Iterator[str]) -> None:
    """JSON lines in files of about 16 MB."""
    lines: list[str] = []
    held = number = 0
    for text in texts:
        lines.append(json.dumps({"text": text}) + "\n")
        held += len(lines[-1])
        if held > 16e6:
            (folder / f"{number:04}.jsonl").write_text("".join(lines))
            lines, held, number = [], 0, number + 1
    (folder / f"{number:04}.jsonl").write_text("".join(lines))


def main() -> None:
    """Builds the corpus, prepares it and prints both tables."""
    parser = argparse.ArgumentParser(description="Preparation of a corpus, stage by stage.")
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=8192)
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = real_texts()
        (folder / "raw").mkdir()
        write(folder / "raw", varied(texts, arguments.megabytes))
        codec = train_tokenizer(texts[:400], arguments.vocab_size, folder / "tokenizer.json")
        items = tuple({"text": text[2000:2600]} for text in texts[:200])
        preparation = Preparation(
            sources=(Jsonl(str(folder / "raw")),),
            codec=codec,
            filters=(Characters(200), Repetition()),
            scrub=Scrub(),
            near_duplicates=NearDuplicates(),
            decontaminate=Decontaminate(sources=(InMemory(items, 0.0),)),
        )
        made = prepare(preparation, folder / "out", workers=arguments.workers)
        for stage in made.manifest["stages"]:
            print(f"{stage['stage']:18} {stage['in']:>9,} -> {stage['out']:>9,} documents")
        table = Table(title=f"{made.seconds:.0f} s with {arguments.workers} workers")
        for heading in ("stage", "MB in", "seconds, all workers", "MB/s of a worker"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for one in made.times:
            speed = one.bytes_in / 1e6 / one.seconds if one.seconds else float("nan")
            table.add_row(
                one.name, f"{one.bytes_in / 1e6:,.0f}", f"{one.seconds:,.1f}", f"{speed:,.1f}"
            )
        console.print(table)
        _beside_the_library(console, folder, texts, codec, arguments)


def _beside_the_library(console: Console, folder: Path, texts: list[str], codec, arguments) -> None:
    """Preparation that only tokenises, beside `encode_batch_fast` on all cores, same text."""
    sample = list(varied(texts, min(arguments.megabytes, 100)))
    (folder / "sample").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in sample)
    parts = max(1, arguments.workers)
    for part in range(parts):
        some = lines.splitlines(keepends=True)[part::parts]
        (folder / "sample" / f"{part}.jsonl").write_text("".join(some))
    megabytes = sum(len(text.encode()) for text in sample) / 1e6
    only = Preparation(
        (Jsonl(str(folder / "sample")),), codec, exact_duplicates=False, item_bytes=1
    )
    tokenizer = Tokenizer.from_file(codec.path)
    table = Table(title=f"tokenising {megabytes:.0f} MB, {parts} cores")
    for heading in ("", "seconds", "MB/s"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    seconds: dict[str, list[float]] = {"tokenizers alone": [], "the stage of jaxgen prepare": []}
    for turn in range(3):
        started = time.perf_counter()
        for first in range(0, len(sample), 1000):
            tokenizer.encode_batch_fast(sample[first : first + 1000], add_special_tokens=False)
        seconds["tokenizers alone"].append(time.perf_counter() - started)
        made = prepare(only, folder / f"tokens{turn}", workers=parts)
        tokenising = next(one for one in made.times if one.name == "tokenise")
        seconds["the stage of jaxgen prepare"].append(tokenising.seconds / parts)
    for name, found in seconds.items():
        middle = sorted(found)[1]
        table.add_row(name, f"{middle:.1f}", f"{megabytes / middle:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
