"""`tools/chaos`: disturbs runs, prints what came of it, and exits with 1 if anything was lost."""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from chaos_faults.faults import KINDS
from chaos_faults.rounds import Campaign
from chaos_faults.store import object_store
from chaos_faults.table import table, write_into
from chaos_faults.workload import ROOT


def main() -> int:
    """Returns the exit status: 0 if all faults were recovered from and all runs are equal."""
    parser = argparse.ArgumentParser(prog="tools/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the schedule; default: 0")
    parser.add_argument("--faults", type=int, default=100, help="how many; default: 100")
    parser.add_argument("--minutes", type=float, default=60, help="at most, about; default: 60")
    parser.add_argument("--steps", type=int, default=100, help="of each run; default: 100")
    parser.add_argument(
        "--only", action="append", default=[], help="kinds with this in their names; repeatable"
    )
    parser.add_argument("--folder", type=pathlib.Path, help="for the runs, which are then kept")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/reliability.md"
    )
    given = parser.parse_args()
    folder = given.folder or pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{(time.monotonic() - began) / 60:5.1f} min  {text}", flush=True)

    only = given.only or [""]
    kinds = tuple(kind for kind in KINDS if any(words in kind.name for words in only))
    with object_store() as store:
        campaign = Campaign(folder.absolute(), given.seed, given.steps, say, store)
        campaign.run(given.faults, given.minutes, kinds)
    minutes = (time.monotonic() - began) / 60
    lost = [one for one in campaign.outcomes if one.possible and not one.recovered]
    injected = sum(one.possible for one in campaign.outcomes)
    what = (
        f"`tools/chaos --seed={given.seed} --faults={given.faults}`: {injected} faults in "
        f"{minutes:.0f} minutes."
    )
    found = table(campaign.outcomes)
    print(f"\n{what}\n\n{found}")
    for problem in campaign.problems:
        print(f"PROBLEM: {problem}")
    if given.write:
        write_into(ROOT / "docs" / "reliability.md", f"\n{what}\n\n{found}\n")
    failed = bool(lost or campaign.problems or not injected)
    if given.folder is None and not failed:
        shutil.rmtree(folder)
    else:
        print(f"all runs are in {folder}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
