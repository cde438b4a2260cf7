"""The commands as a person gives them, in this process."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

import jaxgen.commands
from jaxgen.cli import CONFIGURED, _parser, main
from jaxgen.parsing.arguments import GIN_HELP

SMALL = [
    "--gin_file=runs/text.gin", "--gin.model.num_layers=1", "--gin.model.embed_dim=8",
    "--gin.model.num_heads=1", "--gin.model.mlp_dim=8", "--gin.train.steps=3",
    "--gin.train.batch_size=8", "--gin.train.length=32", "--gin.evaluation.num_batches=1",
    "--gin.evaluation.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for index in range(8):
        (folder / f"{index}.txt").write_text(f"Once upon a time, {index} times. " * 40)
    return folder


@pytest.fixture(scope="module")
def run_dir(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    assert main(["train", *SMALL, f"--gin.TEXT={text}", f"--run_dir={folder}"]) == 0
    return folder


def test_train_generate_evaluate(run_dir, capsys):
    generate = ["generate", f"--run_dir={run_dir}", "--prompt=Once", "--max_tokens=8"]
    assert main([*generate, "--num_samples=2", "--top_k=5", "--seed=1"]) == 0
    lines = capsys.readouterr().out
    assert lines.count("Once") >= 2
    assert main(["evaluate", f"--run_dir={run_dir}"]) == 0
    assert "held-out loss" in capsys.readouterr().out


def test_a_tokenizer_of_ones_own(text, tmp_path, capsys):
    path = tmp_path / "tokenizer.json"
    command = ["tokenizer", "train", str(text), "--vocab_size=320", f"--output={path}"]
    assert main(command) == 0
    assert "digest" in capsys.readouterr().out
    train = ["train", *SMALL, f"--gin.TEXT={text}", f"--run_dir={tmp_path / 'run'}"]
    bpe = ["--gin.task.codec=@tokenizer_codec()", f"--gin.tokenizer_codec.path={path}"]
    assert main([*train, *bpe]) == 0
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert main(["tokenizer", "train", str(text), "--vocab_size=317", f"--output={path}"]) == 0
    assert main([*train, *bpe]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "digest" in message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "--run_dir=x"], ["--gin_file"]),
        (["train", "--run_dir=x", "--gin_file=runs/quikstart.gin"], ["runs/quickstart.gin"]),
        (["train", "--run_dir=x", "--gin_file=runs/text.gin"], ["TEXT", "required"]),
        (["generate", "--run_dir=/nowhere/at/all"], ["not a run directory"]),
        (["generate", "--run_dir=x", "--gin.a=1"], ["`jaxgen generate` takes no configuration"]),
        (["evaluate", "--run_dir=/nowhere/at/all"], ["not a run directory"]),
        (["tokenizer", "train", "/nowhere", "--output=x"], ["'/nowhere' matches no file"]),
    ],
)
def test_mistakes_are_one_message(command, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"prompt")))
    assert main(command) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    for word in words:
        assert word in message


def test_help_names_the_commands_and_loads_no_jax():
    code = (
        "import sys\nfrom jaxgen.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    for command in ("train", "evaluate", "generate", "import", "export", "tokenizer", "config"):
        assert command in found.stdout


def test_tasks_are_listed_and_shown(capsys):
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert {line.split()[0] for line in listed.splitlines()[1:]} >= {"addition@1", "code@1"}
    assert main(["tasks", "--gin_file=mixtures/ul2.gin"]) == 0
    shares = capsys.readouterr().out.splitlines()
    assert len(shares) == 8 and all(line.endswith("14.2857%") for line in shares[1:])
    shown = ["tasks", "show", "r_short", "--gin_file=mixtures/ul2.gin", "--examples=2", "--encoder"]
    assert main(shown) == 0
    page = capsys.readouterr().out
    assert "example 2 of 2" in page and "<|sentinel_0|>" in page and "encoder  [ R ]" in page
    assert main(["tasks", "show", "adition"]) == 1
    assert "did you mean `addition`" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_about_a_runs_data(tmp_path, capsys):
    path = tmp_path / "report.html"
    few = "--gin.mixture.tasks=[@lookup/task(), @prose/task()]"
    weights = "--gin.mixture.weights={'lookup': 0.5, 'prose': 0.5}"
    report = ["data", "report", "runs/quickstart.gin", few, weights, f"--output={path}"]
    assert main(report) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(path) and "prose@1" in lines[1] and "epochs" in lines[1]
    assert "<title>quickstart: the data of a run</title>" in path.read_text()


def test_models_are_listed_by_size_with_what_was_published(capsys):
    assert main(["models", "list", "llama/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[1:-1]]
    assert names[0] == "llama/tiny" and names[-1] == "llama/3_1_405b"
    (line,) = [line for line in lines if line.startswith("llama/2_7b")]
    assert "6,738,415,616" in line and line.endswith("exact")


def test_a_pair_of_towers_is_listed_and_shown(capsys):
    assert main(["models", "list", "siglip/"]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("siglip/b16")]
    assert line.split()[1:] == [
        "203,155,970", "24,775,680", "203,155,970", "2.177e+09", "203,155,970", "exact"
    ]  # fmt: skip
    assert main(["models", "show", "clip/l14"]) == 0
    out = capsys.readouterr().out
    assert "427,616,513 (exact)" in out and "rows of 77" in out
    (line,) = [one for one in out.splitlines() if one.startswith("vision.patches")]
    assert line.split()[1] == "14x14x3x1024"


def test_a_model_of_a_trillion_parameters_is_shown_without_memory(capsys):
    assert main(["models", "show", "glam/64b_64e"]) == 0
    out = capsys.readouterr().out
    assert "2112.06905" in out and "1,161,756,418,048" in out
    (line,) = [line for line in out.splitlines() if "blocks.0.feed_forward.up" in line]
    assert line.split()[1:] == ["32x64x8192x32768", "layers", "experts", "embed", "mlp"]


def test_a_mistyped_model_is_told_the_nearest(capsys):
    assert main(["models", "show", "palm/541b"]) == 1
    assert "`palm/540b`" in capsys.readouterr().err


@pytest.mark.slow
def test_a_suite_is_scored_beside_the_runs_own_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.gin").write_text(
        "include 'tasks/dyck.gin'\nevaluation.suite = (@evaluation_task(),)\n"
        "evaluation_task.task = @dyck/task()\nevaluation.num_examples = 4\n"
    )
    small = ["--gin.train.steps=1", "--gin.train.batch_size=8", "--gin.evaluation.num_batches=1"]
    assert main(["train", "--gin_file=runs/quickstart.gin", *small, "--run_dir=run"]) == 0
    rows = (tmp_path / "run" / "evals" / "00000001.jsonl").read_bytes()
    assert main(["evaluate", "--run_dir=run", "--gin_file=suite.gin"]) == 0
    assert "dyck" in capsys.readouterr().out
    assert (tmp_path / "run" / "evals" / "00000001.jsonl").read_bytes() == rows
    found = (tmp_path / "run" / "evals" / "00000001.suite.jsonl").read_text()
    assert found.count('"dyck"') == 4


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "--train.steps=20", "--run_dir=x"], "`--gin.train.steps=20`?"),
        (["train", "--run-dir=x"], "`--run_dir=x`?"),
        (["evaluate", "--run_dir=x", "--stp=3"], "`--step=3`?"),
        (["evalute"], "`evaluate`?"),
        (["config", "shwo"], "`show`?"),
    ],
)
def test_a_mistyped_flag_or_command_is_answered_with_the_nearest(words, meant, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().endswith(f"did you mean {meant}")


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "experiments/quickstart.py", "--jobs"],
        ["prepare", "--gin_file=x.gin", "--output=x", "--workers"],
        ["launch", "local", "--run_dir=x", "--processes"],
        ["generate", "--run_dir=x", "--num_samples"],
        ["generate", "--run_dir=x", "--max_tokens"],
        ["laws", "x.csv", "--bootstraps"],
        ["tokenizer", "train", "x.txt", "--output=x", "--vocab_size"],
    ],
)
def test_a_count_that_nothing_could_work_off_is_refused_at_once(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*words, str(10**20)])
    assert stopped.value.code == 2
    assert f"{10**20} must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--gin_file=runs/text.gin", "--gin.TEXT=x", "--run_dir=gs://b/r"],
        ["prepare", "--gin_file=preparations/text.gin", "--gin.TEXT=x", "--output=s3://b/p"],
        ["export", "--run_dir=r", "--output=gs://b/e"],
        ["evaluate", "--run_dir=gs://b/r"],
        ["laws", "x.csv", "--json=gs://b/l.json"],
        ["report", "gs://b"],
        ["launch", "tpu", "--topology=v5p:2x2x4", "--zone=z", "--", "train", "--run_dir=gs://b/r"],
    ],
)
def test_a_store_is_no_folder_of_this_machine(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert "is in an object store" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_can_be_bound_is_listed(capsys):
    assert main(["config", "fields", "sampling"]) == 0
    printed = capsys.readouterr().out
    assert (
        "sampling.top_k: int | None, 1 or more  = None\n    only the k largest logits stay"
        in printed
    )
    assert main(["config", "fields"]) == 0
    assert {"model", "train", "text_files"} <= set(capsys.readouterr().out.split())
    assert main(["config", "fields", "modle"]) == 1
    assert "did you mean `model`" in capsys.readouterr().err


def test_runs_are_listed_and_drawn(text, tmp_path, capsys):
    train = ["train", *SMALL, f"--gin.TEXT={text}", "--gin.execution.log_every=1"]
    assert main([*train, f"--run_dir={tmp_path / 'runs' / 'mine'}"]) == 0
    assert main([*train, f"--run_dir={tmp_path / 'runs' / 'bad'}", "--gin.mesh.data=3"]) == 1
    capsys.readouterr()
    assert main(["runs", str(tmp_path / "runs")]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "finished" in lines["mine"] and "3/3" in lines["mine"]
    assert "not begun" in lines["bad"]
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "config.gin").write_text("")
    (broken / "run.json").write_text("{bad")
    assert main(["runs", str(tmp_path / "runs")]) == 1
    printed = capsys.readouterr()
    assert "unreadable" in printed.out and "mine" in printed.out
    assert "error: " in printed.err and "run.json" in printed.err

    assert main(["runs", str(tmp_path / "nothing")]) == 0
    assert "no run in" in capsys.readouterr().out
    # A finished run is drawn once, and the command ends.
    assert main(["watch", str(tmp_path / "runs" / "mine")]) == 0
    page = (tmp_path / "runs" / "mine" / "watch.html").read_text()
    assert "gradient norm" in page and "heldout_loss/text" in page and "http-equiv" not in page
    assert main(["watch", str(tmp_path)]) == 1


def leaves(parser, explains=False):
    """Yields the parser of each command, and whether its help, or its parent's, explains gin."""
    explains = explains or GIN_HELP in (parser.epilog or "")
    below = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    for choices in below:
        for one in choices.values():
            yield from leaves(one, explains)
    if not below:
        yield parser, explains


def test_commands_take_the_configuration_that_their_help_explains():
    """`jaxgen rollouts` needed a gin file, which the command line refused to give it."""
    top = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    for name, command in top.items():
        for parser, explains in leaves(command):
            module = parser.get_default("function")[0]
            assert not explains or module in CONFIGURED, name
            source = Path(jaxgen.commands.__file__).parent / f"{module}.py"
            reads = "arguments.gin_files" in source.read_text()
            assert not reads or module in CONFIGURED, name
