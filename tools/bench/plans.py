"""Plans of published models: runs `jaxgen plan` for each, and writes docs/plans.md's table.

    python tools/bench/plans.py --folder=plans llama_8b gpt3   # compiles those two, in turn
    python tools/bench/plans.py --folder=plans                 # prints the table of what is there

A plan that is in the folder is not made again. It needs libtpu: pip install 'jaxgen[plan]'.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from kept import make_or_print

COMMON = "--gin_file=base.gin --gin_file=mixtures/quickstart.gin --gin.train.steps=1000"
COMMON += " --gin.model.compute_dtype=bfloat16 --gin.execution.remat=full --gin.mesh.data=1"

# 12 parts of heads and width, and 4 of the vocabulary, which 12 does not divide.
PALM = (
    "--gin_file=models/palm/540b.gin --gin.mesh.fsdp=256 --gin.mesh.tensor=4 --gin.mesh.expert=3 "
    "--gin.rules.heads=\"('tensor', 'expert')\" --gin.rules.mlp=\"('tensor', 'expert')\" "
    "--gin.rules.batch=\"('data', 'fsdp')\" --gin.train.batch_size=2048 --gin.train.length=2048 "
    "--gin.execution.accumulation=8"
)

OF_TEXT = {
    "llama_8b": "--topology=v6e:16x16 --gin_file=models/llama/3_1_8b.gin --gin.mesh.fsdp=256 "
    "--gin.train.batch_size=1024 --gin.train.length=8192",
    "llama_70b": "--topology=v6e:16x16 --gin_file=models/llama/3_1_70b.gin --gin.mesh.fsdp=256 "
    "--gin.train.batch_size=256 --gin.train.length=8192",
    "llama_70b_tensor": "--topology=v6e:16x16 --gin_file=models/llama/3_1_70b.gin "
    "--gin.mesh.fsdp=128 --gin.mesh.tensor=2 --gin.train.batch_size=128 --gin.train.length=8192",
    "gpt3_175b": "--topology=v5p:8x8x16 --gin_file=models/gpt3/175b.gin --gin.mesh.fsdp=1024 "
    "--gin.train.batch_size=1024 --gin.train.length=2048",
    "gpt3_175b_tensor": "--topology=v5p:8x8x16 --gin_file=models/gpt3/175b.gin "
    "--gin.mesh.fsdp=128 --gin.mesh.tensor=8 --gin.train.batch_size=1024 --gin.train.length=2048",
    "palm_540b": f"--topology=v4:12x16x16 {PALM}",
    "palm_540b_pods": f"--topology=2xv4:12x16x16 {PALM} --gin.mesh.data=2",
    "glam_64b_64e": "--topology=v5p:8x8x16 --gin_file=models/glam/64b_64e.gin --gin.mesh.fsdp=128 "
    "--gin.mesh.expert=8 --gin.train.batch_size=1024 --gin.train.length=1024",
    # 35 stages of 3 layers on 8 chips each, 8 times: a torus of 2,240.
    "mt_nlg_530b": "--topology=v5p:4x20x28 --gin_file=models/mt_nlg/530b.gin "
    "--gin_file=meshes/mt_nlg_530b.gin --gin.mesh.data=8 --gin.train.batch_size=1920 "
    "--gin.train.length=2048",
    # 16 rows of 131,072 tokens.
    "llama_8b_long": "--topology=v5p:4x4x8 --gin_file=models/llama/3_1_8b.gin "
    "--gin.mesh.fsdp=16 --gin.mesh.tensor=8 --gin.train.batch_size=16 --gin.train.length=131072",
    "mixtral_8x22b": "--topology=v5p:8x8x8 --gin_file=models/mixtral/8x22b.gin "
    "--gin.mesh.fsdp=256 --gin.mesh.tensor=2 --gin.train.batch_size=256 --gin.train.length=8192",
}

PICTURES = (
    "--gin_file=base.gin --gin_file=mixtures/sprites_drawn.gin --gin.run.model='@diffusion()'"
)
PICTURES += " --gin.run.mixture='@image_text_pairs()' --gin.train.steps=1000 --gin.mesh.data=1"
PICTURES += " --gin.model.compute_dtype=bfloat16 --gin.execution.remat=full"

OF_PICTURES = {
    # With its three encoders of captions and its autoencoder, as they are in training.
    "mmdit_8b": "--topology=v5p:2x2x4 --gin_file=models/stable_diffusion_3/whole_medium.gin "
    "--gin_file=models/stable_diffusion_3/large_3_5.gin "
    "--gin_file=objectives/stable_diffusion_3.gin --gin.image_text_pairs.image_size=1024 "
    "--gin.image_text_pairs.second_codec='@byte_codec()' --gin.stack.compute_dtype=bfloat16 "
    "--gin.kl_autoencoder.compute_dtype=bfloat16 --gin.mesh.fsdp=16 --gin.train.batch_size=64 "
    "--gin.train.length=77 --gin.train.source_length=77",
    # With T5 XXL's encoder.
    "imagen_base": "--topology=v5p:2x2x4 --gin_file=models/imagen/whole.gin "
    "--gin_file=objectives/imagen.gin --gin.image_text_pairs.image_size=64 "
    "--gin.unet.compute_dtype=bfloat16 --gin.mesh.fsdp=16 --gin.train.batch_size=2048 "
    "--gin.train.length=128",
}

PLANS = {name: f"{COMMON} {flags}" for name, flags in OF_TEXT.items()}
PLANS |= {name: f"{PICTURES} {flags}" for name, flags in OF_PICTURES.items()}


def main() -> None:
    """Makes the plans that are named, or prints a table of those that are there."""
    make_or_print(__doc__, PLANS, _make, table)


def command(name: str) -> str:
    """Returns the command of a plan."""
    return f"jaxgen plan {PLANS[name]}"


def table(folder: Path) -> list[str]:
    """Returns the lines of a table of the plans in a folder."""
    lines = [
        "| plan | topology | mesh | tokens a step | memory a chip, GiB: all (state + temporaries) "
        "| MFU at most, none overlapping | tokens/s/chip | bound by: compute, memory, links, s "
        "| compile, s | peak, GiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in PLANS:
        if _file(folder, name).exists():
            lines.append(_row(name, json.loads(_file(folder, name).read_text())))
    return lines


def _row(name: str, plan: dict[str, Any]) -> str:
    memory, times, speed = plan["memory"], plan["roofline"], plan["speed"]
    state = memory["parameters"] + memory["optimizer_state"] + memory["averages"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1)
    fits = "" if plan["fits"] else f"**{_gib(memory['excess'])} too much**: "
    cells = [
        name,
        plan["topology"],
        f"{mesh}, {plan['accumulation']} microbatches" if plan["accumulation"] > 1 else mesh,
        f"{plan['tokens_per_step']:,}",
        f"{fits}{_gib(memory['needed'])} ({_gib(state)} + {_gib(memory['temporaries'] or 0)}) "
        f"of {_gib(memory['limit'])}",
    ]
    if speed is None:
        cells += ["", "", ""]
    else:
        cells += [
            f"{speed['mfu']:.0%}, {speed['mfu_in_turn']:.0%}",
            f"{speed['tokens_per_second_per_chip']:,.0f}",
            f"{times['bound']}: {times['compute']:.2f}, {times['memory']:.2f}, "
            f"{times['interconnect']:.2f}",
        ]
    cells += [f"{plan['compile_seconds']:.0f}", _gib(plan["peak_bytes"])]
    return f"| {' | '.join(cells)} |"


def _make(folder: Path, name: str) -> None:
    if _file(folder, name).exists():
        return
    unfinished = folder / f"{name}.unfinished.json"
    words = shlex.split(command(name))[1:]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxgen", *words, f"--json={unfinished}"],
        stdout=(folder / f"{name}.txt").open("w"),
    )
    _, status, usage = os.wait4(process.pid, 0)
    if not unfinished.exists():
        raise SystemExit(f"{name}: status {os.waitstatus_to_exitcode(status)}")
    plan = json.loads(unfinished.read_text()) | {"peak_bytes": 1024 * usage.ru_maxrss}
    _file(folder, name).write_text(json.dumps(plan, indent=1) + "\n")
    unfinished.unlink()


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}"


if __name__ == "__main__":
    main()
