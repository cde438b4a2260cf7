"""muP and CompleteP: what axes tell, how parameters begin, and the standard model at the base."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import ALL_BIASES, build, random_batch, tiny_dense, tiny_moe
from support.tiers import slow_but

from jaxgen.errors import ConfigError
from jaxgen.models.attention import attention_scale
from jaxgen.models.block_config import LatentConfig, LayerConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.models.parametrization import Multipliers, Parametrization, grows
from jaxgen.ops.initializers import Initialization
from jaxgen.ops.taps import open_tap

MUP = Parametrization("mup", base_embed_dim=16)
COMPLETEP = Parametrization("completep", base_embed_dim=16, base_num_layers=1)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (("vocab", "embed"), (False, True)),
        ((None, "embed"), (False, True)),
        ((None, "heads"), (False, True)),
        (("vocab",), (False, False)),
        (("layers", "embed"), (False, True)),
        (("layers", "head_dim"), (False, False)),
        (("layers", "heads", "head_dim"), (False, True)),
        (("layers", None, "head_dim"), (False, False)),
        (("layers", "embed", "heads", "head_dim"), (True, True)),
        (("layers", "embed", "kv_heads", "head_dim"), (True, True)),
        (("layers", "embed", None, "head_dim"), (True, False)),
        (("layers", "heads", "head_dim", "embed"), (True, True)),
        (("layers", "embed", "mlp"), (True, True)),
        (("layers", "experts", "mlp", "embed"), (True, True)),
        (("layers", "embed", None), (True, False)),
        (("layers", None), (False, False)),
    ],
)
def test_axes_tell_which_sides_grow(axes, expected):
    assert grows(axes) == expected


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        # (rate, decay, epsilon) at m_d = 4, m_L = 2, from the table of CompleteP.
        (("vocab", "embed"), (1, 1, 1 / 4)),
        (("embed",), (1, 1, 1 / 4)),
        (("layers", "embed"), (1, 1, 1 / 8)),
        (("layers", "embed", "mlp"), (1 / 4, 4, 1 / 8)),
        (("layers", "embed", None), (1 / 4, 4, 1 / 2)),
        (("layers", "head_dim"), (1, 1, 1 / 2)),
    ],
)
def test_multipliers_of_completep(axes, expected):
    assert COMPLETEP.multipliers(axes, embed_dim=64, num_layers=2) == Multipliers(*expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "make"),
    [("fan_in", tiny_moe), ("glorot", tiny_moe), ("fixed", tiny_dense)],
)
def test_parameters_begin_with_the_papers_deviations(kernel, make):
    """Wider and base model: the ratio of the deviations of every parameter, by its kind."""
    start = Initialization(kernel=kernel, residual_scaling=False)
    fields: dict[str, Any] = {"initialization": start, "tie_embeddings": False}
    base = make(**fields, embed_dim=64, parametrization=Parametrization("mup", 64))
    wide = dataclasses.replace(base, embed_dim=256, num_heads=32, num_kv_heads=16, mlp_dim=256)
    if base.moe is not None:
        moe = dataclasses.replace(base.moe, mlp_dim=128)
        wide = dataclasses.replace(wide, moe=moe)
    deviations = [
        {name: (p.logical_axes, np.std(p[...])) for name, p in named_parameters(build(config))}
        for config in (base, wide)
    ]
    for name, (axes, deviation) in deviations[0].items():
        ratio = deviations[1][name][1] / deviation if deviation else 1.0
        n_in, n_out = grows(axes)
        expected = (0.5 if n_out else 0.25) if n_in else 1.0
        assert ratio == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize(
    ("kind", "tied"), slow_but([("completep", True)], [("mup", False), ("completep", True)])
)
def test_at_the_base_it_is_the_standard_model(kind, tied):
    standard = tiny_moe(
        tie_embeddings=tied, biases=(*ALL_BIASES, "logits"), scale_logits=True,
        scale_embeddings=True, layers=(LayerConfig(qk_norm="head"),),
    )  # fmt: skip
    depth = standard.num_layers if kind == "completep" else None
    base = Parametrization(kind, standard.embed_dim, depth, standard.width_of_head)
    batch = random_batch()
    models = [build(config) for config in (standard, _with(standard, base))]
    for one, other in zip(*(jax.tree.leaves(model) for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    one, other = (np.asarray(model.logits(model(batch).hidden)) for model in models)
    np.testing.assert_array_equal(one, other)


def test_logits_are_divided_by_the_width():
    standard = tiny_dense(tie_embeddings=False)
    wider = build(standard), build(_with(standard, MUP))
    one, other = (np.asarray(model(random_batch()).hidden) for model in wider)
    np.testing.assert_allclose(other, one / 2, rtol=1e-5)


def test_completep_divides_what_blocks_add():
    """A block adds its branches times base_num_layers / num_layers (CompleteP, 2505.01618)."""
    standard = tiny_dense(num_layers=1, initialization=Initialization(residual_scaling=False))
    completep = Parametrization("completep", standard.embed_dim, base_num_layers=2)
    for config, factor in ((standard, 1), (_with(standard, completep), 2)):
        with open_tap(lambda x: x) as reports:
            build(config)(random_batch())
        value = dict(reports)
        branches = value["attention"] + value["feed_forward"]
        added = value["stream"] - value["embedding"]
        np.testing.assert_allclose(added, factor * branches, atol=1e-5)


def test_attention_falls_with_the_width_of_heads():
    config = tiny_dense(head_dim=16, parametrization=Parametrization("mup", 32, base_head_dim=4))
    assert attention_scale(config, 16) == 4**-0.5 * 4 / 16
    assert attention_scale(_with(config, None), 16) == 16**-0.5
    given = dataclasses.replace(config, attention_scale=0.3)
    assert attention_scale(given, 16) == pytest.approx(0.3 / 4)


def test_zero_readout_begins_without_logits():
    base = dataclasses.replace(MUP, zero_readout=True)
    model = build(tiny_dense(tie_embeddings=False, parametrization=base))
    assert not np.any(model.logits(model(random_batch()).hidden))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": LatentConfig(8, 4, 4, 4)}, "latent"),
        ({"pooler": True}, "pooler"),
        ({"output_transform": True}, "output_transform"),
        ({"norm_placement": "post", "parametrization": COMPLETEP}, "norm_placement"),
        ({"num_encoder_layers": 2, "parametrization": COMPLETEP}, "num_encoder_layers"),
        (
            {"parametrization": dataclasses.replace(MUP, zero_readout=True)},
            "tie_embeddings",
        ),
    ],
)
def test_what_has_no_rule_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_dense(**({"parametrization": MUP} | changes))


def test_depth_belongs_to_completep():
    with pytest.raises(ConfigError, match="base_num_layers"):
        Parametrization("completep", 32)
    with pytest.raises(ConfigError, match="base_num_layers"):
        Parametrization("mup", 32, base_num_layers=2)
    with pytest.raises(ConfigError, match="base_embed_dim"):
        Parametrization("mup", 0)


def _with(config, parametrization):
    return dataclasses.replace(config, parametrization=parametrization)
