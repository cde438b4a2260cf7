"""A plan as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxgen.planning.changes import Change
from jaxgen.planning.plan import Expense, Memory, Plan
from jaxgen.planning.roofline import PARTS
from jaxgen.planning.search import Search
from jaxgen.sharding.mesh import split_axes

_NAME = 17


def plan_lines(plan: Plan, expense: Expense | None) -> list[str]:
    """Returns what a person needs to know of a plan."""
    lines = [
        _line("topology", f"{plan.topology}, {_devices(plan)}; mesh {_mesh(plan)}"),
        _line("step", f"{_step(plan)}; compiled in {plan.compile_seconds:.0f} s"),
        *_memory_lines(plan.memory),
        *_work_lines(plan),
        *_speed_lines(plan),
    ]
    return lines + list(_expense_lines(expense))


def changes_lines(changes: Sequence[Change]) -> list[str]:
    """Returns what would let a plan fit that does not."""
    if not changes:
        none = "no microbatch, rematerialisation, fsdp, tensor or sequence: take more chips"
        return [_line("what would fit", none)]
    lines = [_line("would fit", f"{gib(one.needed)}: {one.flags}") for one in changes[:4]]
    return [*lines, _line("", "by arithmetic; plan again to be sure")]


def search_lines(search: Search) -> list[str]:
    """Returns how many layouts were tried, and a line for each that was compiled."""
    lines = [f"{search.tried:,} layouts, {len(search.possible):,} that may fit; compiled:"]
    for number, plan in enumerate(search.plans, 1):
        speed = plan.speed
        fits = f"{gib(plan.memory.needed)}" + ("" if plan.fits else " DOES NOT FIT")
        bounds = "" if speed is None else f", MFU {speed.mfu_in_turn:.1%} to {speed.mfu:.1%}"
        flags = f"remat {plan.remat}, accumulation {plan.accumulation}"
        lines.append(f"{number}. {_mesh(plan)}, {flags}: {fits}{bounds}")
    return lines


def _step(plan: Plan) -> str:
    if plan.step == "decode":
        return f"decoding a token of each of {plan.tokens_per_step:,} sequences"
    return (
        f"{plan.tokens_per_step:,} tokens in {plan.accumulation} microbatch(es) of "
        f"{plan.microbatch} rows, remat {plan.remat}"
    )


def _devices(plan: Plan) -> str:
    if plan.devices == plan.chips:
        return f"{plan.chips:,} chips"
    return f"{plan.chips:,} chips of {plan.devices // plan.chips} devices (figures are a device's)"


def _mesh(plan: Plan) -> str:
    return split_axes(plan.mesh) or "of one"


def _memory_lines(memory: Memory) -> Iterator[str]:
    limit = "" if memory.limit is None else f" of {gib(memory.limit)}"
    yield _line("memory", f"{gib(memory.needed)}{limit} a device")
    parts = [
        ("parameters", memory.parameters),
        ("optimizer state", memory.optimizer_state),
        ("averages", memory.averages),
        ("batch", memory.batch),
        ("cache", memory.cache),
        ("temporaries", memory.temporaries),
        ("  activations", memory.activations),
        ("program", memory.code),
    ]
    for name, size in parts:
        if size:
            yield _line(f"  {name}", gib(size))
    if memory.on_host:
        yield _line("on the host", f"{gib(memory.on_host)} of optimizer state a device")
    if memory.excess:
        yield _line("does not fit", f"{gib(memory.excess)} too much")
    for buffer in memory.largest[:8] if memory.excess else ():
        yield _line(f"  {gib(buffer.bytes)}", f"{buffer.shape}  {buffer.operation}")


def _work_lines(plan: Plan) -> Iterator[str]:
    if plan.work is None:
        return
    work = plan.work
    share = work.flops / plan.model_flops
    yield _line(
        "operations", f"{work.flops:.3e} FLOPs a device and step, {share:.2f} of the closed form"
    )
    yield _line("traffic", f"{gib(work.traffic)} to and from memory")
    for one in work.collectives:
        if one.bytes >= 2**20:
            over = " x ".join(one.axes)
            between = " between slices" if one.between_slices else ""
            yield _line("  " + one.kind, f"{over}{between}: {one.calls:,} calls, {gib(one.bytes)}")
    for name, calls in work.silent_kernels.items():
        yield _line("  not counted", f"operations of {calls:,} calls of the kernel {name}")
    if work.endless_loops:
        yield _line("  counted once", f"{work.endless_loops} loop(s) whose length data decides")


def _speed_lines(plan: Plan) -> Iterator[str]:
    times, speed = plan.roofline, plan.speed
    if times is None or speed is None:
        if plan.work is not None:
            yield _line("speed", "no figures of this chip are known: no times")
        return
    yield _line(
        "roofline",
        f"{speed.seconds:.4g} s a step at least, bound by {times.bound}: "
        + ", ".join(
            f"{name} {getattr(times, name):.4g} s" for name in PARTS if getattr(times, name)
        ),
    )
    for axes, seconds in times.by_axes.items():
        if seconds >= 0.001 * speed.seconds:
            yield _line("  " + " x ".join(axes), f"{seconds:.4g} s of collectives")
    yield _line("MFU", f"{speed.mfu:.1%} at most; {speed.mfu_in_turn:.1%} if nothing overlaps")
    yield _line(
        "speed",
        f"{speed.tokens_per_second:,.0f} tokens/s at most, "
        f"{speed.tokens_per_second_per_chip:,.0f} a chip",
    )


def _expense_lines(expense: Expense | None) -> Iterator[str]:
    if expense is None:
        return
    yield _line(
        "whole run",
        f"{expense.tokens:,} tokens: {expense.days:.3g} days, {expense.chip_hours:,.0f} chip-hours "
        "at least",
    )
    if expense.price is not None:
        yield _line("  price", f"{expense.price:,.0f}")
    if expense.energy_kwh is not None:
        yield _line("  energy", f"{expense.energy_kwh:,.0f} kWh")


def gib(size: float) -> str:
    """Returns bytes in the unit that chips are sold by."""
    for factor, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size} B"


def _line(name: str, text: str) -> str:
    return f"{name:<{_NAME}} {text}"
