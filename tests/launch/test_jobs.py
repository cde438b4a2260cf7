"""What is given to a cluster: scripts, manifests and commands."""

import json
import shlex
import subprocess

import pytest

from jaxgen.cli import main
from jaxgen.clusters import process_group
from jaxgen.errors import ConfigError
from jaxgen.launch.gke import GkeJob
from jaxgen.launch.job import Job
from jaxgen.launch.ray import RayJob
from jaxgen.launch.slurm import SlurmJob
from jaxgen.launch.tpu import TpuJob

COMMAND = ("train", "--gin_file=a.gin", "--gin.TEXT=my folder/it's", "--run_dir=gs://b/run")
JOB = Job(COMMAND, "ladder-7", (("TOKEN", "a b"),), retries=5, grace_seconds=300)


def test_a_script_of_slurm_gives_the_command_back(tmp_path):
    """What the shell makes of the script, with commands of Slurm that print what they are given."""
    script = SlurmJob(JOB, nodes=4, gpus_per_node=8, options=["--partition=long"]).script()
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
    for restarts, queued_again in ((None, True), (4, True), (5, False)):
        variables = {"PATH": f"{stubs}:/usr/bin:/bin", "SLURM_JOB_ID": "17"}
        variables |= {} if restarts is None else {"SLURM_RESTART_COUNT": str(restarts)}
        done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)
        assert done.returncode == 3, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == "srun a b" and lines[-1 - 4 * queued_again :][0] == COMMAND[-1]
        assert tuple(lines[-len(COMMAND) - 4 * queued_again :][: len(COMMAND)]) == COMMAND
        assert ("scontrol a b" in lines) is queued_again


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
    (of_pods,) = job["podFailurePolicy"]["rules"]
    assert of_pods["action"] == "FailJob" and job["template"]["spec"]["restartPolicy"] == "Never"
    assert of_pods["onPodConditions"] == [{"type": "DisruptionTarget"}]


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
