"""What a study's abilities show when the emergence room refuses its runs."""

import dataclasses

import numpy as np

from jaxgen.emergence import Design, simulate
from jaxgen.studies.analyses.abilities import _axis, _verdict


def test_copies_of_a_run_leave_out_the_curves_and_say_why():
    """Seeds that change nothing must not end the report of a whole study."""
    one = simulate(Design(scales=6, seeds=1, instances=50), "mirage")
    count = len(one.rung)
    copied = dataclasses.replace(
        one,
        rung=np.tile(one.rung, 4),
        seed=np.repeat(np.arange(4), count).astype(str),
        instance=np.tile(one.instance, 4),
        metrics={name: np.tile(column, 4) for name, column in one.metrics.items()},
    )
    names = {(str(rung), str(seed)): "run" for rung in range(6) for seed in range(4)}
    found = _axis(copied, "parameters", [str(rung) for rung in range(6)], names)
    assert "copies of a run are not seeds" in found["why_not"]
    assert "copies of a run are not seeds" in _verdict(copied, ["parameters"])["why_not"]
