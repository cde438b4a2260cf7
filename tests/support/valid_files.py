"""Valid files of every kind that jaxgen reads from outside, each in a folder of its own."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.bigbench import BigBench
from jaxgen.data.prepared import DIGESTED, MANIFEST
from jaxgen.data.storage import digest_of as digest_of_files
from jaxgen.data.token_files import TokenWriter
from jaxgen.interchange.configs import write_config
from jaxgen.interchange.families.clip import CLIP, SIGLIP
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.preregistration import digest_of
from jaxgen.studies.study_runs import read_runs
from jaxgen.studies.task_runs import task_runs_of, write_csv
from jaxgen.sweeps.leases import acquire
from support.interchange_tiny import CONFIGS
from support.pairs import PAIRS
from support.synthetic_study import config_text, write_run

TEXTS = ["plain words", "1 + 1 = 2", "ünïcode \U0001f642"]


@functools.cache
def config() -> str:
    return config_text()


def a_run(folder: Path, name: str = "run") -> RunDirectory:
    rows = [
        {"task": "add", "instance": str(i), "exact_match": i % 2, "token_accuracy": 0.5,
         "log_probability": -1.0, "answer_tokens": 2}
        for i in range(4)
    ]  # fmt: skip
    more = {"first_started": "2099-01-01T00:00:00+00:00", "shares": {"text": 1.0},
            "epochs": {"text": 2.0}, "examples": {"text": 9},
            "started_in": {"folder": "/", "from_run": "../.."}, "mesh": {"data": 1},
            "imports": [], "initialized_from": None}  # fmt: skip
    directory = write_run(folder, name, 0, 1e4, 1e6, 3.0, {"add": rows}, config(), **more)
    line = {"step": 0, "mesh": {"data": 2, "fsdp": 1}, "host": "h", "num_devices": 2,
            "started": "2099-01-01T00:00:00+00:00"}  # fmt: skip
    directory.history_file.write_text(json.dumps(line) + "\n" + json.dumps(line) + "\n")
    sample = {"task": "add", "prompt": "1+1", "completion": "2", "reference": "2"}
    (directory.path / "samples.json").write_text(json.dumps([sample, sample]))
    (directory.path / "data.json").write_text('{"add": {"a.txt": ["1 2", "ab"]}}')
    lease = acquire(directory, 0)
    assert lease is not None
    lease.release("finished")
    return directory


def a_study(folder: Path) -> None:
    for name in ("a", "b"):
        a_run(folder, name)
    forecast = {"value": 2.0, "seed_mean": [1.0, 3.0], "new_run": [1.0, 3.0], "law": "x"}
    content = {
        "level": 0.9, "time": "2026-01-01T00:00:00+00:00", "versions": {"a": "1"},
        "revision": None, "predictions": [{
            "held_out": {"name": "a", "seeds": [0, 1], "mixture": "quickstart"},
            "loss": forecast, "scores": {"add": forecast, "sub": {"why_not": "few"}}, "points": [],
        }],
    }  # fmt: skip
    content["digest"] = digest_of(content)
    (folder / "predictions.json").write_text(json.dumps(content))
    (folder / "study.json").write_text(json.dumps({"title": "t", "lead": "l"}))
    write_csv(folder / "runs.csv", task_runs_of("s", read_runs(folder)))


def a_corpus(folder: Path) -> None:
    files = {}
    for split in ("train", "heldout"):
        with TokenWriter(folder, f"{split}-0", 300) as writer:
            for text in TEXTS:
                writer.add(ByteCodec().encode(text))
        count = writer.offsets[-1]
        digest = digest_of_files([f"{folder}/{split}-0.{kind}" for kind in DIGESTED])
        files[split] = [
            {"name": f"{split}-0", "documents": 3, "tokens": count, "bytes": 9, "digest": digest}
        ]
    manifest = {"format": 2, "codec": ByteCodec().digest, "vocab_size": 300, "splits": files,
                "settings": {"files": {"a": "1"}}}  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))


def a_tokenizer(folder: Path) -> None:
    from jaxgen.codecs.training import train_tokenizer

    train_tokenizer(TEXTS * 20, 330, folder / "tokenizer.json")


def a_sentencepiece(folder: Path) -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 40), model_writer=model, vocab_size=60,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())


def a_checkpoint(folder: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {f"w{i}": np.ones((4, 3), np.float32) for i in range(3)}
    save_file(tensors, folder / "one.safetensors")
    places = dict.fromkeys(tensors, "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc\n")
    (folder / "snapshots" / "abc").mkdir(parents=True)


PICKLED = (
    b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00actorch._utils\n"
    b"_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00"
    b"\x000X\x03\x00\x00\x00cpuK\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89h\x00)RtRu."
)
"""What torch.save writes of {"a": a matrix of 2 x 3}."""


def a_torch_file(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", PICKLED)
        archive.writestr("archive/data/0", np.ones((2, 3), np.float32).tobytes())


def a_config(family: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(CONFIGS[family]))

    return prepare


def a_pair(name: str) -> Callable[[Path], None]:
    """A contrastive pair's config.json and preprocessor_config.json, with all their keys."""

    def prepare(folder: Path) -> None:
        config, family = PAIRS[name], {"clip": CLIP, "siglip": SIGLIP}[name]
        assert family.images is not None
        values = write_config(family, config)
        values["text_config_dict"] = {"hidden_size": 32, "num_attention_heads": 4}
        (folder / "config.json").write_text(json.dumps(values))
        pixels = family.images.write(config)
        (folder / "preprocessor_config.json").write_text(json.dumps(pixels))

    return prepare


def a_big_bench(folder: Path) -> Any:
    examples = [{"input": "1", "target": ["2"]}, {"input": "1", "target_scores": {"a": 1, "b": 0}}]
    task = {"name": "t", "examples": examples, "task_prefix": "", "choice_prefix": "\n"}
    (folder / "task.json").write_text(json.dumps(task))
    return BigBench(str(folder), heldout_fraction=0.0)


TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]

TEMPLATES = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{{ '[%s] ' % m.role ~ m.content.strip() }}{% if not loop.last %},{% endif %}{% endfor %}",
)


def a_template(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": TEMPLATES[0]}]})
    )
    (folder / "chat.jinja").write_text(TEMPLATES[1])


def a_table(folder: Path) -> None:
    rows = ["Params (M),Tokens [B],val_loss,seed,note"]
    rows += [f"{n},{d},{3 + 1 / n:.3f},0,x" for n in (70, 160) for d in (1, "1.4B", "2e9")]
    (folder / "runs.csv").write_text("\n".join(rows) + "\n")


def an_import(folder: Path) -> None:
    from jaxgen.codecs.special import BEGIN, END, PAD

    a_tokenizer(folder)
    ids = {"eos_token_id": [1, 2], "bos_token_id": 0, "decoder_start_token_id": 0}
    values = CONFIGS["llama_tied_biases"] | ids
    (folder / "config.json").write_text(json.dumps(values))
    named = {"bos_token": {"content": BEGIN}, "eos_token": END, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"add_bos_token": True}))
    (folder / "generation_config.json").write_text(json.dumps(ids))


def tensors_of(**shapes: tuple[int, ...]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        from safetensors.numpy import save_file

        tensors = {
            name.replace("__", "."): np.ones(shape, np.int8) for name, shape in shapes.items()
        }
        save_file(tensors, folder / "model.safetensors")

    return prepare


def gin_of(folder: Path) -> None:
    (folder / "config.gin").write_text(config())
