"""The speed of rollouts beside plain generation, and their share of a step.

    python tools/bench/rollouts.py [--prompts 32] [--group 8] [--max_tokens 32] [--width 64]

Both sample as many completions of the same prompts with one model on one mesh: `continue_prompts`,
which `jaxgen generate` calls, and `sample_groups`, which makes a rollout of them. The update is one
of GRPO on those completions. The best of five in turn counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jaxgen.configuration import load
from jaxgen.generation.continuing import continue_prompts
from jaxgen.posttraining.prompts import Prompts
from jaxgen.posttraining.sampled_groups import sample_groups
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program

TURNS = 5


def main() -> None:
    """Prints a table of seconds and tokens a second."""
    parser = argparse.ArgumentParser(description="Rollouts beside plain generation.")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--max_tokens", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    prompts, group, most = arguments.prompts, arguments.group, arguments.max_tokens
    config: Any = load(
        ["runs/sums_rewarded.gin"],
        [f"model.embed_dim={arguments.width}", f"model.mlp_dim={2 * arguments.width}",
         f"train.length={most + 8}", f"train.batch_size={prompts}", f"rollouts.group={group}",
         f"rollouts.max_tokens={most}", "run.initialize_from=None"],
    )  # fmt: skip
    rollouts, train = config.mixture, config.train
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    program = build_program(config.model, train, mesh, ExecutionConfig(), config.objective)
    asked = [one.ids for one in Prompts(rollouts.tasks, None, 0, 8).at(0, prompts)]
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        key, codec = jax.random.key(0), rollouts.codec

        def plain() -> Any:
            # The begin token is put before each prompt there.
            each = [ids[1:] for ids in asked for _ in range(group)]
            writer = state.model.language_model  # An update donates those before.
            return continue_prompts(writer, codec, each, key, rollouts.policy, most, stops=(0,))

        def sampled() -> Any:
            return sample_groups(
                state.model, codec, asked, group, key, rollouts.policy, most, train.length
            )

        data = rollouts.open(batch_size=prompts, length=train.length, seed=0)

        def rollout() -> Any:
            data.go_on_from({})
            return data.batch(0, state)

        step = program.train_step(1)
        batch = put_batch(rollout(), mesh, program.execution.rules)

        def update() -> Any:
            nonlocal state
            state, metrics = step(state, batch)
            return jax.block_until_ready(metrics)

        parts = {
            "plain generation": plain,
            "sampled groups": sampled,
            "whole rollout (rewards, reference)": rollout,
            "update": update,
        }
        seconds = best_in_turn(parts)
    tokens, plain_seconds = prompts * group * most, seconds["plain generation"]
    table = Table("", "seconds", "tokens/s", "of plain generation")
    for name, one in seconds.items():
        table.add_row(name, f"{one:.3f}", f"{tokens / one:,.0f}", f"{one / plain_seconds:.2f}")
    Console(width=100).print(table)
    whole, one = seconds["whole rollout (rewards, reference)"], seconds["update"]
    print(f"share of the step that is spent in the rollout: {whole / (whole + one):.0%}")


def best_in_turn(parts: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Returns the best seconds of each part, after one call that compiles."""
    for part in parts.values():
        part()
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(TURNS):
        for name, part in parts.items():
            begun = time.perf_counter()
            part()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


if __name__ == "__main__":
    main()
