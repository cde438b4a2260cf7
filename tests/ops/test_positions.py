"""Positions against the papers' own formulas, tables and properties."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.biases import RelativeBias
from jaxgen.ops.positions import (
    LogTemperature,
    Rope,
    RopeScaling,
    sinusoids,
)


def turned(rope: Rope, x: np.ndarray, position: int) -> np.ndarray:
    """One vector at one position."""
    angles = rope.angles(jnp.array([[position]]), x.size)
    return np.asarray(rope.rotate(jnp.array(x, jnp.float32)[None, None, None], angles))[0, 0, 0]


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_is_multiplication_of_complex_numbers(interleaved):
    x, dim = np.random.default_rng(0).normal(size=8), 8
    pairs = (x[0::2], x[1::2]) if interleaved else (x[:4], x[4:])
    angle = 5 * 100.0 ** (-np.arange(4) * 2 / dim)
    product = (pairs[0] + 1j * pairs[1]) * np.exp(1j * angle)
    got = turned(Rope(100.0, interleaved=interleaved), x, 5)
    first, second = (got[0::2], got[1::2]) if interleaved else (got[:4], got[4:])
    np.testing.assert_allclose(first + 1j * second, product, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    query=st.integers(0, 50),
    key=st.integers(0, 50),
    shift=st.integers(1, 50),
    seed=st.integers(0, 9),
)
def test_a_rotated_products_value_depends_on_the_distance_alone(query, key, shift, seed):
    rope = Rope(fraction=0.5)
    q, k = np.random.default_rng(seed).normal(size=(2, 16))
    here = turned(rope, q, query) @ turned(rope, k, key)
    there = turned(rope, q, query + shift) @ turned(rope, k, key + shift)
    np.testing.assert_allclose(here, there, atol=2e-5)


def test_a_fraction_of_the_head_turns():
    x = np.random.default_rng(0).normal(size=8).astype(np.float32)
    got = turned(Rope(fraction=0.25), x, 7)
    np.testing.assert_array_equal(got[2:], x[2:])
    np.testing.assert_allclose(got[:2], turned(Rope(), x[:2], 7))


def test_linear_scaling_is_a_position_divided():
    x = np.random.default_rng(0).normal(size=8)
    scaled = turned(Rope(scaling=RopeScaling("linear", 4.0)), x, 12)
    np.testing.assert_allclose(scaled, turned(Rope(), x, 3), atol=1e-6)


def test_ntk_scaling_divides_the_slowest_and_leaves_the_fastest():
    plain = 10_000.0 ** (-np.arange(0, 64, 2) / 64)
    scaled = RopeScaling("ntk", 8.0).frequencies(64, 10_000.0)
    assert scaled[0] == 1
    np.testing.assert_allclose(scaled[-1], plain[-1] / 8)


def test_llama3_scaling_follows_its_wavelengths():
    """Meta's rule: short wavelengths stay, long ones are divided, between them it is blended."""
    base, length, factor = 500_000.0, 8192, 8.0
    got = RopeScaling("llama3", factor, length).frequencies(128, base)
    for index, frequency in enumerate(base ** (-np.arange(0, 128, 2) / 128)):
        wavelength = 2 * math.pi / frequency
        if wavelength < length / 4:
            expected = frequency
        elif wavelength > length / 1:
            expected = frequency / factor
        else:
            smooth = (length / wavelength - 1) / (4 - 1)
            expected = (1 - smooth) * frequency / factor + smooth * frequency
        assert got[index] == pytest.approx(expected, rel=1e-9)


def test_yarn_keeps_fast_and_divides_slow_frequencies():
    """2309.00071: what turns more than beta_fast times stays, less than beta_slow is divided."""
    scaling = RopeScaling("yarn", 40.0, 4096, low=1, high=32)
    plain = 10_000.0 ** (-np.arange(0, 64, 2) / 64)
    got = scaling.frequencies(64, 10_000.0)
    rotations = 4096 * plain / (2 * math.pi)
    # The band's ends are rounded outwards to whole frequencies.
    fast, slow = np.flatnonzero(rotations > 32)[:-1], np.flatnonzero(rotations < 1)[1:]
    np.testing.assert_allclose(got[fast], plain[fast])
    np.testing.assert_allclose(got[slow], plain[slow] / 40)
    assert (np.diff(got) < 0).all()
    assert scaling.magnification() == pytest.approx(0.1 * math.log(40) + 1)


def test_scaling_needs_the_length_it_stretches():
    with pytest.raises(ConfigError, match="needs original_length"):
        RopeScaling("yarn", 4.0)
    with pytest.raises(ConfigError, match=r"factor=0\.5 must be 1 or more"):
        RopeScaling("linear", 0.5)
    with pytest.raises(ConfigError, match=r"low=8\.0 must be at most rope_scaling\.high=4\.0"):
        RopeScaling("llama3", 8.0, 64, low=8.0)
    with pytest.raises(ConfigError, match="max_distance=16 must exceed half"):
        RelativeBias(num_buckets=32, max_distance=16)


def test_sinusoids_are_those_of_the_formula():
    got = sinusoids(jnp.array([[0, 1, 9]]), 6)[0]
    for row, position in zip(got, (0, 1, 9), strict=True):
        rates = [position / 10_000 ** (2 * i / 6) for i in range(3)]
        expected = [math.sin(rate) for rate in rates] + [math.cos(rate) for rate in rates]
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_log_temperature_steps_at_multiples():
    factor = LogTemperature(scale=0.1, floor_length=4).factor(jnp.arange(9)[None])[0]
    np.testing.assert_allclose(factor[:3], 1)
    np.testing.assert_allclose(factor[3:7], 1 + 0.1 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(factor[7:], 1 + 0.1 * math.log(3), rtol=1e-6)


def test_the_gradient_turns_back():
    rope, x = Rope(), jnp.arange(8.0)[None, None, None]
    angles = rope.angles(jnp.array([[3]]), 8)
    (back,) = jax.vjp(lambda x: rope.rotate(x, angles), x)[1](rope.rotate(x, angles))
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_sections_turn_by_differences_of_position_and_place_alone():
    rope = Rope(sections=(3, 1, 2, 2))
    random = np.random.default_rng(0)
    query, key = (jnp.asarray(random.normal(size=(1, 1, 1, 16)), jnp.float32) for _ in range(2))

    def product(position, place, other, other_place):
        turned = [
            rope.rotate(x, rope.angles(jnp.array([[p]]), 16, places=jnp.array([[where]])))
            for x, p, where in ((query, position, place), (key, other, other_place))
        ]
        return float(jnp.sum(turned[0] * turned[1]))

    first = product(9, (2, 3, 4), 4, (1, 1, 0))
    assert abs(first - product(15, (3, 7, 5), 10, (2, 5, 1))) < 1e-4
    for changed in ((9, (2, 3, 5)), (9, (2, 2, 4)), (9, (1, 3, 4)), (8, (2, 3, 4))):
        assert abs(first - product(*changed, 4, (1, 1, 0))) > 1e-3


def test_sections_of_positions_alone_are_plain_rotary_positions():
    positions = jnp.arange(12)[None]
    of_sections = Rope(sections=(8, 0, 0, 0)).angles(positions, 16)
    for one, other in zip(of_sections, Rope().angles(positions, 16), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_sections_must_fill_a_head():
    with pytest.raises(ConfigError, match=r"rope.sections=\(1, 1, 1, 0\) are 3 pairs"):
        tiny_dense(head_dim=8, layers=(LayerConfig(rope=Rope(sections=(1, 1, 1, 0))),))
    with pytest.raises(ConfigError, match="do not go together"):
        Rope(sections=(1, 1, 1, 1), scaling=RopeScaling("linear", 2.0))
