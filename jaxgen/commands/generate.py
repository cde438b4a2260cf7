"""`jaxgen generate`: continues prompts with a run's model."""

from __future__ import annotations

import argparse
import sys

import jax
import numpy as np

from jaxgen.errors import ConfigError
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, pad_sources, sample
from jaxgen.process import prepare_process
from jaxgen.run import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def generate(arguments: argparse.Namespace) -> int:
    """Prints each prompt's continuations; of an encoder-decoder, what it says to each prompt.

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
        restored = restore(arguments.run_dir, mesh, arguments.step)
        codec = restored.config.mixture.codec
        has_encoder = restored.config.model.num_encoder_layers > 0
        encoded = [codec.encode(prompt) for prompt in prompts]
        encoded = [ids for ids in encoded for _ in range(arguments.num_samples)]
        source = None
        if has_encoder:
            ended = [np.append(ids, codec.end_id) for ids in encoded]
            source = pad_sources(ended, codec.pad_id)
            encoded = [ids[:0] for ids in encoded]
        # Every text that the model learnt from begins with the begin token.
        begun = [np.concatenate([[codec.begin_id], ids]) for ids in encoded]
        tokens, lengths = pad_prompts(begun, codec.pad_id)
        samples = sample(
            restored.model,
            tokens,
            lengths,
            jax.random.key(arguments.seed),
            policy=policy,
            max_tokens=arguments.max_tokens,
            end_id=codec.end_id,
            source=source,
        )
        for index, row in enumerate(np.asarray(samples.tokens)):
            prompt = "" if has_encoder else prompts[index // arguments.num_samples]
            print(prompt + codec.decode(row[: int(samples.lengths[index])]))
    return 0
