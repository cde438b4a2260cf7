"""The papers' recipes: a model's file and its recipe make the paper's run."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.helpers import one_device_mesh

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.training.durations import parse_duration
from jaxgen.training.program import build_program

OF_DIFFUSION = {"dit", "imagen", "stable_diffusion_1", "unclip_prior", "unclip_decoder"}
"""Recipes of other data than text; see tests/objectives/test_diffusion_recipes.py."""
RECIPES = sorted(
    path.stem
    for path in Path(__file__).parents[2].glob("gin/optimizers/*.gin")
    if path.stem not in OF_DIFFUSION
)
FAMILY = {
    "llama1": "llama", "llama2": "llama", "llama3": "llama", "muon": "palm", "lion": "gpt2",
    "narrow_state": "gpt2", "int8_state": "gpt2", "codex": "gpt3",
    "deepseek_v3": "deepseek", "llama3_long": "llama", "deepseek_v3_long": "deepseek",
}  # fmt: skip
REQUIRED = {
    "qwen3": ("PEAK = 4e-4", "SECOND = 4e-5", "BATCH = 1024"),
    "llama3_long": ("LENGTH = 16_384", "BATCH = 1024", "BEFORE = (256, 512)"),
    "deepseek_v3_long": ("LENGTH = 32_768", "BATCH = 1920", "START = 384", "INCREMENT = 128"),
}
AFTER = {"llama3_long": "llama3", "deepseek_v3_long": "deepseek_v3"}
"""Recipes that go on from the run of another."""


def run_of(recipe: str, model: str = "tiny", *bindings: str) -> Any:
    family = FAMILY.get(recipe, recipe)
    files = [
        "base.gin",
        "mixtures/quickstart.gin",
        f"models/{family}/{model}.gin",
        *([f"optimizers/{AFTER[recipe]}.gin"] if recipe in AFTER else []),
        f"optimizers/{recipe}.gin",
    ]
    # Another recipe has been read before one that only changes the optimiser.
    changes = ("muon", "lion", "narrow_state", "int8_state")
    lengths = ["train.steps = 100"] if recipe in changes else []
    return load(files, [*lengths, *REQUIRED.get(recipe, ()), *bindings])


def schedule_of(config: RunConfig):
    """The learning rate and the total steps, as a run builds them."""
    active = config.model.count().active
    total = config.train.total_steps(active)

    def steps(duration):
        return parse_duration(duration).steps(
            steps_for_tokens=config.train.steps_for_tokens,
            active_parameters=active,
            total_steps=total,
        )

    return config.train.schedule.build(total, steps), total


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_a_run_of_its_familys_tiny_member(recipe):
    config = run_of(recipe)
    program = build_program(config.model, config.train, one_device_mesh())
    assert program.total_steps > 0
    assert np.isfinite(float(program.schedule(program.total_steps // 2)))


def test_palm():
    config = run_of("palm", "540b")
    rate, total = schedule_of(config)
    assert total == 255_000
    for step, expected in [(0, 1e-2), (10_000, 1e-2), (40_000, 5e-3), (250_000, 2e-3)]:
        assert np.isclose(rate(step), expected, rtol=1e-5)
    assert config.train.batch_sizes.at(60_000) * 2048 == 2_097_152  # "2M tokens"
    assert abs(config.train.tokens_before(total) / 780e9 - 1) < 0.01
    assert config.objective.z_loss == 1e-4


def test_gpt3():
    config = run_of("gpt3", "175b")
    rate, total = schedule_of(config)
    at = config.train.steps_for_tokens
    assert abs(config.train.tokens_before(total) / 300e9 - 1) < 1e-4
    assert np.isclose(rate(at(375e6)), 0.6e-4, rtol=1e-3)
    assert np.isclose(rate(at(260e9)), 0.6e-5, rtol=1e-3)
    assert np.isclose(rate(total), 0.6e-5, rtol=1e-3)
    tokens = [config.train.batch_sizes.at(step) * 2048 for step in (0, at(6e9), at(13e9))]
    assert tokens[0] == 32_768 and tokens[2] == 3_211_264
    assert abs(tokens[1] / (tokens[2] / 2) - 1) < 0.02  # Half-way, linear in tokens.
    small = run_of("gpt3", "125m", "PEAK = 6e-4", "BATCH = 256", "linear_ramp.tokens = 4e9")
    assert small.train.batch_size * 2048 == 524_288  # "0.5M"


def test_codex_is_gpt3s_recipe_for_a_hundred_billion_tokens_of_code():
    config = run_of("codex", "13b")
    rate, total = schedule_of(config)
    assert abs(config.train.tokens_before(total) / 100e9 - 1) < 1e-4
    assert config.train.batch_size * config.train.length == 2_097_152  # "2M tokens"
    assert np.isclose(rate(175), 1e-4) and rate(0) == 0
    assert np.asarray(rate(total // 2)) < 6e-5
    assert config.train.batch_ramp is None


def test_bloom():
    config = run_of("bloom", "176b")
    rate, total = schedule_of(config)
    rows = config.train.batch_sizes
    assert np.isclose(rate(rows.steps_for_rows(183_105)), 6e-5, rtol=1e-3)
    assert np.isclose(rate(rows.steps_for_rows(200_000_000)), 6e-6, rtol=1e-3)
    assert rows.at(0) == 192
    # Megatron's rule: 116 increments of equal shares of 9,765,625 rows.
    for seen in (100_000, 5_000_000, 9_700_000):
        step = rows.steps_for_rows(seen)
        expected = 192 + 16 * int(rows.rows_before(step) / (9_765_625 / 116))
        assert abs(rows.at(step) - expected) <= 16
    assert rows.at(rows.steps_for_rows(9_765_625)) == 2048
    assert abs(rows.rows_before(total) / 220e6 - 1) < 1e-4


def test_megatron_turing_is_cut_before_its_cosine_ends():
    config = run_of("mt_nlg", "530b")
    rate, total = schedule_of(config)
    at = config.train.steps_for_tokens
    share = (270e9 - 1e9) / (340e9 - 1e9)
    expected = 5e-6 + 4.5e-5 * 0.5 * (1 + math.cos(math.pi * share))
    # The cosine runs over steps, of which the ramp has more for its tokens.
    assert np.isclose(rate(total), expected, rtol=0.05)
    assert np.isclose(rate(at(1e9)), 5e-5, rtol=1e-3)
    assert [config.train.batch_sizes.at(s) for s in (0, at(13e9))] == [32, 1920]


@pytest.mark.parametrize(("size", "embed_dim"), [("base", 512), ("big", 1024)])
def test_the_original_transformers_rate_is_its_formula(size, embed_dim):
    peak = () if size == "base" else ("inverse_square_root.peak = 4.94e-4",)
    config = run_of("transformer", size, *peak)
    rate, _ = schedule_of(config)
    assert config.objective.label_smoothing == 0.1
    for step in (1, 1000, 4000, 50_000):
        expected = embed_dim**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert np.isclose(rate(step), expected, rtol=1e-3)


@pytest.mark.parametrize("recipe", ["t5", "lamda", "glam"])
def test_the_rate_of_t5_lamda_and_glam_is_flat_and_then_the_inverse_root(recipe):
    rate, _ = schedule_of(run_of(recipe))
    for step in (1, 5000, 10_000, 40_000, 1_000_000):
        assert np.isclose(rate(step), 1 / math.sqrt(max(step, 1e4)), rtol=1e-5)


def test_bert_rises_and_falls_in_straight_lines():
    rate, total = schedule_of(run_of("bert", "base"))
    assert total == 1_000_000
    for step, expected in [(5000, 5e-5), (10_000, 1e-4), (505_000, 5e-5), (1_000_000, 0.0)]:
        assert np.isclose(rate(step), expected, atol=1e-9)


def test_llama_405b_ends_at_a_hundredth():
    rate, total = schedule_of(run_of("llama3", "3_1_405b"))
    assert total == 1_200_000
    assert np.isclose(rate(8000), 8e-5, rtol=1e-5) and np.isclose(rate(total), 8e-7, rtol=1e-4)


def test_deepseek_v3_has_five_phases_and_a_ramp():
    config = run_of("deepseek_v3", "v3")
    rate, total = schedule_of(config)
    at = config.train.steps_for_tokens
    for step, expected in [
        (1000, 1.1e-4), (2000, 2.2e-4), (at(5e12), 2.2e-4), (at(10e12), 2.2e-4),
        (at(12.15e12), (2.2e-4 + 2.2e-5) / 2), (at(14.3e12), 2.2e-5), (at(14.6e12), 2.2e-5),
        (at(14.633e12) + 1, 7.3e-6), (total, 7.3e-6),
    ]:  # fmt: skip
        assert np.isclose(rate(step), expected, rtol=1e-3), step
    assert abs(config.train.tokens_before(total) / 14.8e12 - 1) < 1e-4
    assert [config.train.batch_sizes.at(s) for s in (0, at(470e9))] == [3072, 15_360]
    assert abs(config.train.batch_sizes.at(at(234.5e9)) - (3072 + 15_360) / 2) <= 1024


def test_olmo2_is_cut_where_its_second_stage_began():
    config = run_of("olmo2", "7b")
    rate, total = schedule_of(config)
    # OLMo2-7B-stage2-seed42.yaml loads step 928646 and begins at its rate, for 50 billion tokens.
    assert np.isclose(rate(928_646), 0.000061499, rtol=3e-3)
    assert abs((total - 928_646) * 1024 * 4096 / 50e9 - 1) < 1e-4
    halfway = (928_646 + total) // 2
    assert np.isclose(rate(halfway), rate(928_646) / 2, rtol=1e-3) and rate(total) == 0
    assert config.objective.z_loss == 1e-5
    bindings = "PEAK = 9e-4", "LOW = 9e-5", "BATCH = 2048", "CUT = 596_046", "STEPS = 607_967"
    rate, total = schedule_of(run_of("olmo2", "13b", *bindings))
    assert np.isclose(rate(596_046), 9e-5, rtol=1e-3) and rate(total) == 0


def test_qwen3_asks_for_what_is_undisclosed():
    files = ["base.gin", "mixtures/quickstart.gin", "models/qwen3/tiny.gin", "optimizers/qwen3.gin"]
    with pytest.raises(ConfigError, match="PEAK"):
        load(files)
    config = run_of("qwen3")
    assert config.model.layers[0].rope.base == 10_000
    assert abs(config.train.tokens_before(schedule_of(config)[1]) / 35e12 - 1) < 1e-6


@pytest.mark.parametrize("doublings", [1, 2, 3, 4])
def test_llama3s_longer_rows_hold_as_many_tokens(doublings):
    short, factor = run_of("llama3", "3_1_405b").train, 2**doublings
    bindings = (
        f"LENGTH = {8192 * factor}",
        f"BATCH = {2048 // factor}",
        f"BEFORE = ({512 // factor}, {1024 // factor})",
    )
    long = run_of("llama3_long", "3_1_405b", *bindings).train
    for step in (60, 342_000, 1_200_000):
        assert long.tokens_before(step) == short.tokens_before(step)


@pytest.mark.parametrize("bindings", [
    (), ("LENGTH = 131_072", "BATCH = 480", "START = 96", "INCREMENT = 32"),
])  # fmt: skip
def test_deepseek_v3s_longer_rows_follow_its_last_step(bindings):
    short = run_of("deepseek_v3", "v3")
    long = run_of("deepseek_v3_long", "v3", *bindings)
    assert long.train.batch_size * long.train.length == 15_360 * 4096
    last = schedule_of(short)[1]
    for step in (5000, 12_000, last):
        assert long.train.tokens_before(step) == short.train.tokens_before(step)
    stage = dataclasses.replace(long, train=dataclasses.replace(long.train, steps=last + 1000))
    rate, total = schedule_of(stage)
    assert total == 245_108 and all(np.isclose(rate(step), 7.3e-6) for step in (last, total))
    assert stage.model.layers[0].rope.scaling.factor == 40
