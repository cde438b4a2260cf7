"""Every model that comes with jaxgen: it builds, and counts to what its authors published."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import jax
import pytest
from support.helpers import (
    OTHER_FAMILIES,
    UNET_FAMILIES,
    build,
    families,
    one_row,
    source_of,
    tiny_model,
)
from support.tiers import UNLIKE_FAMILIES, slow_but

from jaxgen.commands.models import load_model, model_names
from jaxgen.models.base import abstract_model
from jaxgen.models.counting import count_parameters, forward_flops_per_token
from jaxgen.models.parameters import number_of_parameters
from jaxgen.ops.experts import BLOCK_ROWS
from jaxgen.planning.work import read_work

ROOT = Path(__file__).parents[2]

NAMED = {
    "transformer", "bert", "t5", "t5_v1_1", "gpt2", "gpt3", "lamda", "palm", "glam", "bloom",
    "mt_nlg", "llama", "llama4", "mixtral", "deepseek", "olmo2", "qwen3", "gemma2", "gemma3",
    "qwen2", "mistral", "gpt_neox", "phi3", "gemma", "olmo", "olmoe", "opt",
    "gpt_j", "gpt_neo", "falcon", "mpt", "stablelm", "smollm3", "granite", "glm4", "cohere",
    "nemotron", "olmo3", "gpt_oss", "switch", "st_moe", "dalle", "chameleon", "gemini",
    "gpt4_style", "llava", "gemma3_vision", "starcoder2",
}  # fmt: skip

# Published figures that their shapes do not give, in percent; each is told in its card's note.
FAR = {
    "transformer/base": 3.0, "gpt3/2_7b": 1.8, "gpt3/350m": 1.7, "gpt3/1_3b": 1.3, "gpt3/13b": 1.2,
    "lamda/2b": 9.1, "lamda/8b": 9.1, "llama4/scout": 1.2, "glam/0_1b": 140, "glam/0_1b_64e": 9.5,
    "glam/1_7b": 26, "glam/1_7b_32e": 28, "glam/1_7b_64e": 1.2, "glam/8b": 11, "glam/137b": 1.9,
    "glam/64b_64e": 3.2, "dalle/12b": 1.7, "transfusion/0_16b": 1.8, "transfusion/0_37b": 1.2,
    "transfusion/0_76b": 2.5, "transfusion/1_4b": 2.5, "transfusion/7b": 3.8,
}  # fmt: skip


def test_every_named_family_is_there_and_has_a_tiny_member():
    assert set(families()) == NAMED
    assert {name.split("/")[0] for name in model_names()} == set(families()) | OTHER_FAMILIES


@pytest.mark.parametrize(
    "name", [name for name in model_names() if name.split("/")[0] not in UNET_FAMILIES]
)
def test_counts_are_those_of_the_tree_and_of_the_publication(name):
    config = load_model(name)
    card, count = config.card, config.count()
    assert card is not None and card.name and card.source
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        assert count.total == number_of_parameters(abstract_model(config))
    if card.parameters is None:
        assert name.endswith("tiny") or name.startswith("codecs/")
        return
    total = count.total if card.counts_head else count.total - count.head
    if card.is_exact:
        assert total == card.parameters
    else:
        far = 100 * abs(total / card.parameters - 1)
        assert far < FAR.get(name, 1.0)
        assert card.note or far < 2


@pytest.mark.parametrize(
    ("name", "active", "percent"),
    [
        ("glam/64b_64e", 96.6e9, 0.1),
        ("llama4/scout", 17.17e9, 0.1),
        ("llama4/maverick", 17.17e9, 0.1),
        ("deepseek/v3", 37e9, 2),
        ("qwen3/235b_a22b", 22e9, 1),
        ("olmoe/1b_7b", 1.3e9, 2),
        ("granite/3b_a800m", 880e6, 1),
        ("qwen2/1_5_moe_a2_7b", 2.7e9, 1),
        ("qwen2/57b_a14b", 14e9, 2),
    ],
)
def test_active_parameters_are_the_published_ones(name, active, percent):
    assert abs(count_parameters(load_model(name)).active / active - 1) < percent / 100


@pytest.mark.parametrize(("name", "active"), [("20b", 3.61e9), ("120b", 5.13e9)])
def test_gpt_oss_counts_its_active_parameters_without_the_embedding(name, active):
    config = load_model(f"gpt_oss/{name}")
    table = config.vocab_size * config.embed_dim
    assert abs((count_parameters(config).active - table) / active - 1) < 0.001


@pytest.mark.parametrize("family", slow_but((*UNLIKE_FAMILIES, "deepseek", "t5"), families()))
def test_flops_are_those_of_the_compiled_program(family, monkeypatch):
    # The count is of every query against every key; pieces skip keys that no query may see.
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    config, batch = tiny_model(family), one_row(64, 320, batch_size=4)
    if config.has_encoder:
        batch = dataclasses.replace(batch, encoder=source_of(batch, 64))
    forward = jax.jit(lambda model, batch: model.logits(model(batch).hidden))
    program = forward.lower(build(config), batch).compile().as_text()
    assert program is not None
    # Experts' loops run once for each full block of rows; the rest of a block is not work.
    choices = config.moe.experts_per_token if config.moe else 1
    flops = read_work(program, {}, Fraction(4 * 64 * choices, BLOCK_ROWS)).flops
    assert abs(flops / (4 * 64 * forward_flops_per_token(config, 64)) - 1) < 0.01


def test_files_say_what_they_are():
    for path in (ROOT / "gin" / "models").glob("*/*.gin"):
        says = path.stem in ("family", "tiny") or path.parent.name == "codecs"
        assert path.read_text().startswith("#" if says else "include 'models/")


def test_patterns_over_depth_are_whole_units_with_a_remainder():
    gemma = tiny_model("gemma3")
    assert [(len(group.unit), group.repeats) for group in gemma.groups] == [(6, 1), (1, 2)]
    deepseek = load_model("deepseek/v3")
    assert [(len(g.unit), g.repeats, g.unit[0].is_sparse) for g in deepseek.groups] == [
        (1, 3, False), (1, 58, True),
    ]  # fmt: skip
    maverick = load_model("llama4/maverick")
    kinds = [kind.is_sparse for kind in maverick.groups[0].unit]
    assert kinds == [False, True, False, True] and maverick.groups[0].repeats == 12
