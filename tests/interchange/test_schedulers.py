"""Schedulers as they are written: what a run is sampled by, or a refusal."""

import pytest

from jaxgen.errors import InterchangeError
from jaxgen.generation.diffusion.clean_errors import CleanErrors
from jaxgen.generation.diffusion.samplers import Ddim, Ddpm, DpmSolver, Euler, Heun, Plms
from jaxgen.interchange.schedulers import read_scheduler, write_scheduler
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.corruption import Corruption


@pytest.mark.parametrize("make", [Ddim, Ddpm, DpmSolver, Euler, Heun, Plms])
def test_a_sampler_without_a_spacing_is_written_with_the_times_it_goes_through(make):
    corruption = Corruption(Betas("scaled_linear"), "noise")
    _, again = read_scheduler(write_scheduler(corruption, make(7)), 7)
    found, expected = (one.grid(corruption.schedule).times for one in (again, make(7)))
    assert found.tolist() == expected.tolist()


def test_the_noise_of_ddim_is_said_in_the_call():
    corruption = Corruption(Betas(), "noise")
    assert write_scheduler(corruption, Ddim(eta=0.5)) == write_scheduler(corruption, Ddim())


@pytest.mark.parametrize(
    "sampler",
    [
        Ddpm(variance="large"),
        Ddpm(variance="optimal", errors=CleanErrors((0.0,), (0.1,))),
        Ddim(errors=CleanErrors((0.0,), (0.1,))),
        Euler(ancestral=True),
    ],
)
def test_what_no_scheduler_does_is_refused(sampler):
    with pytest.raises(InterchangeError, match=f"cannot express {type(sampler).__name__}"):
        write_scheduler(Corruption(Betas(), "noise"), sampler)
