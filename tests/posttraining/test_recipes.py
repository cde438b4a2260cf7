"""Published settings: every recipe of learning from rewards makes a run, with its figures."""

from typing import Any

import pytest

from jaxgen.configuration import load
from jaxgen.posttraining.advantages import GeneralisedAdvantage, GroupRelative, LeaveOneOut

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


def test_text_is_mixed_in_as_much_as_instructgpt_did():
    config = recipe("ppo_ptx_instructgpt")
    assert config.objective.weight == 27.8
    assert config.mixture.rollouts.kl_penalty == 0.02 and config.mixture.text.name == "text"
    penalties = {"ppo_llama2": 0.01, "ppo_claude": 0.001, "rlvr_tulu3": 0.05, "rloo": 0.03}
    for name, penalty in penalties.items():
        assert recipe(name).mixture.kl_penalty == penalty
