"""What is given to a cluster: scripts, manifests and commands."""

import argparse
import json
import shlex
import subprocess
import sys
import types

import pytest

from jaxgen.cli import main
from jaxgen.clusters import process_group
from jaxgen.errors import RESTART_STATUS, ConfigError
from jaxgen.launch.gke import GkeJob
from jaxgen.launch.job import Job
from jaxgen.launch.ray import RayJob, drive
from jaxgen.launch.slurm import SlurmJob
from jaxgen.launch.tpu import TpuJob

COMMAND = ("train", "--gin_file=a.gin", "--gin.TEXT=my folder/it's", "--run_dir=/mnt/b/run")
JOB = Job(COMMAND, "ladder-7", (("TOKEN", "a b"),), retries=5, grace_seconds=300)


def test_a_script_of_slurm_gives_the_command_back(tmp_path):
    """What the shell makes of the script, with commands of Slurm that print what they are given."""
    options, logs = ["--partition=long"], tmp_path / "it's logs"
    logs.mkdir()
    script = SlurmJob(JOB, nodes=4, gpus_per_node=8, logs=logs, options=options).script()
    settings = [line.split()[1] for line in script.splitlines() if line.startswith("#SBATCH")]
    wanted = {"--nodes=4", "--gpus-per-node=8", "--signal=TERM@300", "--requeue", "--time=24:00:00"}
    assert wanted <= set(settings) and settings[-1] == "--partition=long"
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, status in (("srun", 3), ("scontrol", 0)):
        (stubs / name).write_text(
            f'#!/bin/bash\necho "{name} $TOKEN"; printf "%s\\n" "$@"; exit {status}\n'
        )
        (stubs / name).chmod(0o755)
    for start in range(JOB.retries + 1):
        variables = {"PATH": f"{stubs}:/usr/bin:/bin", "SLURM_JOB_ID": "17"}
        done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
        queued_again = start < JOB.retries
        lines = done.stdout.splitlines()
        assert lines[0] == "srun a b" and lines[-1 - 4 * queued_again :][0] == COMMAND[-1]
        assert tuple(lines[-len(COMMAND) - 4 * queued_again :][: len(COMMAND)]) == COMMAND
        assert ("scontrol a b" in lines) is queued_again


LONG, SHORT = 3600, 5
"""Seconds that a start lasts."""


@pytest.mark.parametrize(
    ("starts", "last"),
    [
        ([(75, LONG)] * 9 + [(0, LONG)], 0),
        ([(75, LONG)] * 4 + [(3, LONG)] * 3, 3),
        ([(75, SHORT)] * 3, 75),
        ([(3, SHORT), (75, LONG), (75, SHORT), (75, LONG), (3, SHORT)], 3),
    ],
)
@pytest.mark.parametrize("where", ["slurm", "tpu"])
def test_a_start_that_asks_for_another_one_does_not_count(where, starts, last, tmp_path):
    """The shell runs the script with a command that ends so, after as long by a clock of its own.

    Two failures are allowed.
    """
    job = Job(COMMAND, "j", retries=2)
    stubs, logs = tmp_path / "bin", tmp_path / "logs"
    for folder in (stubs, logs, tmp_path / "jaxgen"):
        folder.mkdir()
    (tmp_path / "starts").write_text("".join(f"{status} {lasts}\n" for status, lasts in starts))
    command = """#!/bin/bash
        read status lasts < $HOME/starts
        sed -i 1d $HOME/starts
        echo $(($(date +%s) + lasts)) > $HOME/clock
        exit $status"""
    programs = {
        "srun": command, "python3": command, "sleep": "#!/bin/bash", "tail": "#!/bin/bash",
        "scontrol": "#!/bin/bash\necho $1 >> $HOME/queued",
        "date": "#!/bin/bash\ncat $HOME/clock 2>/dev/null || echo 100",
    }  # fmt: skip
    for name, text in programs.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    variables = {"PATH": f"{stubs}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "HOME": str(tmp_path)}
    if where == "tpu":
        script, count = TpuJob(job, "v5e:4x4", "z").remote_command(), 1
    else:
        script, count = SlurmJob(job, nodes=1, logs=logs).script(), len(starts)
    for _ in range(count):
        done = subprocess.run(
            ["bash", "-c", script], env=variables, cwd=tmp_path, capture_output=True, text=True
        )
    assert (tmp_path / "starts").read_text() == "", "all of them were made, and no more"
    if where == "slurm":
        assert done.returncode == last
        queued = (tmp_path / "queued").read_text().splitlines()
        assert queued == ["requeue"] * (len(starts) - 1)


@pytest.mark.parametrize(
    ("starts", "last"),
    [
        ([(75, LONG)] * 4 + [(0, LONG)], 0),
        ([(75, LONG), (75, SHORT), (9, LONG), (75, LONG), (-9, LONG)], 9),
    ],
)
def test_the_driver_on_ray_counts_alike(starts, last, monkeypatch):
    """With a Ray of which a task ends at once, after as long by the driver's clock."""
    left, clock = list(starts), [0.0]

    def end(*arguments):
        status, lasts = left.pop(0)
        clock[0] += lasts
        return status

    member = types.SimpleNamespace(
        address=types.SimpleNamespace(remote=lambda: "host:1"),
        run=types.SimpleNamespace(remote=end),
    )
    ray = types.SimpleNamespace(
        init=lambda **options: None, shutdown=lambda: None, kill=lambda one: None,
        remote=lambda **options: lambda kind: types.SimpleNamespace(remote=lambda: member),
        get=lambda found: found, wait=lambda running: (running, []),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", types.SimpleNamespace(RayError=OSError))
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    arguments = argparse.Namespace(
        command=["runs"], processes=1, cpus_per_process=1, gpus_per_process=0, retries=2
    )
    assert drive(arguments) == last and not left


@pytest.mark.parametrize(
    "topology, hosts, chips",
    [("v5p:8x8x16", 256, 4), ("v4:2x2x1", 1, 4), ("v5e:2x4", 1, 8), ("v6e:16x16", 64, 4)],
)
def test_a_slice_has_the_hosts_that_gke_gives_it(topology, hosts, chips):
    """Machine types of cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus."""
    manifest = json.loads(GkeJob(JOB, "image:1", topology, slices=2, queue="research").manifest())
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 5
    (replicated,) = manifest["spec"]["replicatedJobs"]
    pods = replicated["template"]["spec"]
    assert (replicated["replicas"], pods["parallelism"], pods["completions"]) == (2, hosts, hosts)
    pod = pods["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert container["command"] == ["python", "-m", "jaxgen", *COMMAND]
    assert pod["terminationGracePeriodSeconds"] == 300


def test_a_preemption_is_no_failure_of_gke():
    """As in JobSet's example of maintenance: its rule takes the reason of the pods' own."""
    spec = json.loads(GkeJob(JOB, "image:1", nodes=2, gpus_per_node=8).manifest())["spec"]
    (of_set,) = spec["failurePolicy"]["rules"]
    assert of_set["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert of_set["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    of_pods, of_status = job["podFailurePolicy"]["rules"]
    assert of_pods["action"] == "FailJob" and job["template"]["spec"]["restartPolicy"] == "Never"
    assert of_pods["onPodConditions"] == [{"type": "DisruptionTarget"}]
    # Nor is a start that asks for another one, by the fields of Kubernetes' PodFailurePolicy.
    assert of_status["action"] == "FailJob"
    (container,) = job["template"]["spec"]["containers"]
    codes = {"containerName": container["name"], "operator": "In", "values": [RESTART_STATUS]}
    assert of_status["onExitCodes"] == codes


def test_pods_with_gpus_find_one_another():
    """By the name that JobSet gives the first pod: SET-JOB-INDEX-POD.SET."""
    manifest = json.loads(GkeJob(JOB, "image:1", nodes=4, gpus_per_node=8).manifest())
    pod = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    environ = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    group = process_group(environ | {"JOB_COMPLETION_INDEX": "3"})  # Kubernetes adds this one.
    assert group is not None
    assert (group.count, group.index) == (4, 3)
    assert group.coordinator.startswith("ladder-7-slice-0-0.ladder-7:")


def test_tpu_machines_are_requested_by_their_cores_or_chips():
    """v5p counts cores, of which a chip has two; v5e counts chips (cloud.google.com/tpu/docs)."""
    for topology, accelerator in (("v5p:4x4x4", "v5p-128"), ("v5e:4x4", "v5litepod-16")):
        commands = TpuJob(JOB, topology, "us-east5-a").commands()
        assert f"--accelerator-type={accelerator}" in commands[0]
    remote = commands[-2][-1]
    done = subprocess.run(["bash", "-n", "-c", remote], capture_output=True, text=True)
    assert done.returncode == 0 and shlex.quote(COMMAND[2]) in remote


def test_a_submission_to_ray_holds_the_command():
    words = RayJob(JOB, processes=2, gpus_per_process=8, address="http://head:8265").submission()
    assert words[: words.index("--")][:4] == ["ray", "job", "submit", "--address=http://head:8265"]
    driver = shlex.split(words[-1])
    assert tuple(driver[driver.index("--") + 1 :]) == COMMAND


@pytest.mark.parametrize(
    "words, named",
    [
        (["slurm", "--nodes=2", "--name=My_Job"], "--name='My_Job'"),
        (["slurm", "--nodes=2", "--env=TOKEN"], "--env=TOKEN=VALUE"),
        (["gke", "--image=i"], "--topology"),
        (["gke", "--image=i", "--topology=v5p:8x8x16", "--gpus_per_node=8"], "--topology"),
        (["gke", "--image=i", "--topology=v9:2x2"], "v5p:8x8x16"),
        (["gke", "--image=i", "--topology=v4:3x1x1"], "3 chips"),
        (["tpu", "--topology=7x:2x2x1", "--zone=z"], "gke"),
    ],
)
def test_what_makes_no_sense_is_named(words, named, capsys):
    assert main(["launch", *words, "--", "runs"]) == 1
    assert named in capsys.readouterr().err


def test_submitting_needs_the_tool(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    for words in (
        ["slurm", "--nodes=1"],
        ["gke", "--image=i", "--topology=v5e:2x4"],
        ["tpu", "--topology=v5e:2x4", "--zone=z"],
        ["ray", "--processes=2"],
    ):
        assert main(["launch", *words, "--submit", "--", "runs"]) == 1
        assert "not on PATH" in capsys.readouterr().err


def test_a_name_must_become_a_host():
    with pytest.raises(ConfigError, match="host names"):
        Job(("runs",), "x" * 41)
