"""The reader of HLO text, against text written by hand and against XLA's own count."""

import jax
import jax.numpy as jnp
import pytest

from jaxgen.planning.hlo import arrays_in, parse_module
from jaxgen.planning.operations import flops_of
from jaxgen.planning.replica_groups import axes_of, first_group
from jaxgen.planning.traffic import traffic_of
from jaxgen.planning.work import read_work

MESH = {"data": 1, "fsdp": 4, "tensor": 2}

# As the compiler for TPU writes it: a loop of 5 runs that a condition counts, a gather that is
# spread over two fusions, a scatter of a sum as a fusion, and arrays in the fast memory, S(1).
TPU = """\
HloModule jit_step, is_scheduled=true

%gathered.1 (p0: bf16[256,128]) -> bf16[1024,128] {
  %p0 = bf16[256,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[1024,128]{1,0:T(8,128)(2,1)S(1)} all-gather(%p0), channel_id=7, \
replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, frontend_attributes={chain_id="0"}
}

%all-reduce-scatter.2 (p1: f32[1024,128]) -> f32[256,128] {
  %p1 = f32[1024,128]{1,0} parameter(0)
  %all-reduce.3 = f32[1024,128]{1,0} all-reduce(%p1), channel_id=1, \
replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %piece = f32[256,128]{1,0} dynamic-slice(%all-reduce.3, %zero, %zero), \
dynamic_slice_sizes={256,128}
}

%body (state: (s32[], bf16[256,128], f32[1024,128])) -> (s32[], bf16[256,128], f32[1024,128]) {
  %state = (s32[], bf16[256,128], f32[1024,128]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %w = bf16[256,128]{1,0} get-tuple-element(%state), index=1
  %g = f32[1024,128]{1,0} get-tuple-element(%state), index=2
  %fusion.1 = bf16[1024,128]{1,0:S(1)} fusion(%w), kind=kLoop, calls=%gathered.1
  %fusion.2 = bf16[1024,128]{1,0:S(1)} fusion(%w), kind=kLoop, calls=%gathered.1
  %dot.1 = f32[128,128]{1,0:S(1)} dot(%fusion.1, %fusion.2), lhs_contracting_dims={0}, \
rhs_contracting_dims={0}
  %scattered = f32[256,128]{1,0} fusion(%g), kind=kCustom, calls=%all-reduce-scatter.2
  ROOT %tuple.1 = (s32[], bf16[256,128], f32[1024,128]) tuple(%next, %w, %g)
}

%cond (state.2: (s32[], bf16[256,128], f32[1024,128])) -> pred[] {
  %five = s32[]{:T(128)} constant(5)
  %state.2 = (s32[], bf16[256,128], f32[1024,128]) parameter(0)
  %i.2 = s32[] get-tuple-element(%state.2), index=0
  ROOT %less = pred[] compare(%i.2, %five), direction=LT
}

ENTRY %main (a: bf16[256,128], b: f32[1024,128]) -> f32[1024,128] {
  %a = bf16[256,128]{1,0} parameter(0)
  %b = f32[1024,128]{1,0} parameter(1)
  %start = s32[] constant(0)
  %tuple.2 = (s32[], bf16[256,128], f32[1024,128]) tuple(%start, %a, %b)
  %while.1 = (s32[], bf16[256,128], f32[1024,128]) while(%tuple.2), condition=%cond, body=%body
  ROOT %result = f32[1024,128]{1,0} get-tuple-element(%while.1), index=2
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    work = read_work(TPU, MESH)
    assert work.flops == 5 * 2 * 1024 * 128 * 128
    assert work.endless_loops == 0


def test_a_collective_that_is_spread_over_fusions_counts_once():
    found = {(one.kind, one.axes): one for one in read_work(TPU, MESH).collectives}
    gather = found["all-gather", ("fsdp",)]
    assert (gather.calls, gather.bytes, gather.group) == (5, 5 * 2 * 1024 * 128, (0, 2, 4, 6))
    scatter = found["reduce-scatter", ("fsdp",)]
    assert (scatter.calls, scatter.bytes) == (5, 5 * 4 * 1024 * 128)
    assert len(found) == 2


def test_traffic_leaves_out_fast_memory():
    module = parse_module(TPU)
    body = module.computations["body"]
    size = 2 * 256 * 128
    assert traffic_of(module, body, body.instructions["fusion.1"]) == size
    assert traffic_of(module, body, body.instructions["dot.1"]) == 0


@pytest.mark.parametrize(
    ("start", "copied", "moved"),
    [
        ("(f32[16,256]{1,0}, f32[16,256]{1,0:S(1)}, u32[]) copy-start(%a)", "S(1)", 16 * 1024),
        ("(f32[16,256]{1,0}, f32[16,256]{1,0}, u32[]) copy-start(%a)", "", 2 * 16 * 1024),
        ("((f32[16,256]{1,0}), f32[2,256]{1,0:S(1)}, s32[]) slice-start(%a)", "S(1)", 2 * 1024),
        ("(f32[16,256]{1,0}, u32[], token[]) send(%a)", "", 16 * 1024),
    ],
)
def test_what_is_copied_in_the_background_moves_once(start, copied, moved):
    text = f"""\
HloModule copies

ENTRY %main (a: f32[16,256]) -> f32[16,256] {{
  %a = f32[16,256]{{1,0}} parameter(0)
  %start = {start}
  ROOT %done = f32[16,256]{{1,0:{copied}}} copy-done(%start)
}}
"""
    assert read_work(text, {}).traffic == moved


def test_a_fusion_reads_what_it_slices_and_writes_what_it_updates():
    """Also where the slice and the update are in fusions of its own."""
    text = """\
HloModule slices

%sliced (s: f32[16,256], i: s32[]) -> f32[1,256] {
  %s = f32[16,256]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,256]{1,0} dynamic-slice(%s, %i, %zero), dynamic_slice_sizes={1,256}
}

%updated (s.2: f32[16,256], i.2: s32[]) -> f32[16,256] {
  %s.2 = f32[16,256]{1,0} parameter(0)
  %i.2 = s32[] parameter(1)
  %zero.2 = s32[] constant(0)
  %part = f32[1,256]{1,0} fusion(%s.2, %i.2), kind=kLoop, calls=%sliced
  ROOT %update = f32[16,256]{1,0} dynamic-update-slice(%s.2, %part, %i.2, %zero.2)
}

ENTRY %main (a: f32[16,256], n: s32[]) -> f32[16,256] {
  %a = f32[16,256]{1,0} parameter(0)
  %n = s32[]{:S(6)} parameter(1)
  ROOT %fusion = f32[16,256]{1,0} fusion(%a, %n), kind=kLoop, calls=%updated
}
"""
    assert read_work(text, {}).traffic == 2 * 4 * 256


@pytest.mark.parametrize(
    ("text", "group", "axes"),
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", (0, 1), ("tensor",)),
        ("replica_groups=[2,4]<=[4,2]T(1,0), x", (0, 2, 4, 6), ("fsdp",)),
        ("replica_groups=[4,2]<=[8]", (0, 1), ("tensor",)),
        ("replica_groups=[1,8]<=[8]", tuple(range(8)), ("fsdp", "tensor")),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}", (0, 2, 4, 6), ("fsdp",)),
        ("replica_groups=mesh['a'=8] {'a':(2)4}, y", (0, 1, 2, 3), ("fsdp", "tensor")),
        (
            "replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}",
            (0, 2, 4, 6),
            ("fsdp",),
        ),
        ("source_target_pairs={{0,2},{2,4},{4,6},{6,0}}", (0, 2), ("fsdp",)),
        ("replica_groups={}", tuple(range(8)), ("fsdp", "tensor")),
    ],
)  # fmt: skip
def test_replica_groups_in_every_form(text, group, axes):
    assert first_group(text, 8) == group
    assert axes_of(group, MESH) == axes


def test_types_of_arrays():
    bf16, token, flags = arrays_in("(bf16[4,8]{1,0:T(8,128)(2,1)S(1)}, token[], pred[3]{0})")
    assert (bf16.bytes, bf16.in_hbm) == (64, False)
    assert (token.bytes, flags.bytes) == (0, 3)
    assert arrays_in("f8e4m3fn[16]{0}")[0].bytes == 16
    assert arrays_in("s4[16]{0}")[0].bytes == 8


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (1, 1), "padding": "SAME"},
        {"window_strides": (2, 2), "padding": ((3, 0), (0, 1))},
        {"window_strides": (3, 3), "padding": ((0, 0), (0, 0)), "lhs_dilation": (4, 4)},
        {"window_strides": (1, 1), "padding": ((2, 2), (2, 2)), "rhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": "VALID", "feature_group_count": 2},
    ],
)
def test_convolutions_count_as_xla_counts_them(options):
    """XLA's own count covers a program without loops."""
    groups = options.get("feature_group_count", 1)
    x, w = jnp.ones((2, 4, 9, 10)), jnp.ones((6, 4 // groups, 3, 4))
    lowered = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, **options)).lower(x, w)
    text, cost = lowered.as_text("hlo"), lowered.cost_analysis()
    module = parse_module(text)
    entry = module.computations[module.entry]
    counted = sum(flops_of(entry, one) or 0 for one in entry.instructions.values())
    assert cost is not None and counted == cost["flops"]


def test_kernels_that_do_not_say_their_operations_are_named():
    text = """\
HloModule kernels

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %said = f32[8]{0} custom-call(%a), custom_call_target="tpu_custom_call", \
backend_config={"custom_call_config":{"cost_estimate":{"flops":"1000","bytes_accessed":"64"}}}
  ROOT %silent = f32[8]{0} custom-call(%said), custom_call_target="tpu_custom_call", \
metadata={op_name="jit(step)/mixed/pallas_call"}
}
"""
    work = read_work(text, {})
    assert work.flops == 1000
    assert work.silent_kernels == {"mixed": 1}


def test_permutations_of_an_axis_are_one_line():
    text = """\
HloModule permutations

ENTRY %main (a: f32[256,8]) -> f32[256,8] {
  %a = f32[256,8]{1,0} parameter(0)
  %b = f32[256,8]{1,0} collective-permute(%a), source_target_pairs={{0,2},{2,4},{4,6},{6,0}}
  ROOT %c = f32[256,8]{1,0} collective-permute(%b), source_target_pairs={{0,4},{4,0}}
}
"""
    (found,) = read_work(text, MESH).collectives
    assert (found.axes, found.group, found.calls) == (("fsdp",), (0, 2), 2)
    assert found.bytes == 2 * 4 * 256 * 8


def test_what_goes_between_slices_is_told_apart():
    text = """\
HloModule slices

ENTRY %main (a: f32[256,8]) -> f32[256,8] {
  %a = f32[256,8]{1,0} parameter(0)
  %token = token[] after-all()
  %send = (f32[256,8]{1,0}, u32[], token[]) send(%a, %token), channel_id=2, \
is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",\
_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[256,8]{1,0}, u32[], token[]) recv(%token), channel_id=1, is_host_transfer=true
  %done = (f32[256,8]{1,0}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  ROOT %b = f32[256,8]{1,0} get-tuple-element(%done), index=0
}
"""
    (found,) = read_work(text, {"data": 2, "fsdp": 4}).collectives
    assert (found.kind, found.axes, found.group) == ("all-reduce", ("data",), (0, 4))
    assert (found.bytes, found.between_slices) == (4 * 256 * 8, True)


@pytest.mark.parametrize(("phase", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_splash_counts_every_query_against_every_key(phase, products):
    """Of 2 rows and 4 heads, 128 queries against 256 keys of width 64."""
    text = f"""\
HloModule splash

ENTRY %main (m: s32[1,2], q: bf16[2,4,128,64], k: bf16[2,2,256,64]) -> bf16[2,4,128,64] {{
  %m = s32[1,2]{{1,0}} parameter(0)
  %q = bf16[2,4,128,64]{{3,2,1,0}} parameter(1)
  %k = bf16[2,2,256,64]{{3,2,1,0}} parameter(2)
  ROOT %splash_mha_{phase}_segmented_no_residuals.2 = bf16[2,4,128,64]{{3,2,1,0}} \
custom-call(%m, %q, %k, %k), custom_call_target="tpu_custom_call"
}}
"""
    assert read_work(text, {}).flops == products * 2 * 2 * 4 * 128 * 256 * 64
