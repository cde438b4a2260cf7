"""Scripts that several processes run together, as `jaxgen launch local` starts them."""

import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.launch.local import run_processes

ROOT = Path(__file__).parents[2]

BEGINNING = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from jaxgen.process import prepare_process
prepare_process()
"""
ENDING = """
import json
from jaxgen.distributed import is_main
if is_main():
    json.dump(found, open({path!r}, "w"))
"""


def together(
    folder: Path,
    script: str,
    processes: int,
    devices_per_process: int,
    wrapper: Sequence[str] = (),
) -> Any:
    """Runs a script in several processes, and returns what its main process leaves in `found`.

    Args:
      folder: for the script and its result.
      script: sets `found`, which JSON can hold.
      processes: how many.
      devices_per_process: simulated.
      wrapper: the words of a command that runs those after it.
    """
    file, result = folder / f"script{processes}.py", folder / f"found{processes}.json"
    beginning = BEGINNING.format(root=str(ROOT), tests=str(ROOT / "tests"))
    ending = ENDING.format(path=str(result))
    file.write_text(beginning + textwrap.dedent(script) + ending)
    command = [*wrapper, sys.executable, str(file)]
    assert run_processes(command, processes, devices_per_process) == 0
    return json.loads(result.read_text())
