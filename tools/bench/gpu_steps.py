"""Train steps on one GPU beside PyTorch's, and the GPU's kernels against their references.

    tools/bench/gpu          # everything, in under 8 minutes
    tools/bench/gpu --tiny   # the same at sizes for a CPU

Each candidate runs in a process of its own, which has the whole memory. A table and a JSON line a
candidate are printed; the status is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from peers.config import DecoderConfig

SECONDS = 110
"""For one candidate, compilation included; four models in two frameworks are 8 minutes at most."""
STEPS = 20


CASES = {
    "GPT-2 small": DecoderConfig("gpt2", 12, 768, 12, 12, 3072, 50_304, 1024, 32),
    "Llama 1B": DecoderConfig("llama", 16, 2048, 32, 8, 8192, 128_256, 4096, 4),
    "8 experts": DecoderConfig("llama", 16, 1024, 16, 4, 2816, 32_000, 2048, 16, experts=8),
    "dense as 2 experts": DecoderConfig("llama", 16, 1024, 16, 4, 5632, 32_000, 2048, 16),
}
TINY = {
    name: dataclasses.replace(
        case,
        num_layers=2,
        embed_dim=64,
        num_heads=4,
        kv_heads=4 if case.kv_heads == case.num_heads else 2,
        mlp_dim=case.mlp_dim // 32,
        vocab_size=512,
        length=128,
        rows=2,
    )
    for name, case in CASES.items()
}
FRAMEWORKS = ("jaxgen", "PyTorch")
Functions = tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]


def main() -> None:
    """Runs all candidates, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    parser.add_argument("--case", help="one candidate, in this process")
    parser.add_argument("--framework", choices=(*FRAMEWORKS, "kernels"))
    arguments = parser.parse_args()
    if arguments.framework == "kernels":
        print(json.dumps(verify_kernels()))
    elif arguments.case:
        case = (TINY if arguments.tiny else CASES)[arguments.case]
        print(json.dumps(measure(case, arguments.framework, 3 if arguments.tiny else STEPS)))
    else:
        sys.exit(run_all(arguments.tiny))


def run_all(tiny: bool) -> int:
    """Runs every candidate in a process of its own, prints a table, returns the status."""
    begun = time.monotonic()
    found: dict[tuple[str, str], dict[str, Any]] = {
        ("kernels", "kernels"): _in_process(["--framework=kernels"])
    }
    print("kernels", json.dumps(found["kernels", "kernels"]), flush=True)
    for name in CASES:
        for framework in FRAMEWORKS:
            words = [f"--case={name}", f"--framework={framework}", *["--tiny"] * tiny]
            found[name, framework] = _in_process(words)
            print(name, framework, json.dumps(found[name, framework]), flush=True)
    heads = ["model", "framework", "tokens/s", "MFU", "of PyTorch's speed", "GiB", "compile, s"]
    print(f"\n| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|")
    for name in CASES:
        for framework in FRAMEWORKS:
            one, peer = found[name, framework], found[name, "PyTorch"]
            if "error" in one:
                cells = [one["error"], "", "", "", ""]
            else:
                cells = [
                    f"{one['tokens_per_second']:,.0f}",
                    f"{one['mfu']:.1%}" if one["mfu"] else "",
                    f"{one['tokens_per_second'] / peer['tokens_per_second']:.2f}"
                    if "error" not in peer
                    else "",
                    f"{one['peak_bytes'] / 2**30:.1f}" if one["peak_bytes"] else "",
                    f"{one['compile_seconds']:.0f}",
                ]
            print(f"| {name} | {framework} | {' | '.join(cells)} |")
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    return int(any("error" in one for one in found.values()))


def _in_process(words: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {SECONDS} s"}
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr, flush=True)
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(case: DecoderConfig, framework: str, steps: int) -> dict[str, Any]:
    """Returns tokens/s over `steps` after three that do not count, the MFU, and the memory."""
    model = model_of(case)
    build = jaxgen_step if framework == "jaxgen" else torch_step
    step, wait, device = build(case, model)
    begun = time.perf_counter()
    for _ in range(3):
        loss = step()
        wait()
    compiled = time.perf_counter()
    for _ in range(steps):
        loss = step()
    wait()
    seconds = (time.perf_counter() - compiled) / steps
    tokens = case.rows * case.length
    peak, peak_bytes = device()
    return {
        "tokens_per_second": tokens / seconds,
        "mfu": tokens * model.flops(case.length) / seconds / peak if peak else None,
        "peak_bytes": peak_bytes,
        "compile_seconds": compiled - begun,
        "loss": float(loss),
    }


def model_of(case: DecoderConfig) -> Any:
    """Returns jaxgen's configuration of a case."""
    from jaxgen.models.block_config import LayerConfig
    from jaxgen.models.config import TransformerConfig
    from jaxgen.ops.moe_config import MoEConfig

    changes: dict[str, Any] = {}
    if case.style == "gpt2":
        changes = {
            "norm": "layer",
            "layers": (LayerConfig(rope=None),),
            "embedding_positions": "learned",
            "max_length": case.length,
            "activation": "gelu_tanh",
            "gated": False,
            "biases": ("qkv", "attention_out", "feed_forward", "norm"),
        }
    if case.experts:
        changes["moe"] = MoEConfig(case.experts, case.per_token, mlp_dim=case.mlp_dim)
    return TransformerConfig(
        num_layers=case.num_layers,
        embed_dim=case.embed_dim,
        num_heads=case.num_heads,
        num_kv_heads=case.kv_heads,
        mlp_dim=case.mlp_dim,
        vocab_size=case.vocab_size,
        compute_dtype="bfloat16",
        **changes,
    )


def jaxgen_step(case: DecoderConfig, model: Any) -> Functions:
    """Returns a step, a function that waits for it, and one that tells of the device."""
    import jax
    from batches import full_rows

    from jaxgen.chips import peak_of
    from jaxgen.sharding.mesh import MeshConfig, make_mesh
    from jaxgen.training.config import TrainConfig
    from jaxgen.training.execution import ExecutionConfig
    from jaxgen.training.loading import put_batch
    from jaxgen.training.program import build_program

    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    train = TrainConfig(steps=1000, batch_size=case.rows, length=case.length)
    execution = ExecutionConfig(MeshConfig(data=1), scan_unroll=case.num_layers)
    program = build_program(model, train, mesh, execution)
    batch = full_rows(case.rows, case.length, case.vocab_size)
    with jax.set_mesh(mesh):
        state: Any = program.fresh_state()
        on_device = put_batch(batch, mesh, execution.rules)
    train_step, loss = program.train_step(), None

    def step() -> Any:
        nonlocal state, loss
        with jax.set_mesh(mesh):
            state, metrics = train_step(state, on_device)
        loss = metrics.objective
        return loss

    def device() -> tuple[float | None, int | None]:
        statistics = jax.devices()[0].memory_stats() or {}
        return peak_of(jax.devices()[0].device_kind), statistics.get("peak_bytes_in_use")

    return step, lambda: jax.block_until_ready(loss), device


def torch_step(case: DecoderConfig, model: Any) -> Functions:
    """Returns the same of PyTorch; MFU is by the same FLOPs of the same device."""
    del model
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is not installed here")
    from peers.torch_decoder import build

    from jaxgen.chips import peak_of

    step, wait, describe = build(case)

    def device() -> tuple[float | None, int | None]:
        name, peak_bytes = describe()
        return peak_of(name), peak_bytes

    return step, wait, device


def verify_kernels() -> dict[str, Any]:
    """Returns the largest errors of the platform's kernels, as shares of the largest number.

    Raises:
      AssertionError: if one is above what bfloat16 explains.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgen.ops.attention.attend import IMPLEMENTATIONS
    from jaxgen.ops.attention.call import AttentionCall
    from jaxgen.ops.attention.dense import dense_attention
    from jaxgen.ops.attention.masks import AttentionMask, Causal, Window, attention_side
    from jaxgen.ops.grouped_matmul import (
        default_implementation,
        grouped_matmul,
        make_row_blocks,
    )
    from jaxgen.sharding.layout import Layout, using

    platform, errors = jax.default_backend(), {}
    keys = jax.random.split(jax.random.key(0), 5)
    shape = (2, 4, 512, 64)
    query, key, value = (jax.random.normal(k, shape, jnp.bfloat16) for k in keys[:3])
    places = jnp.broadcast_to(jnp.arange(512, dtype=jnp.int32), (2, 512))

    def compare(name: str, one: Callable[..., Any], other: Callable[..., Any], *operands: Any):
        """Compares outputs and gradients for each of what the first operand lists."""
        cases, *floats = operands

        def both(function: Callable[..., Any]) -> list[Any]:
            def total(case: Any, *floats: Any) -> Any:
                out = function(case, *floats).astype(jnp.float32)
                return jnp.sum(jnp.sin(out)), out

            which = tuple(range(1, 1 + len(floats)))
            differentiate = jax.jit(jax.value_and_grad(total, argnums=which, has_aux=True))
            found = [differentiate(case, *floats) for case in cases]
            return [
                np.asarray(x, np.float32)
                for (_, out), gradients in found
                for x in (out, *gradients)
            ]

        pairs = zip(both(one), both(other), strict=True)
        errors[name] = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)

    kernels = [
        (name, one) for name, one in IMPLEMENTATIONS.items() if one.platform in (platform, None)
    ]
    # Segments of a row: as few as cuDNN has least room for, more, and more than it is asked for.
    sides = [attention_side(places % size, 1 + places // size) for size in (200, 50, 7)]
    for name, one in kernels:
        for predicates in ((Causal(),), (Causal(), Window(100))):

            def call(side, query, key, value, predicates=predicates):
                mask = AttentionMask(predicates, side, side, same_tokens=True)
                return AttentionCall(query, key, value, mask)

            if name in ("dense", "ring") or one.refusal(call(sides[0], query, key, value)):
                continue

            def attend(*operands, call=call, compute=one.compute):
                with using(Layout()):
                    return compute(call(*operands))

            def reference(*operands, call=call):
                return attend(*operands, call=call, compute=dense_attention)

            window = " with a window" if len(predicates) > 1 else ""
            compare(f"{name} attention{window}", attend, reference, sides, query, key, value)
    blocks = make_row_blocks(jnp.array([300, 0, 500, 90], jnp.int32), 1024, 128)
    count = 128 * len(blocks.block_groups)
    is_row = jnp.arange(count) < 128 * blocks.num_blocks
    rows = jax.random.normal(keys[3], (count, 256), jnp.bfloat16) * is_row[:, None]
    matrices = jax.random.normal(keys[4], (4, 256, 512), jnp.bfloat16)
    chosen = default_implementation((256, 512), jnp.bfloat16)

    def product(implementation):
        def multiply(blocks, rows, matrices):
            return grouped_matmul(rows, matrices, blocks, implementation) * is_row[:, None]

        return multiply

    name = f"grouped products by {chosen}"
    compare(name, product(chosen), product("ragged_dot"), [blocks], rows, matrices)
    assert max(errors.values()) < 0.03, errors
    return {"platform": platform, **errors}


if __name__ == "__main__":
    main()
