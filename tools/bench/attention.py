"""Attention in blocks beside dense attention, forward and backward, at growing lengths.

    python tools/bench/attention.py

A row of 8 heads of 64 in float32; temporaries are those of the compiled program. Beside the time
stands the processors' time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table
from timing import time_interleaved

from jaxgen.ops.attention.attend import attend
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, Bidirectional, Causal, Window, attention_side
from jaxgen.process import prepare_process
from jaxgen.sharding.layout import AttentionChoice, Layout, using

HEADS, HEAD_DIM = 8, 64
MASKS = {
    "causal": (Causal(),),
    "causal, window of 512": (Causal(), Window(512)),
    "every key": (Bidirectional(),),
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    prepare_process()
    table = Table(title=f"matrix products of 2,048: {products():.0f} GFLOP/s", title_justify="left")
    for heading in (
        "mask", "length", "dense ms", "blockwise ms", "time / dense", "processor time / dense",
        "dense MiB", "blockwise MiB",
    ):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "mask" else "right")
    for mask, predicates in MASKS.items():
        for length in arguments.lengths:
            table.add_row(mask, f"{length:,}", *compare(predicates, length, arguments.rounds))
    Console().print(table)


def compare(predicates: tuple[Any, ...], length: int, rounds: int) -> list[str]:
    """Returns the cells of one mask and length."""
    names: tuple[AttentionChoice, ...] = ("dense", "blockwise")
    call = make_call(predicates, length)
    compiled = {name: differentiated(name, call) for name in names}
    work: dict[str, list[float]] = {name: [] for name in names}

    def run(name: str) -> None:
        start = time.process_time()
        jax.block_until_ready(compiled[name](call))
        work[name].append(time.process_time() - start)

    calls = {name: functools.partial(run, name) for name in names}
    seconds = time_interleaved(calls, rounds=rounds, warm_up=1)
    ratios = [
        statistics.median(b / a for a, b in zip(*one.values(), strict=True))
        for one in (seconds, work)
    ]
    times = [f"{1e3 * statistics.median(seconds[name]):.0f}" for name in names]
    memory = [compiled[name].memory_analysis().temp_size_in_bytes / 2**20 for name in names]
    return [*times, *(f"{one:.2f}" for one in ratios), *(f"{one:.0f}" for one in memory)]


def make_call(predicates: tuple[Any, ...], length: int) -> AttentionCall:
    """Returns self-attention over a row of one segment."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, 1, HEADS, length, HEAD_DIM))
    places = jnp.arange(length, dtype=jnp.int32)[None]
    side = attention_side(places, jnp.ones_like(places))
    mask = AttentionMask(predicates, side, side, same_tokens=True)
    return AttentionCall(query * HEAD_DIM**-0.5, key, value, mask)


def differentiated(name: AttentionChoice, call: AttentionCall) -> Any:
    """Returns the compiled gradient of an attention's sum of squares."""

    def loss(call):
        with using(Layout(attention=name)):
            return jnp.sum(attend(call) ** 2)

    return jax.jit(jax.grad(loss, allow_int=True)).lower(call).compile()


def products() -> float:
    """Returns the best GFLOP/s of a product of float32 matrices."""
    matrix, seconds = jnp.ones((2048, 2048)), []
    multiply = jax.jit(jnp.matmul)
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready(multiply(matrix, matrix))
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


if __name__ == "__main__":
    main()
