"""One dense training step beside its peers: PyTorch (where installed) and hand-written JAX.

    python tools/bench/train_step.py                              # this machine's CPU, float32
    python tools/bench/train_step.py --dtype bfloat16 --layers 12 --embed 768 --heads 12 \\
        --vocab 50304 --length 1024 --batch 32                    # a GPU, GPT-2 small

Every candidate takes the same model (LayerNorm, learned positions, GELU, tied table, no biases on
projections) through forward, backward and AdamW; peers are float32 as they are written.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np
from batches import full_rows
from peers.config import PeerConfig
from timing import print_table, time_interleaved

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.counting import training_flops_per_token
from jaxgen.process import prepare_process
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.step import make_train_step

Dtype = Literal["float32", "bfloat16"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"layers": 4, "embed": 256, "heads": 4, "vocab": 512, "length": 256, "batch": 16}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak_tflops", type=float, help="of the device: adds the utilisation")
    parser.add_argument("--only_jaxgen", action="store_true", help="leave the peers out")
    arguments = parser.parse_args()
    prepare_process()
    config = PeerConfig(
        num_layers=arguments.layers,
        embed_dim=arguments.embed,
        num_heads=arguments.heads,
        mlp_dim=4 * arguments.embed,
        vocab_size=arguments.vocab,
        length=arguments.length,
        batch_size=arguments.batch,
    )
    candidates: dict[str, Callable[[], object]] = {
        "jaxgen": jaxgen_step(config, arguments.dtype, unroll=config.num_layers),
        "jaxgen, scanned": jaxgen_step(config, arguments.dtype, unroll=1),
    }
    baseline = "jaxgen"
    if not arguments.only_jaxgen:
        from peers import plain_jax

        candidates["plain JAX"] = plain_jax.build(config)
        if importlib.util.find_spec("torch") is not None:
            from peers import torch_gpt

            candidates["PyTorch"] = torch_gpt.build(config)
            baseline = "PyTorch"
        else:
            print("PyTorch is not installed here: its row is left out.")
    seconds = time_interleaved(candidates, arguments.rounds)
    tokens = config.batch_size * config.length
    title = f"{arguments.layers} x {arguments.embed}, {jax.devices()[0].device_kind}"
    print_table(title, seconds, baseline, tokens)
    if arguments.peak_tflops:
        flops = tokens * training_flops_per_token(model_config(config, "float32"), config.length)
        best = flops / float(np.median(seconds["jaxgen"])) / 1e12
        print(f"jaxgen: {best:.1f} TFLOP/s, {100 * best / arguments.peak_tflops:.1f} % of the peak")


def model_config(config: PeerConfig, dtype: Dtype) -> TransformerConfig:
    """jaxgen's configuration of the peers' model."""
    return TransformerConfig(
        num_layers=config.num_layers,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        vocab_size=config.vocab_size,
        mlp_dim=config.mlp_dim,
        norm="layer",
        norm_epsilon=1e-5,
        layers=(LayerConfig(rope=None),),
        embedding_positions="learned",
        max_length=config.length,
        activation="gelu_tanh",
        gated=False,
        biases=("norm",),
        compute_dtype=dtype,
    )


def jaxgen_step(config: PeerConfig, dtype: Dtype, unroll: int) -> Callable[[], object]:
    """A call that takes one step of training and waits for it."""
    model = model_config(config, dtype)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    train = TrainConfig(steps=1000, batch_size=config.batch_size, length=config.length)
    program = build_program(model, train, mesh, ExecutionConfig(scan_unroll=unroll))
    batch = full_rows(config.batch_size, config.length, config.vocab_size)
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        train_step = make_train_step(program.objective, program.optimizer, train.clip_norm)
        on_device = put_batch(batch, mesh, Rules())

    def step() -> float:
        nonlocal state
        with jax.set_mesh(mesh):
            state, metrics = train_step(state, on_device)
        return float(metrics.objective)

    return step


if __name__ == "__main__":
    main()
