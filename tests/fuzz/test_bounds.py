"""What a small file may cost and reach: memory, time, and files beside it."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import zstandard
from support.fuzzed_readers import read_corpus, read_tensors
from support.valid_files import PICKLED, TALK, a_checkpoint, a_corpus, a_sentencepiece
from tokenizers import Tokenizer, models

from jaxgen.cli import main
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data import chat_templates
from jaxgen.data.chat import Chat
from jaxgen.data.media_files import path_below
from jaxgen.data.prepared import MANIFEST
from jaxgen.data.tables import HuggingFaceDataset
from jaxgen.data.text_files import Jsonl
from jaxgen.data.web_dataset import WebDataset
from jaxgen.errors import ConfigError, DataError, InterchangeError, JaxgenError
from jaxgen.interchange.files import find_revision
from jaxgen.json_values import check_file_name, check_shape, parse_json
from jaxgen.studies.axes import axis_limits
from jaxgen.studies.page_json import to_json
from jaxgen.studies.plots import Axis, Plot, Series

MIB = 2**20
LENGTH = 200 * MIB


@pytest.fixture
def memory():
    """Returns the most bytes that Python objects took since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_line_that_decompresses_to_more_than_memory_is_cut(ending, tmp_path, memory):
    path = tmp_path / f"a.jsonl.{ending}"
    if ending == "gz":
        with gzip.GzipFile(path, "wb", compresslevel=1) as file:
            for _ in range(LENGTH // MIB):
                file.write(b"0" * MIB)
    else:
        path.write_bytes(b"".join(zstandard.compress(b"0" * 20 * MIB) for _ in range(10)))
    assert path.stat().st_size < 2 * MIB
    tracemalloc.reset_peak()
    with pytest.raises(DataError, match="longer than 1048576 bytes"):
        list(Jsonl(str(path), heldout_fraction=0, max_line_bytes=MIB).read("train"))
    assert memory() < 40 * MIB


@pytest.mark.parametrize("what", ["member", "sparse", "name", "pax"])
def test_an_archive_that_unpacks_to_more_than_memory_is_refused(what, tmp_path, memory):
    path = tmp_path / "a.tar.gz"
    kinds = {"name": tarfile.GNUTYPE_LONGNAME, "pax": tarfile.XHDTYPE}
    header = tarfile.TarInfo("a.txt")
    header.size, header.type = LENGTH, kinds.get(what, tarfile.REGTYPE)
    with gzip.GzipFile(path, "wb", compresslevel=1) as file:
        if what == "sparse":
            header.type, header.size = tarfile.GNUTYPE_SPARSE, 0
            block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
            block[483:495] = b"%011o\0" % 2**32  # Of the member when it is whole.
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            file.write(bytes(block) + bytes(1024))
        else:
            file.write(header.tobuf(tarfile.GNU_FORMAT))
            for _ in range(LENGTH // MIB):
                file.write(b"0" * MIB)
            file.write(bytes(1024))
    tracemalloc.reset_peak()
    source = WebDataset(str(path), heldout_fraction=0, max_member_bytes=MIB)
    with pytest.raises(DataError, match=r"longer than|a header of"):
        list(source.read("train"))
    assert memory() < 40 * MIB


def test_members_of_an_archive_are_written_nowhere(tmp_path):
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name in ("../out.txt", "/tmp/jaxgen-out.txt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    records = list(WebDataset(str(path), heldout_fraction=0).read("train"))
    assert [record["txt"] for record in records] == ["hi", "hi"]
    assert os.listdir(tmp_path) == ["in"] and os.listdir(tmp_path / "in") == ["a.tar"]


@pytest.mark.parametrize("size", [2**60, 2**31, 8])
def test_a_header_of_safetensors_is_as_long_as_its_file(size, tmp_path, memory):
    a_checkpoint(tmp_path)
    data = (tmp_path / "one.safetensors").read_bytes()
    (tmp_path / "one.safetensors").write_bytes(struct.pack("<Q", size) + data[8:])
    with pytest.raises(InterchangeError, match="not a whole safetensors file"):
        read_tensors(tmp_path)
    assert memory() < 40 * MIB


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 65 + "]" * 65, '{"a":' * 100_000, "9" * 10**6, "-" + "9" * 61]
)
def test_json_that_is_deep_or_long_is_refused_at_once(text):
    begun = time.monotonic()
    with pytest.raises(ValueError):
        parse_json(text)
    assert time.monotonic() - begun < 1


def torch_file(path, pickled):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", np.ones((2, 3), np.float32).tobytes())


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "LONG_BINPUT"),  # A table of 2^31 entries.
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "not a whole file"),
        (PICKLED.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86"), "outside of the file"),
        (PICKLED.replace(b"QK\x00", b"QJ\xff\xff\xff\xff"), "outside of the file"),
        (PICKLED.replace(b"K\x03K\x01\x86", b"J\xfd\xff\xff\xffK\x01\x86"), "outside of the file"),
        (pickle.dumps(os.getcwd), "names posix.getcwd"),
    ],
)
def test_a_pickle_of_tensors_makes_nothing_else(pickled, words, tmp_path, memory):
    torch_file(tmp_path / "pytorch_model.bin", pickled)
    with pytest.raises(InterchangeError, match=words):
        read_tensors(tmp_path)
    assert memory() < 40 * MIB


LOOP = "{% for a in range(90000) %}"
ATTACKS = {
    "nested loops": f"{LOOP * 4}{'{% endfor %}' * 4}",
    "a long product": "{{ 'a' * 10 ** 10 }}",
    "a long number": "{{ 9 ** (9 ** 9) }}",
    "doubling by +": f"{{% set n = namespace(x='a') %}}{LOOP}{{% set n.x = n.x + n.x %}}"
    "{% endfor %}",
    "doubling by ~": f"{{% set n = namespace(x='a') %}}{LOOP}{{% set n.x = n.x ~ n.x %}}"
    "{% endfor %}",
    "doubling by join": f"{{% set n = namespace(x='a') %}}{LOOP}"
    "{% set n.x = [n.x, n.x] | join %}{% endfor %}",
    "doubling by replace": f"{{% set n = namespace(x='a') %}}{LOOP}"
    "{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
    "lists within lists": f"{{% set n = namespace(x=[1]) %}}{LOOP}"
    "{% set n.x = [n.x, n.x] %}{% if loop.index == 60 %}{{ n.x }}{% break %}{% endif %}"
    "{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a wide format by method": "{{ '{:1000000000}'.format(1) }}",
    "a wide text": "{{ 'a'.ljust(1000000000) }}",
    "a wide filter": "{{ 'a' | center(1000000000) }}",
    "a wide indent": "{{ ['a'] | tojson(indent=1000000000) }}",
    "Python's objects": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "much output": f"{LOOP}{'a' * 100}{{% endfor %}}",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_chat_template_is_bounded(name, memory, monkeypatch):
    monkeypatch.setattr(chat_templates, "MOST_STEPS", 20_000)
    begun = time.monotonic()
    with pytest.raises((ConfigError, DataError)):
        Chat(template=ATTACKS[name]).parts({"messages": TALK})
    assert time.monotonic() - begun < 20 and memory() < 100 * MIB


@pytest.mark.parametrize("name", ["../train-0", "/etc/passwd", "a/b", "", "..", "a\0b", "a\\b"])
def test_names_in_a_file_stay_in_its_folder(name, tmp_path):
    corpus, weights, dataset = (tmp_path / part for part in ("corpus", "weights", "dataset"))
    for folder in (corpus, weights, dataset):
        folder.mkdir()
    a_corpus(corpus)
    manifest = json.loads((corpus / MANIFEST).read_text())
    manifest["splits"]["train"][0]["name"] = name
    (corpus / MANIFEST).write_text(json.dumps(manifest))
    a_checkpoint(weights)
    index = {"weight_map": {"w0": name}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index))
    (weights / "refs" / "main").write_text(name)
    (dataset / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    for read in (
        lambda: read_corpus(corpus),
        lambda: read_tensors(weights),
        lambda: find_revision(weights, None),
        lambda: HuggingFaceDataset(str(dataset)).files(),
    ):
        with pytest.raises(JaxgenError, match="name of a file in the folder"):
            read()


def test_the_status_of_a_damaged_run_is_one_message(tmp_path, capsys):
    (tmp_path / "run.json").write_bytes(b'{"steps": "many"}')
    assert main(["status", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert "run.json cannot be read (steps is 'many', and must be a whole number)" in printed


def test_a_panic_of_the_tokenizers_library_is_an_error_of_ours(tmp_path):
    values = json.loads(Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).to_str())
    values["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "DQAAAGFiYw=="}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"is not a tokenizer\.json"):
        TokenizerCodec(str(path)).vocab_size  # noqa: B018


@pytest.mark.parametrize("name", ["\ud800", "a\udfff.safetensors"])
def test_half_a_surrogate_names_no_file(name, tmp_path):
    with pytest.raises(ValueError, match="name of a file in the folder"):
        check_file_name(name)
    with pytest.raises(DataError, match="is not below the folder"):
        path_below(str(tmp_path), name, "record 0")


def test_a_piece_that_is_no_text_is_an_error_of_ours(tmp_path):
    a_sentencepiece(tmp_path)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(b"<unk>", b"\x80unk>"))
    with pytest.raises(DataError, match="is not a SentencePiece model"):
        SentencePieceCodec(str(path)).vocab_size  # noqa: B018


def test_whole_numbers_beyond_all_floats_are_not_finite():
    with pytest.raises(ValueError, match="must be a finite number"):
        check_shape({"loss": 10**400}, {"loss": float})
    with pytest.raises(ValueError, match="must be text or null"):
        check_shape({"label": 3}, {"label": (str, type(None))})


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_figures_have_axes_whatever_the_numbers(scale):
    values = (1e-308, 1.0, 1.7e308)
    plot = Plot(Axis("x"), Axis("y", scale=scale), (Series("line", (0.0, 1.0, 2.0), values),))
    low, high = axis_limits(plot, "y")
    assert np.isfinite(high - low) and low < 1 < high
    assert json.dumps(to_json(plot), allow_nan=False)
