"""Two processes read and write one checkpoint together."""

import os
import socket
import subprocess
import sys

import pytest
from safetensors.numpy import load_file
from support.helpers import build
from support.interchange_tiny import CONFIGS

from jaxgen.interchange.configs import find_family, read_config
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.families import FAMILIES

PROCESS = """
import sys
import jax
port, process, source, target = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.layout import Layout
with jax.set_mesh(make_mesh(MeshConfig(data=1, fsdp=2, tensor=2))):
    model = load_model(open_checkpoint(source), Layout())
    assert not model.embedding.table[...].is_fully_addressable
    export_model(model, target)
"""


@pytest.mark.slow
def test_processes_share_the_work(tmp_path):
    values = CONFIGS["mixtral"]
    source, target = tmp_path / "source", tmp_path / "target"
    export_model(build(read_config(find_family(FAMILIES, values), values)), source)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, port, number, str(source), str(target)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors[-2000:]
    finally:
        for process in processes:
            process.kill()
    before, after = (load_file(folder / "model.safetensors") for folder in (source, target))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
