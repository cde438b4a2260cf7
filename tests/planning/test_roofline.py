"""The chip table and the roofline, against figures worked out by hand."""

import collections

import pytest

from jaxgen.chips import CHIPS
from jaxgen.errors import ConfigError
from jaxgen.planning.roofline import roofline
from jaxgen.planning.topology import parse_topology
from jaxgen.planning.work import Collective, Work

Device = collections.namedtuple("Device", "coords")


def devices_of(shape):
    x, y = shape
    return [Device((i, j, 0)) for i in range(x) for j in range(y)]


def times(topology, *collectives, flops=0, traffic=0):
    parsed = parse_topology(topology)
    work = Work(flops, traffic, collectives, {}, 0)
    found = roofline(work, parsed, devices_of(parsed.shape))
    assert found is not None
    return found


def over_second(kind, places, size):
    return Collective(kind, tuple(range(places)), ("fsdp",), 1, size)


def test_every_figure_of_a_chip_has_a_source():
    figures = ("peak_flops", "hbm_bytes", "hbm_bandwidth", "link_bandwidth", "dcn_bandwidth")
    for chip in CHIPS.values():
        said = " ".join(chip.sources)
        for name in figures:
            assert getattr(chip, name) is None or name in said, (chip.name, name)
        assert len(chip.host_bounds) == chip.dimensions


def test_later_chips_of_a_kind_have_more():
    for earlier, later in (("v4", "v5p"), ("v5p", "7x"), ("v5e", "v6e")):
        for name in ("peak_flops", "hbm_bytes", "hbm_bandwidth", "link_bandwidth"):
            assert getattr(CHIPS[earlier], name) <= getattr(CHIPS[later], name)
    # A product of n x n bf16 matrices is bound by memory below n of some hundreds, on all of them.
    for chip in CHIPS.values():
        if chip.peak_flops is not None and chip.hbm_bandwidth is not None:
            assert 150 < chip.peak_flops / chip.hbm_bandwidth < 600


def test_compute_and_memory():
    found = times("v5e:4x4", flops=197 * 10**12, traffic=2 * 819 * 10**9)
    assert (found.compute, found.memory, found.interconnect) == (1, 2, 0)
    assert (found.bound, found.seconds, found.seconds_in_turn) == ("memory", 2, 3)


@pytest.mark.parametrize(
    ("topology", "kind", "places", "seconds"),
    [
        # A ring of 16 sends both ways: 15/16 of the bytes over 2 links.
        ("v5e:16x16", "all-gather", 16, 15 / 16 / 2),
        ("v5e:16x16", "all-reduce", 16, 2 * 15 / 16 / 2),
        # 4 of the 16 are no ring: one link.
        ("v5e:16x16", "all-gather", 4, 3 / 4),
        # Nor is a row of 8.
        ("v5e:8x8", "reduce-scatter", 8, 7 / 8),
        # The bytes of 8 places cross the middle, half of them each way, over 2 links each way.
        ("v5e:16x16", "all-to-all", 16, 16 / 8),
        ("v5e:16x16", "collective-permute", 2, 1),
    ],
)
def test_collectives_on_a_torus(topology, kind, places, seconds):
    one = over_second(kind, places, 50e9)
    assert times(topology, one).interconnect == pytest.approx(seconds)


def test_a_gather_over_two_dimensions_uses_the_links_of_both():
    whole = Collective("all-gather", tuple(range(256)), ("data", "fsdp"), 1, 50_000_000_000)
    found = times("v5e:16x16", whole)
    assert found.interconnect == pytest.approx(255 / 256 / 4)
    assert found.by_axes == {("data", "fsdp"): found.interconnect}


def test_axes_on_different_dimensions_do_not_wait_for_each_other():
    first = Collective("all-gather", tuple(range(0, 256, 16)), ("data",), 1, 50_000_000_000)
    second = Collective("all-gather", tuple(range(16)), ("fsdp",), 1, 100_000_000_000)
    found = times("v5e:16x16", first, second)
    assert found.interconnect == pytest.approx(15 / 16)


def test_a_sum_between_slices_waits_for_the_network():
    """A chip of v5e has 6.4 Tb/s / 256 of it; of 3 slices two thirds of a sum go out, twice."""
    between = Collective("all-reduce", (0, 16, 32), ("data",), 1, 6_400_000_000, True)
    found = times("3xv5e:4x4", between)
    assert found.network == pytest.approx(2 * 2 / 3 * 6.4e9 / (6.4e12 / 8 / 256))
    assert (found.interconnect, found.bound) == (0, "network")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2xcpu:8", "CPU devices are in no slices; write cpu:8"),
        ("v9:2x2", "known are v4, v5e, v5p, v6e, 7x, cpu"),
        ("v5p:8x8", r"3 dimension\(s\); write it as v5p:4x4x4"),
        ("v5e:two", r"2 dimension\(s\)"),
        ("v5e:3x3", "hosts of 2x2 chips"),
    ],
)
def test_topologies_that_are_none(name, message):
    with pytest.raises(ConfigError, match=message):
        parse_topology(name)


def test_sizes_of_topologies():
    assert (parse_topology("v5p:8x8x16").chips, parse_topology("7x:2x2x2").num_devices) == (
        1024,
        16,
    )
    for name in ("v5e:2x4", "2x7x:4x4x4", "2xv4:12x16x16", "7x:2x2x1"):
        assert str(parse_topology(name)) == name
    assert parse_topology("2xv4:12x16x16").chips == 6144
