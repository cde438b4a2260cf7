"""Published layouts: the devices that they were published for, and the models that they split."""

from typing import Any

import jax
import pytest

from jaxgen.configuration import load_run
from jaxgen.errors import ShardingError
from jaxgen.models.base import check_model_fits

PUBLISHED = [
    ("mt_nlg_530b", "mt_nlg/530b", 2240, {"data": 8, "tensor": 8, "stage": 35}),
    ("palm_540b", "palm/540b", 6144, {"data": 2, "fsdp": 256, "tensor": 12}),
    ("llama3_405b", "llama/3_1_70b", 16384, {"data": 128, "tensor": 8, "stage": 16}),
    (
        "llama3_405b_long",
        "llama/3_1_8b",
        16384,
        {"data": 8, "sequence": 16, "tensor": 8, "stage": 16},
    ),
]


def split(preset, model, num_devices):
    """The sizes of the preset's axes; the model has been found to fit them."""
    files = ["base.gin", "mixtures/quickstart.gin", f"models/{model}.gin", f"meshes/{preset}.gin"]
    run, execution = load_run(files, ["train.steps=1"])
    sizes = execution.mesh.sizes(num_devices)
    mesh: Any = jax.sharding.AbstractMesh(tuple(sizes.values()), tuple(sizes))
    check_model_fits(run.model, execution.layout, mesh)
    return {axis: size for axis, size in sizes.items() if size > 1}


@pytest.mark.parametrize(("preset", "model", "num_devices", "sizes"), PUBLISHED)
def test_a_published_layout_splits_its_model_over_the_published_devices(
    preset, model, num_devices, sizes
):
    assert split(preset, model, num_devices) == sizes


def test_stages_of_405b_are_even_or_refused():
    with pytest.raises(ShardingError, match=r"126, which stage=16 .*14\]"):
        split("llama3_405b", "llama/3_1_405b", 16384)
