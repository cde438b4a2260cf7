"""Every number of every configuration has a stated domain, which its dataclass keeps."""

from __future__ import annotations

import argparse
import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.known_denoisers import LinearConfig
from support.pairs import tiny_clip
from support.transfusions import tiny_transfusion

from jaxgen import cli
from jaxgen.codecs.written_vectors import VectorCodec
from jaxgen.configuration import registered
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition
from jaxgen.data.mixtures import Mixture
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains, domains_of
from jaxgen.errors import ConfigError, JaxgenError
from jaxgen.evaluation.sandbox import Limits
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.conditioner_configs import ClassLabelsConfig
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
from jaxgen.models.media_config import PatchesConfig
from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.posttraining.verifiers import PatternMatch
from jaxgen.sweeps import scaling_rules
from jaxgen.sweeps.early_stopping import EarlyStopping
from jaxgen.sweeps.sweep import EnergyModel, Resources
from jaxgen.training.durations import DurationDomain

TASK = Task(name="t", source=StandardLibraryProse())
ANSWERED = Task(name="a", source=Addition(), features=PromptAnswer())
WIDTHS: dict[str, Any] = {"num_layers": 4, "embed_dim": 8, "num_heads": 2, "mlp_dim": 8}
TOWER = StackConfig(**WIDTHS, layers=(LayerConfig(rope=None, mask=(Bidirectional(),)),))
PAIR: dict[str, Any] = {
    "text": TransformerConfig(**WIDTHS, vocab_size=8),
    "vision": VisionConfig(stack=TOWER, pooling="mean"),
    "embed_dim": 8,
}
CODES: Any = ImageAutoencoderConfig()
REQUIRED: dict[str, dict[str, Any]] = {
    "mixture": {"name": "m", "tasks": (TASK,), "weights": {"t": 1.0}},
    "mixture_stage": {"first_step": 1, "weights": {"t": 1.0}},
    "task": {"name": "t", "source": StandardLibraryProse()},
    "prompted_mixture": {"mixture": Mixture("m", (TASK,)), "prompt": "x"},
    "few_shot": {"count": 1},
    "instructions": {"task": "addition"},
    "run_features": {"run_dir": "runs/pairs"},
    "template": {"fields": {}},
    "preparation": {"sources": (registered()["text_files"](pattern="*"),)},
    "evaluation_task": {"task": ANSWERED},
    "model": {**WIDTHS, "vocab_size": 8},
    "stack": WIDTHS,
    "distilled": {
        name: TransformerConfig(**WIDTHS, vocab_size=8) for name in ("model", "teacher")
    },
    "lora": {"model": TransformerConfig(**WIDTHS, vocab_size=8), "rank": 2},
    "card": {"name": "c", "source": "s"},
    "diffusion": {"denoiser": LinearConfig()},
    "upsampling": {"low_size": 2},
    "resize_images": {"size": 4},
    "cascade_pictures": {"run_dirs": ("runs/base",)},
    "found_captions": {"run_dir": "runs/pair"},
    "class_labels": {"classes": 2, "embed_dim": 4},
    "caption_encoder": {"model": TransformerConfig(**WIDTHS, vocab_size=8)},
    "clip_conditioner": {"pair": DualEncoderConfig(**PAIR)},
    "clip_latents": {"pair": DualEncoderConfig(**PAIR)},
    "together": {"parts": (ClassLabelsConfig(classes=2, embed_dim=4),) * 2},
    "window": {"size": 1},
    "banded": {"width": 1},
    "chunked": {"size": 1},
    **{
        name: {"height": 2, "width": 2}
        for name in ("grid_row", "grid_column", "grid_neighbourhood", "same_picture")
    },
    "rope_scaling": {"kind": "linear", "factor": 2.0},
    "latent": {"kv_rank": 4, "nope_dim": 4, "rope_dim": 4, "value_dim": 4},
    "moe": {"num_experts": 4, "mlp_dim": 8},
    "parametrization": {"kind": "mup", "base_embed_dim": 8},
    "train": {"steps": 10},
    "skip": {"after": 1, "count": 1},
    "linear_ramp": {"start": 1, "increment": 1, "tokens": 1e3},
    "rate_phase": {"rate": 1e-3},
    "stepped_ramp": {"sizes": (1,), "until": (5,)},
    "emoji": {"labels": "x"},
    "interleave": {"fields": ("text",)},
    "image_text_pairs": {"task": TASK, "image_size": 4},
    "comparisons": {"tasks": (TASK,), "weights": {"t": 1.0}},
    "preference_pairs": {"margins": {"better": 1.0}},
    "clean_errors": {"times": (1.0,), "errors": (0.1,)},
    "media_rows": {"task": TASK, "shape": (4, 4, 3)},
    "zero_shot": {"task": TASK, "label": "text", "classes": ("a", "b")},
    "vision": {"stack": TOWER, "image_size": 8, "patch_size": 1, "pooling": "mean"},
    "transfusion": {"model": tiny_transfusion().model},
    "drawn_pictures": {"pairs": ImageTextPairs(TASK, 4)},
    "prior": {
        "stack": StackConfig(**WIDTHS, layers=(LayerConfig(rope=None),)), "channels": 4,
        "context_dim": 4, "pooled_dim": 4,
    },
    "mmdit": {
        "stack": TOWER, "context_dim": 4, "pooled_dim": 4, "size": 8, "patch_size": 4
    },
    "dit": {"stack": TOWER, "size": 8, "patch_size": 4},
    "audio_encoder": {"stack": TOWER, "num_frames": 2},
    "media_input": {"encoder": PatchesConfig(image_size=4, patch_size=1), "token": 1},
    "patches": {"image_size": 4, "patch_size": 1},
    "dual_encoder": PAIR,
    # Any file will do: a palette is read when it is first used.
    **{
        name: {"path": __file__, "patch_height": 1, "patch_width": 1}
        for name in ("image_palette", "video_palette")
    },
    "sound_palette": {"path": __file__},
    "image_codec": {"path": __file__, "autoencoder": ImageAutoencoderConfig()},
    "sound_codec": {"path": __file__, "autoencoder": SoundAutoencoderConfig()},
    "vector_codec": {"path": __file__, "autoencoder": ImageAutoencoderConfig()},
    "pair_codes": {"pair": tiny_clip(), "components": 8},
    "caption_vectors": {"codec": VectorCodec(__file__, CODES)},
    "handwritten_digits": {"folder": "x"},
    "reasoning_gym": {"dataset": "basic_arithmetic"},
    "metric_reward": {"metric": None},
    "pattern_match": {"pattern": "x"},
    "length_penalty": {"most": 10},
    "run_reward": {"run_dir": "runs/reward"},
    "rewarded_completions": {"tasks": (ANSWERED,), "reward": PatternMatch("x")},
    "rollouts": {"tasks": (ANSWERED,), "reward": PatternMatch("x"), "weights": {"a": 1.0}},
    "reward_sum": {"rewards": (PatternMatch("x"),)},
    "guarded": {"reward": PatternMatch("x")},
    "in_memory": {"records": ({"text": "x"},)},
    **{
        name: {"pattern": "*"}
        for name in (
            "text_files", "jsonl", "parquet", "array_record", "hf_dataset", "webdataset",
            "big_bench",
        )
    },
}  # fmt: skip
UNREGISTERED: dict[type, dict[str, Any]] = {
    Limits: {},
    Resources: {},
    EnergyModel: {},
    EarlyStopping: {},
    scaling_rules.ModelShape: {},
    scaling_rules.TokensPerParameter: {},
    scaling_rules.TrainingFlops: {"flops": 1e18},
    scaling_rules.FixedHyperparameters: {"learning_rate": 1e-3, "tokens": 1e5},
}
KINDS = {name: kind for name, kind in registered().items() if isinstance(kind, type)}


def numeric(kind: type) -> Iterator[str]:
    """The fields that may hold a number."""
    for field in dataclasses.fields(kind):
        if field.init and set(members(typing.get_type_hints(kind)[field.name])) & {int, float}:
            yield field.name


def members(hint: Any) -> Iterator[Any]:
    yield hint
    if typing.get_origin(hint) is not typing.Literal:
        for argument in typing.get_args(hint):
            yield from members(argument)


def cases() -> Iterator[Any]:
    """(class, its required fields, field) of every number."""
    for name, kind in KINDS.items():
        for field in numeric(kind):
            yield pytest.param(kind, REQUIRED.get(name, {}), field, id=f"{name}.{field}")
    for kind, required in UNREGISTERED.items():
        for field in numeric(kind):
            yield pytest.param(kind, required, field, id=f"{kind.__name__}.{field}")


def inside_and_outside(domain: Domain, whole: bool) -> tuple[list[Any], list[Any]]:
    """Values at and beside each end of a domain, and no numbers."""
    small = 1 if whole else 1e-6
    inside, outside = [], [math.nan, math.inf, -math.inf]
    for end, closed, step in ((domain.low, "[", small), (domain.high, "]", -small)):
        if math.isfinite(end):
            end = int(end) if whole else float(end)
            inside += [end + step] + [end] * (closed in domain.ends)
            outside += [end - step] + [end] * (closed not in domain.ends)
    if domain.besides is not None:
        inside.append(domain.besides)
        outside = [value for value in outside if value != domain.besides]
    return inside, outside


def placed(kind: type, required: dict[str, Any], field: str, value: Any) -> Any:
    """The value where the field has numbers: by itself, or in a container."""
    hint = typing.get_type_hints(kind)[field]
    if any(typing.get_origin(one) is dict for one in members(hint)):
        return dict.fromkeys(required[field], value)
    return (value,) if typing.get_origin(hint) is tuple else value


@pytest.mark.parametrize(("kind", "required", "field"), list(cases()))
def test_every_number_has_a_domain_and_its_dataclass_keeps_it(kind, required, field):
    domain, _ = domains_of(kind)[field]
    whole = float not in set(members(typing.get_type_hints(kind)[field]))
    inside, outside = inside_and_outside(domain, whole)
    if isinstance(domain, DurationDomain):
        outside += [f"{value}%" for value in outside] + ["", "soon"]
        outside = [value for value in outside if value != domain.high + 1]
        shares = [f"{value}%" for value in inside] * domain.of_run
        inside = [value for value in inside if value >= 1] + shares
    for value in outside:
        with pytest.raises(ConfigError) as error:
            kind(**required | {field: placed(kind, required, field, value)})
        assert f".{field}=" in str(error.value)
        assert repr(value) in str(error.value)
        assert f"must be {domain}" in str(error.value)
    for value in inside:
        try:
            kind(**required | {field: placed(kind, required, field, value)})
        except JaxgenError as error:
            assert f"must be {domain}" not in str(error)


def test_the_walk_is_not_empty_and_messages_have_the_names_that_gin_has():
    assert len(list(cases())) > 270
    for name, kind in KINDS.items():
        required = REQUIRED.get(name, {})
        for field in list(numeric(kind))[:1]:
            with pytest.raises(ConfigError) as error:
                kind(**required | {field: placed(kind, required, field, math.nan)})
            assert str(error.value).split(".")[0] in (name, kind.__name__, "model")


def flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The flags of all commands that are shown."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags(command)
        elif action.help != argparse.SUPPRESS:
            yield action


SCORES = {"at_least"}
"""Flags of scores, which may be negative."""


def test_every_numeric_flag_refuses_what_makes_no_sense():
    numeric_flags = [
        action
        for action in flags(cli._parser())
        if getattr(action.type, "__name__", None) in ("int", "float")
    ]
    assert len(numeric_flags) > 35
    for action in numeric_flags:
        negative = () if action.dest in SCORES else ("-1", "-0.5")
        for text in ("nan", "inf", *negative, "many", str(-(10**400))):
            with pytest.raises((argparse.ArgumentTypeError, ValueError)):
                action.type(text)  # pyright: ignore[reportCallIssue, reportOptionalCall]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate --run_dir=r --max_tokens=0", "--max_tokens: 0 must be in [1, 16777216]"),
        ("generate --run_dir=r --seed=100000000000000000000", "must be in [0, 4294967295]"),
        ("generate --run_dir=r --top_p=1.5", "--top_p: 1.5 must be in (0, 1]"),
        ("harness --run_dir=r --tasks=t --limit=nan", "--limit: nan must be above 0"),
        ("sweep f.py --jobs=-3", "--jobs: -3 must be in [1, 1024]"),
        ("laws runs.csv --level=95", "--level: 95 must be in (0, 1)"),
        ("laws runs.csv --flops 1e21 nan", "--flops: nan must be above 0"),
        (
            "tokenizer train t --output=o --sample=2e999",
            "--sample: 2e999 must be above 0, and finite",
        ),
        ("export --run_dir=r --output=o --max_shard_bytes=1e9", "invalid int value: '1e9'"),
    ],
)
def test_a_wrong_number_on_the_command_line_is_one_message(line, message, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_domain_prints_itself_as_it_is_written():
    shown = {
        Domain(1): "1 or more",
        Domain(0, ends="(]"): "above 0",
        Domain(0, 1, "(]"): "in (0, 1]",
        Domain(0, 1, "[)"): "in [0, 1)",
        Domain(1, besides=-1): "1 or more, or -1",
        DurationDomain(0, 100): "a duration of 0 or more, at most 100%: 200 or",
    }
    for domain, text in shown.items():
        assert str(domain).startswith(text)


@given(st.floats(), st.floats(), st.floats(), st.sampled_from(["[]", "[)", "(]", "()"]))
def test_a_domain_is_the_interval(low, high, value, ends):
    domain = Domain(low, high, ends)
    above = value > low or (value == low and ends[0] == "[")
    below = value < high or (value == high and ends[1] == "]")
    assert domain.admits(value) == (above and below and math.isfinite(value))


def test_none_text_and_truth_are_the_types_matter_and_containers_are_looked_into():
    @dataclasses.dataclass(frozen=True)
    class Part:
        rate: PositiveFloat | str | None = None
        counts: tuple[tuple[PositiveInt, ...], ...] = ()

    for fine in (Part(), Part("fast"), Part(1e-9, ((1,), (2, 3)))):
        check_domains(fine, "part")
    with pytest.raises(ConfigError, match=r"part\.rate=0 must be above 0, or None\."):
        check_domains(Part(0), "part")
    with pytest.raises(
        ConfigError, match=r"part\.counts=\(\(1,\), \(2, 0\)\): 0 must be 1 or more\."
    ):
        check_domains(Part(counts=((1,), (2, 0))), "part")


@pytest.mark.parametrize("huge", [10**400, -(10**400)])
def test_integers_beyond_every_float_are_compared_not_converted(huge):
    assert Domain(1).admits(huge) == (huge > 0)
    assert not typing.get_args(Annotated[int, Domain(0, 1)])[1].admits(huge)
