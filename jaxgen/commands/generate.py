"""`jaxgen generate`: continues prompts with a run's model."""

from __future__ import annotations

import argparse
import sys

import jax

from jaxgen.errors import ConfigError
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.process import prepare_process
from jaxgen.runs.run import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def generate(arguments: argparse.Namespace) -> int:
    """Prints each prompt with its continuations; for an encoder-decoder, its outputs alone.

    Args:
      arguments: `run_dir`, `step`, `prompt` (a list or None), `max_tokens`, `temperature`,
        `top_k`, `top_p`, `num_samples`, `seed`.
    """
    if arguments.max_tokens < 1 or arguments.num_samples < 1:
        raise ConfigError("--max_tokens and --num_samples must be positive.")
    policy = SamplingPolicy(arguments.temperature, arguments.top_k, arguments.top_p)
    prompts = arguments.prompt or [sys.stdin.read()]
    prepare_process()
    # One sequence cannot be split over devices by batch, so each device computes all of it.
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(arguments.run_dir, mesh, arguments.step, ema=arguments.ema)
        codec = restored.config.mixture.codec
        has_encoder = restored.transformer.has_encoder
        encoded = [codec.encode(prompt) for prompt in prompts]
        answers = continue_prompts(
            restored.model,
            codec,
            [ids for ids in encoded for _ in range(arguments.num_samples)],
            jax.random.key(arguments.seed),
            policy,
            arguments.max_tokens,
        )
        for index, ids in enumerate(answers):
            prompt = "" if has_encoder else prompts[index // arguments.num_samples]
            print(prompt + codec.decode(ids))
    return 0
