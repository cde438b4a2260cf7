"""pass@k: the estimate by counting all choices, and programs that are written and run."""

import itertools

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense

from jaxgen.data.features import PromptAnswer
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.pass_at_k import PassAtK, pass_at_k
from jaxgen.generation.policies import SamplingPolicy


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 0, 2), (5, 1, 1), (6, 2, 3), (6, 5, 2)])
def test_it_is_the_share_of_choices_with_one_that_passes(samples, passed, k):
    outcomes = [1] * passed + [0] * (samples - passed)
    choices = [any(chosen) for chosen in itertools.combinations(outcomes, k)]
    assert pass_at_k(samples, passed, k) == pytest.approx(np.mean(choices))


def test_its_mean_is_the_chance_that_one_of_k_passes():
    """Over the binomial number that pass; what the share to the power of k gives is biased."""
    chance, samples, k = 0.3, 8, 3
    counts = np.arange(samples + 1)
    weights = np.array([
        float(np.prod(np.arange(samples, samples - c, -1)) / max(1, np.prod(np.arange(1, c + 1))))
        * chance**c * (1 - chance) ** (samples - c) for c in counts
    ])  # fmt: skip
    mean = sum(w * pass_at_k(samples, int(c), k) for w, c in zip(weights, counts, strict=True))
    assert mean == pytest.approx(1 - (1 - chance) ** k)


@pytest.mark.slow
def test_programs_are_sampled_and_run():
    """Any text passes where all that is written is a comment."""
    record = {"prompt": "x = ", "answer": "1", "suffix": "\n", "tests": "assert x == 1"}
    records = [record | {"prefix": "x = 1  # "}, record | {"prefix": "x = 2  # ", "key": "wrong"}]
    task = Task("programs", InMemory(tuple(records), 0.5), PromptAnswer())
    scoring = PassAtK(num_samples=12, max_tokens=3, policy=SamplingPolicy(top_k=1))
    with jax.set_mesh(one_device_mesh()):
        scorer = Scorer(build(tiny_dense(vocab_size=320)), 8, 64)
        right, wrong = scoring.score(scorer, task, records)
    assert (right["pass@1"], wrong["pass@1"]) == (right["passed"] / 12, 0.0)
    assert "pass@10" in right and "pass@100" not in right and wrong["instance"] == "wrong"
    with pytest.raises(ConfigError, match="temperature above 0"):
        PassAtK(policy=SamplingPolicy(temperature=0))
