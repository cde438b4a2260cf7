"""A train step of a U-Net or a DiT beside the same model, with the same weights, in `diffusers`.

    python tools/bench/diffusion_steps.py                        # a U-Net as Stable Diffusion's
    python tools/bench/diffusion_steps.py --network dit --width 192

Forward, squared error, backward and AdamW in float32 on one fixed batch; it needs torch and
diffusers (see tools/parity). The first losses of all candidates are printed and must agree.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from peers.torch_diffusion import Rows, build, make_peer
from timing import print_table, time_interleaved

from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.process import prepare_process


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", choices=("unet", "dit"), default="unet")
    for name, default in {"size": 16, "width": 64, "batch": 8, "rounds": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compiled", action="store_true", help="add torch.compile's row")
    arguments = parser.parse_args()
    prepare_process()
    network, size, width = arguments.network, arguments.size, arguments.width
    rows = random_rows(arguments.batch, size, width)
    peer = make_peer(network, size, width)
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        model = load_model(open_checkpoint(pathlib.Path(folder)))
    candidates: dict[str, Callable[[], float]] = {"jaxgen": jaxgen_step(network, model, rows)}
    candidates["diffusers"] = build(network, peer, rows, compiled=False)
    if arguments.compiled:
        again = make_peer(network, size, width)
        candidates["diffusers, compiled"] = build(network, again, rows, compiled=True)
    first = {name: step() for name, step in candidates.items()}
    print(" ".join(f"{name}: {loss:.6f}" for name, loss in first.items()))
    assert max(first.values()) - min(first.values()) < 1e-4, "these are not the same model"
    seconds = time_interleaved(candidates, arguments.rounds)
    count = model.config.denoiser.count_denoiser().total
    title = f"{network}: {count / 1e6:.1f} M parameters, {arguments.batch} x {size} x {size}"
    print_table(title, seconds, "diffusers")


def random_rows(batch: int, size: int, width: int) -> Rows:
    """One batch of noise."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=(batch, *shape)).astype(np.float32)

    shape, time = (size, size, 4), random.uniform(0, 1000, batch).astype(np.float32)
    labels = random.integers(0, 10, batch)
    return Rows(draw(*shape), draw(*shape), time, draw(16, width), labels)


def jaxgen_step(network: str, model, rows: Rows) -> Callable[[], float]:
    """A call that takes one step of training and waits for it."""
    optimizer = optax.adamw(1e-4, weight_decay=1e-2)
    told = Conditioning(sequence=jnp.asarray(rows.sequence))
    labels = Prompts(jnp.asarray(rows.labels[:, None], jnp.int32), jnp.ones(len(rows.time), int))

    def loss(model):
        conditioning = model.condition(labels) if network == "dit" else told
        made = model.denoise(jnp.asarray(rows.noisy), jnp.asarray(rows.time), conditioning)
        return jnp.mean(jnp.square(made - rows.noise))

    def train(state):
        model, moments = state
        value, gradient = jax.value_and_grad(loss)(model)
        updates, moments = optimizer.update(gradient, moments, model)
        return (optax.apply_updates(model, updates), moments), value

    train = jax.jit(train, donate_argnums=0)
    state = jax.jit(lambda model: (model, optimizer.init(model)))(model)

    def step() -> float:
        nonlocal state
        state, value = train(state)
        return float(value)

    return step


if __name__ == "__main__":
    main()
