"""Published settings: every recipe of learning from rewards makes a run, with its figures."""

from typing import Any

import numpy as np
import pytest

from jaxgen.configuration import load
from jaxgen.posttraining.advantages import GeneralisedAdvantage, GroupRelative, LeaveOneOut
from jaxgen.posttraining.rewards import score
from jaxgen.posttraining.verifiers import ProgramTests

ASKED = [
    "model.num_layers=1", "model.embed_dim=16", "model.num_heads=2", "model.mlp_dim=32",
    "model.vocab_size=320", "train.length=32768", "rollouts.tasks=[@addition/task()]",
    "rollouts.reward=@answer_match()", "run.initialize_from='../base'", "train.steps=10",
    "mixture.name='text'", "mixture.tasks=[@prose/task()]",
]  # fmt: skip
FILES = ["base.gin", "tasks/addition.gin"]


def recipe(name: str) -> Any:
    asked = ASKED if name == "ppo_ptx_instructgpt" else [x for x in ASKED if "mixture" not in x]
    files = [*FILES, "tasks/prose.gin"] if name == "ppo_ptx_instructgpt" else FILES
    return load([*files, f"objectives/{name}.gin"], asked)


@pytest.mark.parametrize(
    ("name", "group", "advantage", "figures"),
    [
        ("ppo_instructgpt", 1, GeneralisedAdvantage, {"clip_high": 0.2, "value_weight": 1.0}),
        ("ppo_llama2", 1, GeneralisedAdvantage, {"clip_high": 0.2}),
        ("ppo_claude", 1, GeneralisedAdvantage, {"entropy_weight": 0.0}),
        ("rlvr_tulu3", 1, GeneralisedAdvantage, {"clip_high": 0.2}),
        ("rlvr_olmo3", 8, GroupRelative, {"kl_weight": 0.0}),
        ("rloo", 4, LeaveOneOut, {"surrogate": "reinforce"}),
        ("grpo", 64, GroupRelative, {"aggregation": "sequence", "kl_weight": 0.04}),
        ("dr_grpo", 8, GroupRelative, {"aggregation": "constant", "constant_length": 3000}),
        ("dapo", 16, GroupRelative, {"clip_low": 0.2, "clip_high": 0.28}),
        ("gspo", 8, GroupRelative, {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}),
        ("cispo", 16, GroupRelative, {"surrogate": "cispo", "clip_high": 5.0}),
    ],
)
def test_recipes_have_the_published_figures(name, group, advantage, figures):
    config = recipe(name)
    assert config.mixture.group == group and isinstance(config.mixture.advantage, advantage)
    for field, value in figures.items():
        assert getattr(config.objective, field) == value
    # An advantage by values has something that tells them.
    model = config.model
    assert model.critic is not None or not advantage.needs_values
    assert config.mixture.kl_penalty == 0 or model.reference


@pytest.mark.parametrize(
    ("name", "rows", "length", "peak", "decay"),
    [
        ("sft_instructgpt", 32, 128, 9.65e-6, 0.0),
        ("sft_llama2", 64, 4096, 2e-5, 0.1),
        ("sft_tulu3", 128, 4096, 5e-6, 0.0),
        ("sft_olmo3", 32, 32_768, 5e-5, 0.0),
    ],
)
def test_supervised_tuning_has_the_published_figures(name, rows, length, peak, decay):
    """Also how the rate begins and ends, at a hundred steps."""
    asked = ["train.steps=100", "run.initialize_from='../base'"]
    config: Any = load(["runs/town_chat.gin", f"objectives/{name}.gin"], asked)
    assert (config.train.batch_size, config.train.length) == (
        rows,
        256 if length == 128 else length,
    )
    assert config.train.schedule.peak == peak
    assert config.train.optimizer.weight_decay == decay
    assert config.model.dropout == (0.2 if name == "sft_instructgpt" else 0.0)
    rate = config.train.schedule.build(100, lambda part: steps_of(part))
    cosine = name in ("sft_instructgpt", "sft_llama2")
    assert np.isclose(rate(0 if cosine else 3), peak)
    assert np.isclose(rate(100), 0.1 * peak if cosine else 0.0, atol=1e-12)
    assert 0.4 * peak < rate(50) < 0.6 * peak


def steps_of(part: Any) -> int:
    return round(float(part.rstrip("%"))) if isinstance(part, str) else part


def test_instructgpts_steps_are_its_epochs():
    config: Any = load(["runs/town_chat.gin", "objectives/sft_instructgpt.gin"])
    assert config.train.steps * config.train.batch_size == 16 * 13_000
    assert (config.train.optimizer.beta1, config.train.optimizer.beta2) == (0.9, 0.95)


def test_lamdas_tuning_goes_on_with_its_optimiser():
    files = ["runs/quickstart.gin", "mixtures/town.gin", "objectives/sft_lamda.gin"]
    config: Any = load(files, ["train.steps=100", "run.initialize_from='../base'"])
    assert type(config.train.optimizer).__name__ == "Adafactor"
    assert config.mixture.tasks[0].name == "town_ratings"


def test_programs_are_rewarded_by_running_them():
    config: Any = load(["runs/copilot_rewarded.gin"], ["PARENT='../copilot'"])
    assert isinstance(config.mixture.reward, ProgramTests)
    source = config.mixture.tasks[0].source
    record = source.records_by_index("train").__getitems__([0])[0]
    scores = score(config.mixture.reward, [record, record], [record["answer"], "0"]).parts
    assert list(scores["program_tests"]) == [1.0, 0.0]


def test_text_is_mixed_in_as_much_as_instructgpt_did():
    config = recipe("ppo_ptx_instructgpt")
    assert config.objective.weight == 27.8
    assert config.mixture.rollouts.kl_penalty == 0.02 and config.mixture.text.name == "text"
    penalties = {"ppo_llama2": 0.01, "ppo_claude": 0.001, "rlvr_tulu3": 0.05, "rloo": 0.03}
    for name, penalty in penalties.items():
        assert recipe(name).mixture.kl_penalty == penalty
