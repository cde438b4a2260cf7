"""A run directory holds what its commands need, and a start checks what the end will need."""

import json
import shutil
import types

import jax
import pytest

from jaxgen.cli import main
from jaxgen.errors import RESTART_STATUS

SMALL = [
    "--gin_file=runs/text.gin", "--gin.model.num_layers=1", "--gin.model.embed_dim=8",
    "--gin.model.num_heads=1", "--gin.model.mlp_dim=8", "--gin.model.vocab_size=384",
    "--gin.train.batch_size=8", "--gin.train.length=32", "--gin.evaluation.num_batches=1",
    "--gin.evaluation.batch_size=8", "--gin.execution.trackers=()",
]  # fmt: skip
GENERATE = ["--prompt=Once", "--max_tokens=4", "--temperature=0"]
TOKENIZER = ["--gin.task.codec=@tokenizer_codec()", "--gin.tokenizer_codec.path=own.json"]


def texts(folder, count=8):
    folder.mkdir(parents=True)
    for index in range(count):
        (folder / f"{index}.txt").write_text(f"Once upon a time, {index} times. " * 20)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder that a person works in, with text and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    texts(tmp_path / "text")
    assert main(["tokenizer", "train", "text", "--vocab_size=330", "--output=own.json"]) == 0
    return tmp_path


def test_a_run_works_wherever_it_is_moved_to_and_used_from(home, monkeypatch, capsys):
    train = [*SMALL, *TOKENIZER, "--gin.TEXT=text", "--gin.train.steps=2"]
    assert main(["train", *train, "--run_dir=runs/first"]) == 0
    assert main(["generate", "--run_dir=runs/first", *GENERATE]) == 0
    written = capsys.readouterr().out.splitlines()[-1]
    (home / "own.json").unlink()
    (home / "elsewhere").mkdir()
    shutil.move(home / "runs" / "first", home / "elsewhere" / "second")
    monkeypatch.chdir("/")
    moved = home / "elsewhere" / "second"
    assert main(["generate", f"--run_dir={moved}", *GENERATE]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == written
    # The text is found where the run was started; written in another way it is still the same.
    assert main(["evaluate", f"--run_dir={moved}"]) == 0
    same = [*SMALL, *TOKENIZER[:1], f"--gin.tokenizer_codec.path={moved / 'tokenizer.json'}"]
    same += [f"--gin.TEXT={home / 'text'}", "--gin.train.steps=2"]
    assert main(["train", *same, f"--run_dir={moved}"]) == 0
    # Text and run moved together: seen from the run, the text is where it was.
    together = home.with_name("together")
    (home / "runs" / "third").mkdir(parents=True)
    shutil.copytree(moved, home / "runs" / "first")
    shutil.move(home, together)
    assert main(["evaluate", f"--run_dir={together / 'runs' / 'first'}"]) == 0
    assert (
        main(["export", f"--run_dir={together / 'runs' / 'first'}", f"--output={together}/hf"]) == 0
    )


@pytest.mark.slow
def test_a_child_that_has_begun_needs_its_parent_no_more(home, capsys):
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2"]
    assert main([*train, "--run_dir=parent"]) == 0
    child = [*train, "--gin.run.initialize_from=../parent", "--run_dir=child"]
    assert main(child) == 0
    # As if it had been stopped at its first checkpoint.
    record = json.loads((home / "child" / "run.json").read_text())
    (home / "child" / "run.json").write_text(json.dumps(record | {"finished": False}))
    shutil.rmtree(home / "parent")
    assert main(child) == 0
    assert (
        json.loads((home / "child" / "run.json").read_text())["initialized_from"]
        == (record["initialized_from"])
    )


def test_a_start_that_failed_fixes_nothing(home, capsys):
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2", "--run_dir=mine"]
    assert main([*train, "--gin.run.initialize_from=../nosuch"]) == 1
    assert "no run directory" in capsys.readouterr().err
    assert main([*train, *TOKENIZER]) == 0
    assert main([*train, "--gin.train.seed=1", *TOKENIZER]) == 1
    assert "was started with another configuration" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["--gin.TEXT=one"], "no file to hold out"),
        (["--gin.TEXT=broken"], "not UTF-8"),
        (["--gin.TEXT=text", "--gin.model.vocab_size=2000000000"], r"B too much"),
        (["--gin.TEXT=text", "--gin.evaluation.batch_size=7"], "evaluation.batch_size = 7"),
    ],
)
def test_what_would_stop_the_end_stops_the_start(home, bindings, message, capsys):
    texts(home / "one", count=1)
    texts(home / "broken")
    # The file that is held out of these eight, found by asking.
    from jaxgen.data.text_files import TextFiles

    held_out = next(iter(TextFiles(str(home / "broken")).read("heldout")))["path"]
    (home / "broken" / held_out).write_bytes(b"\xff\xfe\x00 no text")
    train = ["train", *SMALL, "--gin.train.steps=2", "--run_dir=mine", "--gin.mesh.data=8"]
    assert main([*train, *bindings]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "step" not in printed.out
    assert not (home / "mine" / "metrics.jsonl").exists()


def test_activations_are_counted_before_anything_is_allocated(home, monkeypatch, capsys):
    # More than state, gradient and rows need, and less than the compiled step does.
    limit = 2**20
    monkeypatch.setattr("jaxgen.training.memory._available", lambda mesh: (limit, "this machine"))
    monkeypatch.setattr("jaxgen.training.program.Program.fresh_state", None)
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2", "--run_dir=mine"]
    assert main([*train, "--gin.train.batch_size=8", "--gin.train.length=64"]) == 1
    message = capsys.readouterr().err
    assert "error: a step needs" in message and "B too much" in message


@pytest.mark.parametrize(("total", "status"), [(2000, 1), (10**9, 75)])
def test_a_disk_without_room_for_one_checkpoint_is_told_before_the_first_step(
    home, total, status, monkeypatch, capsys
):
    usage = types.SimpleNamespace(free=1000, total=total)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2", "--run_dir=mine"]
    assert main(train) == status
    message = capsys.readouterr().err
    assert "error: a checkpoint needs" in message and "has 1 kB free of" in message
    assert not (home / "mine" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "error", [MemoryError("8 GiB"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 8 GiB")]
)
def test_memory_that_ends_is_one_message(error, monkeypatch, capsys):
    def listing(arguments):
        raise error

    monkeypatch.setattr("jaxgen.commands.runs.listing", listing)
    assert main(["runs"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: there is not enough memory") and "8 GiB" in printed


def test_changed_data_is_named_and_refused_or_recorded(home, capsys):
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2", "--run_dir=mine"]
    assert main(train) == 0
    record = json.loads((home / "mine" / "run.json").read_text())

    def again(*more):
        (home / "mine" / "run.json").write_text(json.dumps(record | {"finished": False}))
        return main([*train, *more]), capsys.readouterr().err

    for index in range(8):  # Another time alone is no change.
        text = (home / "text" / f"{index}.txt").read_text()
        (home / "text" / f"{index}.txt").write_text(text)
    assert again()[0] == 0
    # A disk that is away for a while is no other data: the run asks to be started again.
    for away in ("3.txt", ""):
        (home / "text" / away).rename(home / "away")
        code, message = again()
        assert code == RESTART_STATUS and ("text: 3.txt is gone" if away else "text") in message
        (home / "away").rename(home / "text" / away)
    assert again()[0] == 0
    (home / "text" / "3.txt").write_text("something else " * 40)
    (home / "text" / "9.txt").write_text("one more file " * 40)
    code, message = again()
    assert code == 1 and "text: 9.txt is new" in message and "text: 3.txt differs" in message
    assert again("--gin.execution.accept_changed_data=True")[0] == 0
    lines = (home / "mine" / "history.jsonl").read_text().splitlines()
    assert "text: 9.txt is new" in json.loads(lines[-1])["changed"]
    assert again()[0] == 0  # What was accepted is the data of the run from now on.


def test_a_folder_of_runs_is_no_run(home, capsys):
    train = ["train", *SMALL, "--gin.TEXT=text", "--gin.train.steps=2"]
    assert main([*train, "--run_dir=runs/one"]) == 0
    for folder, message in (("runs", "is a folder of runs, such as one"), ("", "is empty")):
        assert main([*train, f"--run_dir={folder}"]) == 1
        assert message in capsys.readouterr().err
