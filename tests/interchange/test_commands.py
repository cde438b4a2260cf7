"""`jaxgen export` and `jaxgen import` as a person gives them."""

import dataclasses
import json
import shutil
from typing import Any

import pytest
from safetensors.numpy import load_file
from support.helpers import build
from support.interchange_tiny import CONFIGS
from support.tokenizers import byte_level, prefix_space
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from jaxgen.cli import main
from jaxgen.codecs.joint import begin_ids, stop_ids
from jaxgen.configuration import load_recorded
from jaxgen.interchange.configs import find_family, read_config
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.importing import open_checkpoint
from jaxgen.interchange.tokenizers import read_codec, write_codec

SMALL = [
    "--gin_file=runs/text.gin", "--gin.model.num_layers=1", "--gin.model.embed_dim=8",
    "--gin.model.num_heads=1", "--gin.model.mlp_dim=8", "--gin.model.vocab_size=320",
    "--gin.train.steps=3", "--gin.train.batch_size=8", "--gin.train.length=32",
    "--gin.evaluation.num_batches=1", "--gin.evaluation.batch_size=8",
]  # fmt: skip
GENERATE = ["--prompt=Once", "--max_tokens=6", "--temperature=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run, exported and imported again."""
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "text").mkdir()
    for index in range(8):
        (folder / "text" / f"{index}.txt").write_text(f"Once upon a time, {index} times. " * 40)
    text, tokenizer, run = f"--gin.TEXT={folder / 'text'}", folder / "own.json", folder / "run"
    train = ["tokenizer", "train", str(folder / "text"), "--vocab_size=300", "--plain"]
    assert main([*train, f"--output={tokenizer}"]) == 0
    codec = ["--gin.task.codec=@tokenizer_codec()", f"--gin.tokenizer_codec.path={tokenizer}"]
    assert main(["train", *SMALL, *codec, text, f"--run_dir={run}"]) == 0
    assert main(["export", f"--run_dir={run}", f"--output={folder / 'hf'}"]) == 0
    imported = ["import", f"--from={folder / 'hf'}", f"--output={folder / 'back'}"]
    assert main([*imported, *SMALL, text]) == 0
    return folder


def test_an_export_holds_all_that_others_need(folder):
    values = json.loads((folder / "hf" / "config.json").read_text())
    assert values["architectures"] == ["LlamaForCausalLM"]
    assert (values["bos_token_id"], values["eos_token_id"], values["pad_token_id"]) == (1, 2, 0)
    assert values["max_position_embeddings"] == 32
    own, exported = (
        Tokenizer.from_file(str(folder / name)) for name in ("own.json", "hf/tokenizer.json")
    )
    # As rows of training, a text there begins with the begin token.
    assert exported.encode("Once upon").ids == [1, *own.encode("Once upon").ids]
    assert exported.get_vocab() == own.get_vocab()
    settings = json.loads((folder / "hf" / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|end|>"


def test_an_import_is_a_run(folder, capsys):
    printed = []
    for run in ("run", "back"):
        assert main(["generate", f"--run_dir={folder / run}", *GENERATE]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert main(["evaluate", f"--run_dir={folder / 'back'}"]) == 0
    assert "at step 0" in capsys.readouterr().out
    again = folder / "again"
    assert main(["export", f"--run_dir={folder / 'back'}", f"--output={again}"]) == 0
    first, second = (load_file(f / "model.safetensors") for f in (folder / "hf", again))
    assert all((first[name] == second[name]).all() for name in first)


def test_an_import_needs_no_configuration(folder, tmp_path, capsys):
    imported = ["import", f"--from={folder / 'hf'}", f"--output={tmp_path / 'run'}"]
    assert main(imported) == 0
    assert "llama" in capsys.readouterr().out
    assert main(["generate", f"--run_dir={tmp_path / 'run'}", *GENERATE]) == 0
    assert "Once" in capsys.readouterr().out
    assert main(imported) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "names", "objective"),
    [
        ("t5", [f"<extra_id_{n}>" for n in range(40)], "span_corruption"),
        ("t5", [], "prefix_lm"),
        ("bert_masked", ["[MASK]"], "masked_tokens"),
    ],
)
def test_an_import_without_configuration_is_trained_in_its_own_way(
    name, names, objective, tmp_path, capsys
):
    """A tiny T5 or BERT, with a tokenizer that has what its training needs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", *names]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet)
    )
    begin = "decoder_start_token_id" if name == "t5" else "bos_token_id"
    values = CONFIGS[name] | {"vocab_size": 320}
    family = find_family(FAMILIES, values)
    text = tokenizer.to_str().encode()
    export_model(
        build(read_config(family, values)), tmp_path / "hf", family, files={"tokenizer.json": text},
        more={begin: 0, "eos_token_id": 2, "pad_token_id": 0},
    )  # fmt: skip
    run = tmp_path / "run"
    assert main(["import", f"--from={tmp_path / 'hf'}", f"--output={run}"]) == 0
    config = (run / "config.gin").read_text()
    assert f"@{objective}()" in config
    if objective == "prefix_lm":
        assert main(["generate", f"--run_dir={run}", *GENERATE]) == 0
        # The answer to the prompt, not the prompt again; begun with what T5's decoders begin with.
        assert "Once" not in capsys.readouterr().out.splitlines()[-1]
        assert "begin = '<pad>'" in config
        assert main(["export", f"--run_dir={run}", f"--output={tmp_path / 'again'}"]) == 0
        exported = json.loads((tmp_path / "again" / "config.json").read_text())
        assert exported["decoder_start_token_id"] == 0
        return
    (tmp_path / "run.gin").write_text(config)
    short = ["--gin.train.steps=1", "--gin.train.length=64", "--gin.evaluation.num_batches=1"]
    short += ["--gin.train.source_length=64"] if name == "t5" else []
    train = ["train", f"--gin_file={tmp_path / 'run.gin'}", *short, f"--run_dir={tmp_path / 'new'}"]
    assert main(train) == 0


def test_training_goes_on_from_an_import(folder, capsys):
    config = (folder / "back" / "config.gin").read_text()
    (folder / "back.gin").write_text(config)
    train = ["train", f"--gin_file={folder / 'back.gin'}", f"--run_dir={folder / 'back'}"]
    assert main(train) == 0
    assert (folder / "back" / "checkpoints" / "3").exists()
    capsys.readouterr()


def test_transformers_reads_an_export(folder):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    transformers.AutoModelForCausalLM.from_pretrained(folder / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    ids = tokenizer("Once upon 12 times").input_ids
    assert ids[0] == tokenizer.bos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Once upon 12 times"
    assert tokenizer.eos_token_id == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["import", "--from=/nowhere", "--output=x"], ["there is no folder /nowhere"]),
        (["export", "--run_dir=/nowhere", "--output=x"], ["not a run directory"]),
        (["export", "--run_dir={run}", "--output=x", "--family=gpt2"], ["model.max_length=None"]),
        (["export", "--run_dir={run}", "--output={hf}"], ["exists"]),
        (["import", "--from={bare}", "--output=x"], ["no tokenizer.json", "--gin_file"]),
    ],
)
def test_mistakes_are_one_message(folder, command, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_bytes((folder / "hf" / "config.json").read_bytes())
    places = {"run": folder / "run", "hf": folder / "hf", "bare": tmp_path / "bare"}
    assert main([word.format(**places) for word in command]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    for word in words:
        assert word in message
    assert not (tmp_path / "x").exists()


def test_an_export_gives_back_every_file_that_an_import_was_given(folder, tmp_path, capsys):
    """Also keys that change nothing, several end tokens, a template, and the tokenizer's rules."""
    given = tmp_path / "given"
    shutil.copytree(folder / "hf", given)
    config = json.loads((given / "config.json").read_text())
    config |= {"eos_token_id": [2, 7, 9], "use_cache": False, "max_position_embeddings": 8192}
    config |= {"_name_or_path": "somewhere/some-model", "transformers_version": "4.40.0"}
    settings = {
        "add_bos_token": False, "chat_template": "{{ messages }}", "model_max_length": 8192,
        "bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>",
        "tokenizer_class": "LlamaTokenizerFast", "legacy": False,
    }  # fmt: skip
    generation = {"eos_token_id": [2, 11], "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    files = {
        "config.json": config, "tokenizer_config.json": settings,
        "generation_config.json": generation, "special_tokens_map.json": {"bos_token": "a"},
    }  # fmt: skip
    for name, values in files.items():
        (given / name).write_text(json.dumps(values))
    run, back = tmp_path / "run", tmp_path / "back"
    capsys.readouterr()
    assert main(["import", f"--from={given}", f"--output={run}"]) == 0
    # Two files contradict each other: transformers 5 goes by tokenizer.json.
    assert "add_bos_token=false, and tokenizer.json puts <|begin|>" in capsys.readouterr().out
    codec = load_recorded(run / "config.gin").mixture.codec
    assert stop_ids(codec) == (2, 7, 9, 11) and begin_ids(codec) == (codec.begin_id,)
    assert load_recorded(run / "config.gin").model.max_length == 8192
    assert main(["export", f"--run_dir={run}", f"--output={back}"]) == 0
    assert sorted(path.name for path in back.iterdir()) == sorted(p.name for p in given.iterdir())
    for name in (*files, "tokenizer.json"):
        read = [json.loads((place / name).read_text()) for place in (given, back)]
        assert read[0] == read[1], name
    # A run that was trained from there gives them back too.
    capsys.readouterr()
    assert main(["config", "show", str(run)]) == 0
    (tmp_path / "tuned.gin").write_text(capsys.readouterr().out)
    child, tuned = tmp_path / "child", tmp_path / "tuned"
    train = ["train", f"--gin_file={tmp_path / 'tuned.gin'}", f"--run_dir={child}"]
    short = ["train.steps=2", "train.length=32", "evaluation.num_batches=1"]
    train += [f"--gin.{one}" for one in (*short, "run.initialize_from=../run")]
    assert main(train) == 0
    assert main(["export", f"--run_dir={child}", f"--output={tuned}"]) == 0
    for name in (*files, "tokenizer.json"):
        assert (tuned / name).read_text() == (back / name).read_text(), name


def test_a_model_of_bytes_is_exported_with_a_tokenizer_of_bytes(folder, tmp_path):
    run, hf = tmp_path / "run", tmp_path / "hf"
    assert main(["train", *SMALL, f"--gin.TEXT={folder / 'text'}", f"--run_dir={run}"]) == 0
    assert main(["export", f"--run_dir={run}", f"--output={hf}"]) == 0
    tokenizer = Tokenizer.from_file(str(hf / "tokenizer.json"))
    for text in ("plain", " two  spaces\n", "é 東京 🙂", "\x00"):
        ids = tokenizer.encode(text).ids
        assert ids == [257, *text.encode()] and tokenizer.decode(ids) == text


@pytest.mark.parametrize("before", [(), ("<s>",), ("<|user|>", "<s>"), ("<|user|>", "<s>", "<s>")])
def test_texts_begin_with_all_that_an_imported_tokenizer_puts_before_them(folder, tmp_path, before):
    shutil.copytree(folder / "hf", tmp_path, dirs_exist_ok=True)
    path = byte_level(tmp_path / "tokenizer.json")
    given = Tokenizer.from_file(path)
    special: Any = [(name, given.token_to_id(name)) for name in set(before)]
    template: Any = processors.TemplateProcessing(
        single=" ".join([*before, "$A"]), special_tokens=special
    )
    given.post_processor = template
    given.save(path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bos_token_id": None}))
    codec = read_codec(open_checkpoint(tmp_path), path)
    assert begin_ids(codec) == tuple(map(given.token_to_id, before))
    # A run of this codec that was not imported writes a tokenizer of its own.
    plain = byte_level(tmp_path / "plain.json")
    files, _ = write_codec(dataclasses.replace(codec, path=plain, digest=None))
    exported = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert exported.encode("Answer: Paris").ids == given.encode("Answer: Paris").ids


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "nobody/no-such-model", "./not/there"])
def test_a_checkpoint_that_is_not_here_is_answered_with_how_to_get_it(name, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["import", f"--from={name}", "--output=never"]) == 1
    message = capsys.readouterr().err
    assert "hf download" in message and "--local-dir" in message and "Traceback" not in message


def test_transformers_makes_the_same_ids_and_masks(folder, tmp_path):
    """Of a run's own tokenizer, and of one with a prefix space that was imported as it was."""
    transformers = pytest.importorskip("transformers")
    given = tmp_path / "given"
    shutil.copytree(folder / "hf", given)
    prefix_space(given / "tokenizer.json")
    config = json.loads((given / "config.json").read_text())
    (given / "config.json").write_text(
        json.dumps(config | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2})
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
                "eos_token": "</s>", "pad_token": "</s>"}  # fmt: skip
    (given / "tokenizer_config.json").write_text(json.dumps(settings))
    run, back = tmp_path / "run", tmp_path / "back"
    big = ["--gin.model.vocab_size=448"]
    assert main(["train", *SMALL, *big, f"--gin.TEXT={folder / 'text'}",
                 "--gin.task.codec=@tokenizer_codec()", "--gin.tokenizer_codec.begin='<s>'",
                 "--gin.tokenizer_codec.end='</s>'", "--gin.tokenizer_codec.pad='</s>'",
                 f"--gin.tokenizer_codec.path={given / 'tokenizer.json'}",
                 f"--run_dir={run}"]) == 0  # fmt: skip
    assert main(["export", f"--run_dir={run}", f"--output={back}"]) == 0
    for exported, of_run in ((folder / "hf", folder / "run"), (back, run)):
        theirs = transformers.AutoTokenizer.from_pretrained(str(exported))
        codec = load_recorded(of_run / "config.gin").mixture.codec
        texts = ["Once upon a time", "Answer: Paris", "user: hello there, 12 + 34", "é 🙂"]
        for text in texts:
            read = theirs(text)
            assert read["input_ids"] == [codec.begin_id, *codec.encode(text).tolist()]
            assert read["attention_mask"] == [1] * len(read["input_ids"])
            assert theirs.decode(codec.encode(text)) == codec.decode(codec.encode(text))
        both = theirs(texts, padding=True)
        longest = max(len(codec.encode(text)) for text in texts) + 1
        for text, ids, mask in zip(texts, both["input_ids"], both["attention_mask"], strict=True):
            own = [codec.begin_id, *codec.encode(text).tolist()]
            assert ids == own + [codec.pad_id] * (longest - len(own))
            assert mask == [1] * len(own) + [0] * (longest - len(own))
