"""`jaxgen launch local` as a person gives it."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.numpy import load_file
from support.processes import ROOT
from support.tiny_sweep import BINDINGS, done, write_file

from jaxgen.cli import main
from jaxgen.runs.run_directory import RunDirectory


def jaxgen(processes: int, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command in so many processes of two devices each."""
    launched = ["launch", "local", f"--processes={processes}", "--devices_per_process=2", "--"]
    command = [sys.executable, "-m", "jaxgen", *(launched if processes > 1 else []), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done


def test_what_it_needs_is_named(capsys):
    for words, named in (
        (["--processes=2"], "COMMAND"),
        (["--processes=0", "--", "runs"], "--processes"),
        (["--", "runs"], "--processes"),
    ):
        with pytest.raises(SystemExit):
            main(["launch", "local", *words])
        assert named in capsys.readouterr().err


@pytest.mark.slow
def test_a_failure_of_one_is_told_once_and_ends_all(tmp_path):
    words = ["evaluate", f"--run_dir={tmp_path}"]
    ended = jaxgen(2, *words, status=1)
    lines = [line for line in ended.stderr.splitlines() if "is not a run directory" in line]
    assert f"error: {tmp_path} is not a run directory" in lines[0]
    assert all(line.startswith("[1]") for line in lines[1:])


@pytest.mark.slow
def test_commands_leave_what_one_process_leaves(tmp_path):
    run = tmp_path / "run"
    bindings = [f"--gin.{one}" for one in (*BINDINGS, "train.batch_size=8")]
    bindings += ["--gin.model.vocab_size=320", "--gin.evaluation.batch_size=8"]
    jaxgen(1, "train", "--gin_file=runs/quickstart.gin", f"--run_dir={run}", *bindings)
    jaxgen(1, "export", f"--run_dir={run}", f"--output={tmp_path / 'hf'}")
    printed, rows = [], []
    for processes in (1, 2):
        own = tmp_path / f"imported{processes}"
        jaxgen(processes, "import", f"--from={tmp_path / 'hf'}", f"--output={own}")
        binding = "--gin.evaluation.batch_size=8"
        jaxgen(processes, "evaluate", f"--run_dir={own}", "--num_examples=2", binding)
        rows += [len(list((own / "evals").iterdir()))]
        generate = ["generate", f"--run_dir={own}", "--prompt=def ", "--max_tokens=8"]
        printed.append(jaxgen(processes, *generate, "--temperature=0").stdout)
        jaxgen(processes, "export", f"--run_dir={own}", f"--output={own}-hf")
    assert printed[0] == printed[1] and printed[0].startswith("def ")
    assert rows == [1, 1]
    for name in ("imported1-hf", "imported2-hf"):
        exported = load_file(tmp_path / name / "model.safetensors")
        for tensor, value in load_file(tmp_path / "hf" / "model.safetensors").items():
            assert (exported[tensor] == value).all()


@pytest.mark.slow
def test_a_sweep_trains_each_run_on_all_processes(tmp_path):
    file = write_file(
        tmp_path, "tiny", 2, "note", 0, "train.batch_size=8", "evaluation.batch_size=8"
    )
    folder = tmp_path / "tiny"
    ended = jaxgen(2, "sweep", str(file), f"--run_dir={folder}", "--go")
    assert "2 finished" in ended.stdout and (folder / "report.html").exists()
    assert done(file) == ["seed_0", "seed_1"]
    for name in ("seed_0", "seed_1"):
        record = RunDirectory(folder / name).read_record()
        assert record["finished"] and record["mesh"]["data"] == 4
        attempts = sorted((folder / name / "attempts").iterdir())
        assert [json.loads(one.read_text())["outcome"] for one in attempts] == ["finished"]
    assert "0 to do" in jaxgen(1, "sweep", str(file), f"--run_dir={folder}").stdout
