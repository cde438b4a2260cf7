"""Every reader of files from outside, with a valid file for it and what a user does with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from jaxgen.cli import main
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.configuration import load_text
from jaxgen.data.chat import Chat
from jaxgen.data.installed import AsteriskSounds, Emoji, HandwrittenDigits
from jaxgen.data.media_files import DecodeMedia
from jaxgen.data.prepared import MANIFEST, PreparedCorpus
from jaxgen.data.protocols import Context
from jaxgen.data.text_files import Jsonl
from jaxgen.data.web_dataset import WebDataset
from jaxgen.errors import JaxgenError
from jaxgen.interchange.files import TensorFiles, find_revision
from jaxgen.interchange.importing import open_checkpoint
from jaxgen.interchange.tokenizers import read_codec
from jaxgen.laws import Table
from jaxgen.runs.data_record import check_data
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.analyses.samples import read_samples
from jaxgen.studies.preregistration import digest_of, outcomes
from jaxgen.studies.report import read_heading
from jaxgen.studies.scored_answers import emergence_rows
from jaxgen.studies.study_runs import read_runs, table_of
from jaxgen.studies.task_runs import read_csv, task_runs_of
from jaxgen.sweeps.leases import LeaseMonitor, read_attempts
from support import data_writers, installed_media, media_writers
from support.mutations import json_files, json_lines, mutated_bytes, mutated_json
from support.valid_files import (
    TALK,
    TEXTS,
    a_big_bench,
    a_checkpoint,
    a_config,
    a_corpus,
    a_pair,
    a_run,
    a_sentencepiece,
    a_study,
    a_table,
    a_template,
    a_tokenizer,
    a_torch_file,
    an_import,
    gin_of,
    tensors_of,
)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A file of a folder that others may have written, and how it is read.

    Attributes:
      file: its name in the folder.
      prepare: writes the folder with a valid file.
      read: reads the folder as a user would.
      draw: from the valid file's bytes, a strategy of damaged ones; bytes at random by default.
      examples: how many files of the fast tier.
    """

    file: str
    prepare: Callable[[Path], Any]
    read: Callable[[Path], Any]
    draw: Callable[[bytes], st.SearchStrategy[bytes]] = mutated_bytes
    examples: int = 30


def as_json(data: bytes) -> Any:
    return json_files(json.loads(data))


def as_lines(data: bytes) -> Any:
    return json_lines([json.loads(line) for line in data.splitlines()])


def command(*arguments: str) -> Callable[[Path], Any]:
    """Returns what runs a command, whose errors are printed, on a folder in place of FOLDER."""

    def read(folder: Path) -> None:
        filled = [argument.replace("FOLDER", str(folder)) for argument in arguments]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(filled)

    return read


def read_study(folder: Path) -> None:
    runs = read_runs(folder)
    with contextlib.suppress(JaxgenError):
        table_of(runs)
    with contextlib.suppress(JaxgenError):
        emergence_rows(runs)
    with contextlib.suppress(JaxgenError):
        read_samples(runs)
    task_runs_of("s", runs)


def resigned(data: bytes) -> Any:
    """Draws predictions whose digest is right."""
    value = json.loads(data)

    def sign(found: Any) -> bytes:
        if isinstance(found, dict):
            with contextlib.suppress(ValueError):
                found["digest"] = digest_of(found)
        return json.dumps(found).encode()

    return st.one_of(mutated_json(value).map(sign), json_files(value))


def read_leases(folder: Path) -> None:
    directory = RunDirectory(folder / "run-seed0")
    for attempt in read_attempts(directory):
        LeaseMonitor().is_alive(directory, attempt)


def read_corpus(folder: Path) -> None:
    corpus = PreparedCorpus(str(folder))
    corpus.content_digest()
    store = corpus.tokens("train", ByteCodec())
    for index in range(len(store.lengths)):
        store.example(index)
    corpus.check_digests()


def use_codec(codec: Any) -> None:
    assert codec.vocab_size > 0
    for text in TEXTS:
        ids = codec.encode(text)
        codec.decode(ids)
        codec.pieces(ids)
    codec.encode_batch(TEXTS)
    codec.encode_pieces([("<|end|>", True), ("words", False)])


def read_tensors(folder: Path) -> None:
    with TensorFiles(folder) as files:
        for name, shape in files.shapes.items():
            if np.prod(shape, dtype=float) < 1e6:
                files.fetch(name)(tuple(slice(0, size) for size in shape))


def source(write: Callable[[Path], Any]) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        for on_error in ("raise", "skip"):
            found = dataclasses.replace(_described(write, folder), on_error=on_error)
            for record in found.read("train"):
                assert isinstance(record, dict)
            for file in found.files():
                for extent in found.extents(file, 2**14):
                    list(found.entries_of(file, extent))

    return read


@functools.cache
def _described(write: Callable[[Path], Any], folder: Path) -> Any:
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    found = write(folder)
    for path in list(folder.iterdir()):
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    return found


def a_media_folder(**fields: Any) -> Callable[[Path], Any]:
    def prepare(folder: Path) -> None:
        samples = [media_writers.a_sample(**fields), media_writers.a_sample("b")]
        media_writers.write_media_jsonl(folder, samples)
        media_writers.write_media_webdataset(folder, samples)

    return prepare


def read_media(
    kind: type[Jsonl] | type[WebDataset], name: str, as_videos: bool = True
) -> Callable[[Path], None]:
    """Returns what decodes a folder's media, as pictures and as videos, skipping and not."""

    def read(folder: Path) -> None:
        error = None
        for images, videos in (({"image": "png"}, {}), ({}, {"video": "png"}))[: 1 + as_videos]:
            for on_error in ("skip", "raise"):
                step = DecodeMedia(
                    images, {"sound": "wav"}, videos, ("caption",), str(folder), 8, 8,
                    rate=media_writers.RATE, on_error=on_error, most_pixels=10_000,
                )  # fmt: skip
                source = kind(str(folder / name), heldout_fraction=0.0, on_error=on_error)
                try:
                    for record in step.apply(source.read("train"), Context(lambda: iter(()))):
                        assert record["sound"].dtype == np.float32 and "key" in record
                        assert (record["image"] if images else record["video"][0]).shape == (
                            8,
                            8,
                            3,
                        )
                except JaxgenError as found:
                    error = found
        if error is not None:
            raise error

    return read


def read_announcements(folder: Path) -> None:
    transcripts = str(folder / "core.txt.gz")
    source = AsteriskSounds(str(folder / "sounds"), transcripts, heldout_fraction=0.0)
    for record in source.read("train"):
        assert record["transcript"]


def read_template(name: str) -> Callable[[Path], Any]:
    return lambda folder: Chat(template=str(folder / name)).parts({"messages": TALK})


def read_import(folder: Path) -> None:
    codec = read_codec(open_checkpoint(folder), str(folder / "tokenizer.json"))
    use_codec(codec)


RUN = "run-seed0"
READERS: dict[str, Reader] = {
    "run.json": Reader(f"{RUN}/run.json", a_run, command("status", f"FOLDER/{RUN}"), as_json),
    "history.jsonl": Reader(
        f"{RUN}/history.jsonl", a_run, command("status", f"FOLDER/{RUN}"), as_lines
    ),
    "metrics.jsonl": Reader(
        f"{RUN}/metrics.jsonl", a_run, command("status", f"FOLDER/{RUN}"), as_lines
    ),
    "metrics.jsonl, listed": Reader(
        f"{RUN}/metrics.jsonl", a_run, command("runs", "FOLDER"), as_lines
    ),
    "metrics.jsonl, drawn": Reader(
        f"{RUN}/metrics.jsonl", a_run, command("watch", f"FOLDER/{RUN}", "--once"), as_lines, 10
    ),
    "attempts": Reader(f"{RUN}/attempts/0001.json", a_run, read_leases, as_json),
    "data.json": Reader(
        f"{RUN}/data.json", a_run,
        lambda folder: check_data(folder / RUN / "data.json", {}, False, True), as_json,
    ),
    "a study's run.json": Reader("a-seed0/run.json", a_study, read_study, as_json),
    "a study's rows": Reader("a-seed0/metrics.jsonl", a_study, read_study, as_lines, 15),
    "evals": Reader("a-seed0/evals/00000010.jsonl", a_study, read_study, as_lines),
    "samples.json": Reader("a-seed0/samples.json", a_study, read_study, as_json, 15),
    "predictions.json": Reader("predictions.json", a_study, outcomes, resigned),
    "study.json": Reader("study.json", a_study, read_heading, as_json),
    "backtest's csv": Reader("runs.csv", a_study, lambda folder: read_csv(folder / "runs.csv")),
    "laws' csv": Reader("runs.csv", a_table, lambda f: Table.read_csv(f / "runs.csv")),
    "config.gin": Reader(
        "config.gin", gin_of, lambda folder: load_text(_text(folder / "config.gin")), examples=10
    ),
    "manifest.json": Reader(MANIFEST, a_corpus, read_corpus, as_json),
    "token offsets": Reader("train-0.offsets", a_corpus, read_corpus),
    "tokens": Reader("train-0.tokens", a_corpus, read_corpus),
    "tokenizer.json": Reader(
        "tokenizer.json", a_tokenizer,
        lambda folder: use_codec(TokenizerCodec(str(folder / "tokenizer.json"))), as_json, 20,
    ),
    "SentencePiece": Reader(
        "tokenizer.model", a_sentencepiece,
        lambda folder: use_codec(SentencePieceCodec(str(folder / "tokenizer.model"))),
    ),
    "safetensors": Reader("one.safetensors", a_checkpoint, read_tensors),
    "index.json": Reader("model.safetensors.index.json", a_checkpoint, read_tensors, as_json),
    "quantised": Reader(
        "model.safetensors",
        tensors_of(a__weight=(4, 256), a__weight_scale=(4, 2), b_blocks=(1, 2, 1, 16),
                   b_scales=(1, 2, 1)), read_tensors,
    ),
    "tokenizer_config.json of an import": Reader(
        "tokenizer_config.json", an_import, read_import, as_json, 15
    ),
    "generation_config.json": Reader(
        "generation_config.json", an_import, read_import, as_json, 15
    ),
    "config.json of an import": Reader("config.json", an_import, read_import, as_json, 15),
    "tokenizer.json of an import": Reader("tokenizer.json", an_import, read_import, as_json, 15),
    "a revision": Reader("refs/main", a_checkpoint, lambda folder: find_revision(folder, None)),
    "pytorch_model.bin": Reader("pytorch_model.bin", a_torch_file, read_tensors, examples=60),
    **{
        f"config.json of {name}": Reader(
            "config.json", a_config(name), open_checkpoint, as_json, 12
        )
        for name in ("llama_tied_biases", "gemma3", "deepseek_v3", "t5", "gpt2", "qwen3_moe")
    },
    "config.json of clip": Reader("config.json", a_pair("clip"), open_checkpoint, as_json, 15),
    "config.json of siglip": Reader(
        "config.json", a_pair("siglip"), open_checkpoint, as_json, 15
    ),
    "preprocessor_config.json": Reader(
        "preprocessor_config.json", a_pair("clip"), open_checkpoint, as_json, 15
    ),
    "jsonl": Reader("a.jsonl", data_writers.write_jsonl, source(data_writers.write_jsonl)),
    "jsonl, records": Reader(
        "a.jsonl", data_writers.write_jsonl, source(data_writers.write_jsonl), as_lines
    ),
    "jsonl.gz": Reader("a.jsonl.gz", data_writers.write_gzip, source(data_writers.write_gzip)),
    "jsonl.zst": Reader(
        "a.jsonl.zst", data_writers.write_zstandard, source(data_writers.write_zstandard)
    ),
    "text": Reader("5.txt", data_writers.write_text, source(data_writers.write_text), examples=8),
    "parquet": Reader(
        "a.parquet", data_writers.write_parquet, source(data_writers.write_parquet)
    ),
    "array_record": Reader(
        "a.array_record", data_writers.write_array_record,
        source(data_writers.write_array_record),
    ),
    "arrow": Reader(
        "data-00000-of-00002.arrow", data_writers.write_hugging_face,
        source(data_writers.write_hugging_face),
    ),
    "state.json": Reader(
        "state.json", data_writers.write_hugging_face, source(data_writers.write_hugging_face),
        as_json,
    ),
    "tar": Reader("a.tar", data_writers.write_webdataset, source(data_writers.write_webdataset)),
    "tar.gz": Reader(
        "b.tar.gz", data_writers.write_webdataset, source(data_writers.write_webdataset)
    ),
    **{
        f"{kind} of a record": Reader(
            f"files/a.{ending}", a_media_folder(**fields),
            read_media(Jsonl, "a.jsonl", kind not in ("JPEG", "TIFF")),
        )
        for kind, ending, fields in (
            ("PNG", "png", {}),
            ("JPEG", "png", {"png": media_writers.file_of(media_writers.noise(), "JPEG")}),
            ("GIF", "png", {"png": media_writers.file_of(media_writers.noise(), "GIF")}),
            ("WebP", "png", {"png": media_writers.file_of(media_writers.noise(), "WEBP")}),
            ("TIFF", "png", {"png": media_writers.file_of(media_writers.noise(), "TIFF")}),
            ("WAV", "wav", {}),
        )
    },
    "paths to media": Reader(
        "a.jsonl", a_media_folder(), read_media(Jsonl, "a.jsonl"), as_lines
    ),
    "tar of media": Reader("a.tar", a_media_folder(), read_media(WebDataset, "a.tar")),
    "emoji's labels": Reader(
        "en/data.json", installed_media.write_labels,
        lambda folder: Emoji(str(folder)).entries_of("en"), as_json,
    ),
    "digits": Reader(
        "src/digits/3.json", lambda folder: installed_media.write_digits(folder, (1,) * 10),
        lambda folder: list(HandwrittenDigits(str(folder), heldout_fraction=0.0).read("train")),
    ),
    "transcripts": Reader(
        "core.txt.gz", installed_media.write_announcements, read_announcements, examples=10
    ),
    "task.json": Reader("task.json", a_big_bench, source(a_big_bench), as_json),
    "tokenizer_config.json": Reader(
        "tokenizer_config.json", a_template, read_template("tokenizer_config.json"), as_json
    ),
    "chat.jinja": Reader("chat.jinja", a_template, read_template("chat.jinja")),
}  # fmt: skip


def _text(path: Path) -> str:
    from jaxgen.configuration.files import read_gin_file

    return read_gin_file(path)
