"""What a tap gets of a model, inside the scan over layers and what is rematerialised too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import build, random_batch, tiny_moe

from jaxgen.ops.taps import collected, open_tap, report, report_scanned
from jaxgen.sharding.layout import Layout


def test_reports_come_in_the_order_of_the_calls():
    def body(x, scale):
        with collected() as reports:
            x = report("scaled", x * scale)
            x = report("moved", x + 1)
        return x, reports

    def run(x, scales):
        x, reports = jax.lax.scan(body, x, scales)
        report_scanned(reports, len(scales))
        return report("end", x)

    @jax.jit
    def tapped(x, scales):
        with open_tap(lambda value: 10 * value) as found:
            run(x, scales)
        names.extend(name for name, _ in found)
        return [value for _, value in found]

    names = []
    values = tapped(jnp.array(1.0), jnp.array([2.0, 3.0]))
    assert names == ["scaled", "moved", "scaled", "moved", "end"]
    assert [float(value) for value in values] == [20, 30, 90, 100, 100]


def test_without_a_tap_the_program_is_the_same():
    def plain(x):
        with collected() as reports:
            y = x * 2
        assert reports == []
        return y

    def reporting(x):
        with collected() as reports:
            y = report("y", x * 2)
        assert reports == []
        return y

    assert str(jax.make_jaxpr(plain)(1.0)) == str(jax.make_jaxpr(reporting)(1.0))


@pytest.mark.slow
def test_a_model_that_rematerialises_reports_the_same():
    """The stream after each block, of a model whose blocks are of two kinds."""
    batch, found = random_batch(), {}
    for remat in ("none", "full"):
        model = build(tiny_moe(), Layout(remat=remat))

        @jax.jit
        def streams(model):
            with open_tap(lambda x: x) as reports:
                hidden = model(batch).hidden
            names = [name for name, _ in reports]
            assert names.count("feed_forward") == names.count("experts") == 2
            assert names[0] == "embedding" and names[-1] == "norm"
            return [x for name, x in reports if name == "stream"], reports[-1][1], hidden

        found[remat] = streams(model)
    blocks, last, hidden = found["none"]
    assert len(blocks) == 4
    np.testing.assert_array_equal(last, hidden)
    for block, recomputed in zip(blocks, found["full"][0], strict=True):
        np.testing.assert_allclose(block, recomputed, rtol=1e-6, atol=1e-6)
