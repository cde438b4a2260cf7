import jax
import pytest
from support.helpers import tiny_dense, tiny_moe

from jaxgen.errors import ShardingError
from jaxgen.models.base import check_model_fits
from jaxgen.sharding.checks import check_layout
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MESH_AXES, MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules


def test_every_axis_is_there_and_explicit():
    mesh = make_mesh(MeshConfig(data=2, tensor=4))
    assert mesh.axis_names == MESH_AXES
    assert dict(mesh.shape) == {
        "data": 2, "fsdp": 1, "expert": 1, "sequence": 1, "tensor": 4, "stage": 1,
    }  # fmt: skip
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Explicit}


def test_a_free_axis_takes_the_devices_that_are_left():
    assert make_mesh(MeshConfig(data=-1, tensor=2)).shape["data"] == 4


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            MeshConfig(data=3),
            ["data=3", "3 device", "8 are here", "[1, 2, 4, 8]", "JAX_NUM_CPU_DEVICES"],
        ),
        (MeshConfig(data=-1, tensor=3), ["tensor=3", "8"]),
        (MeshConfig(data=-1, fsdp=-1), ["'data', 'fsdp'"]),
    ],
)
def test_a_mesh_that_does_not_fit_says_what_would(config, words):
    with pytest.raises(ShardingError) as error:
        make_mesh(config)
    for word in words:
        assert word in str(error.value)


def test_a_dimension_that_is_not_divided_is_named_with_sizes_that_fit():
    sizes = dict(make_mesh(MeshConfig(data=2, tensor=4)).shape)
    arrays = [("units.attention.key", (64, 6, 8), ("embed", "kv_heads", "head_dim"))]
    with pytest.raises(ShardingError) as error:
        check_layout(arrays, Rules(), sizes)
    for word in ("units.attention.key", "(64, 6, 8)", "kv_heads", "tensor=4", "[1, 2, 3]"):
        assert word in str(error.value)
    check_layout(arrays, Rules(kv_heads=None), sizes)


def test_an_axis_used_twice_or_unknown_is_refused():
    sizes = dict(make_mesh(MeshConfig(data=2, tensor=4)).shape)
    arrays = [("w", (64, 64), ("vocab", "mlp"))]
    with pytest.raises(ShardingError, match="split twice"):
        check_layout(arrays, Rules(), sizes)
    with pytest.raises(ShardingError, match="'model'"):
        check_layout(arrays, Rules(mlp="model"), sizes)
    with pytest.raises(ShardingError, match="no rule for the logical axis 'width'"):
        Rules().stored(("width",))
    with pytest.raises(ShardingError, match=r"rules\.layers='data'"):
        check_layout(arrays, Rules(layers="data"), sizes)
    for axis in ("vocab", "heads", "mlp"):
        with pytest.raises(ShardingError, match=rf"'fsdp': by rules.batch and by rules.{axis}"):
            check_layout([], Rules(embed=None, **{axis: ("tensor", "fsdp")}), sizes)


@pytest.mark.parametrize(
    ("mesh", "rules"),
    [
        (MeshConfig(data=4, sequence=2), Rules(length=None)),
        (MeshConfig(data=4, expert=2), Rules(batch=("data", "fsdp"))),
    ],
)
def test_an_axis_that_would_split_nothing_is_refused(mesh, rules):
    with pytest.raises(ShardingError, match=r"=2 splits nothing .* would do the same work"):
        check_model_fits(tiny_dense(), Layout(rules), make_mesh(mesh))
    check_model_fits(tiny_moe(), Layout(), make_mesh(mesh))
