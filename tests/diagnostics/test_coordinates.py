"""Activations keep their size over width under muP and over depth under CompleteP alone."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import build, one_row

from jaxgen.diagnostics.coordinates import Coordinates, activations, check_coordinates
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parametrization import Parametrization
from jaxgen.ops.initializers import Initialization

MUP = Parametrization("mup", base_embed_dim=32, zero_readout=True)
LAST = {"attention.-1", "feed_forward.-1", "stream.-1", "logits"}


def model(width=32, depth=1, parametrization=None, **fields):
    return TransformerConfig(
        num_layers=depth, embed_dim=width, num_heads=width // 16, vocab_size=64,
        mlp_dim=2 * width, tie_embeddings=False, parametrization=parametrization,
        **fields,
    )  # fmt: skip


def pattern():
    """Rows that repeat sixteen tokens, so that few contexts share the width."""
    row = (np.arange(17, dtype=np.int32) * 3) % 16
    rows = np.stack([row, (row + 5) % 16])
    return dataclasses.replace(one_row(16, 64, 2), tokens=rows[:, :-1], targets=rows[:, 1:])


def slopes_of(parametrization, widths, seeds=range(8), steps=3, depth=1):
    found = check_coordinates(
        lambda width: model(width, depth, parametrization),
        widths,
        pattern(),
        steps,
        learning_rate=4e-3,
        seeds=seeds,
    )
    return [found.flagged(step) for step in range(1, steps + 1)], found


@pytest.mark.slow
def test_mup_is_flat_and_the_standard_start_is_not():
    flat, found = slopes_of(MUP, (32, 64, 128, 256))
    assert flat == [{}] * 3, found.slopes(3)
    steep, _ = slopes_of(None, (32, 128))
    assert {"attention.0", "feed_forward.0", "logits"} <= set(steep[-1])
    assert all(slope > 0.1 for slope in steep[-1].values())


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2])
def test_widths_from_32_to_512(depth):
    flat, found = slopes_of(MUP, (32, 64, 128, 256, 512), steps=10, depth=depth)
    assert flat == [{}] * 10, found.slopes(10)


@pytest.mark.slow
def test_completep_is_flat_over_depth_and_the_standard_start_is_not():
    """2505.01618: at alpha = 1 a block's step moves the stream by 1 / L, so all by one amount.

    muP at its base is the standard model: GPT-2's start makes its branches small, and the steps,
    which do not follow, move a deeper one's stream and logits further. Embeddings begin at 1,
    beside which the sum of L independent branches vanishes as sqrt(L) / L. A readout of zeros
    leaves in the logits what was learnt.
    """
    flat, flat_found = slopes_over_depth(
        Parametrization("completep", 32, 2, zero_readout=True), (2, 4, 8)
    )
    assert flat == [{}] * 3, [flat_found.slopes(step) for step in (1, 2, 3)]
    steep, steep_found = slopes_over_depth(MUP, (2, 8))
    assert steep[2].keys() == LAST, steep_found.slopes(3)
    signs = {name: np.sign(slope) for name, slope in steep[2].items()}
    assert signs == {"attention.-1": -1, "feed_forward.-1": -1, "stream.-1": 1, "logits": 1}


def slopes_over_depth(parametrization, depths):
    found = check_coordinates(
        lambda depth: model(
            depth=depth,
            parametrization=parametrization,
            initialization=Initialization(embedding_stddev=1.0),
        ),
        depths,
        pattern(),
        steps=3,
        learning_rate=4e-3,
        seeds=range(4),
    )
    flagged = [found.flagged(step) for step in (1, 2, 3)]
    return [{n: s for n, s in at.items() if n in LAST} for at in flagged], found


@pytest.mark.slow
def test_every_module_is_heard_and_the_model_left_alone():
    config = model(depth=2)
    built, batch = build(config), pattern()
    before = np.asarray(jax.jit(lambda m, b: m(b).hidden)(built, batch))
    found = activations(built, batch)
    assert sorted(found) == sorted(
        ["attention.0", "attention.1", "embedding.0", "feed_forward.0", "feed_forward.1", "logits"]
        + [f"norm.{i}" for i in range(5)] + ["stream.0", "stream.1"]
        + [f"{kind}.-1" for kind in ("attention", "embedding", "feed_forward", "norm", "stream")]
    )  # fmt: skip
    assert found["stream.-1"] == found["stream.1"]
    after = jax.jit(lambda m, b: m(b).hidden)(built, batch)
    np.testing.assert_array_equal(np.asarray(after), before)
    hidden = np.mean(np.abs(before))
    assert float(found["norm.4"]) == pytest.approx(float(hidden), rel=1e-5)


def test_slopes_of_known_powers():
    sizes = (32, 64, 128)
    powers = np.array([0.0, 0.5, -1.0])
    means = np.array(sizes)[:, None, None, None] ** powers * np.ones((1, 2, 1, 1))
    found = Coordinates(sizes, ("flat", "grows", "falls"), means)
    assert found.slopes(0) == pytest.approx({"flat": 0.0, "grows": 0.5, "falls": -1.0})
    assert set(found.flagged(0)) == {"grows", "falls"}
