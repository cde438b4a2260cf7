"""The models that jaxgen has gin files of are those of their families."""

import dataclasses

import pytest

from jaxgen.commands.models import load_model, model_names
from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import choose_family
from jaxgen.interchange.pipelines import alone, kind_of
from jaxgen.models.diffusion.config import DiffusionConfig

EXCHANGED = {
    "bert": ["bert_pretraining"], "bloom": ["bloom"], "deepseek": ["deepseek_v2", "deepseek_v3"],
    "gemma2": ["gemma2"], "gemma3": ["gemma3"], "gpt2": ["gpt2"], "llama": ["llama"],
    "chameleon": ["chameleon", "chameleon_post"],
    "mixtral": ["mixtral"], "olmo2": ["olmo2"], "qwen3": ["qwen3", "qwen3_moe"], "t5": ["t5"],
    "t5_v1_1": ["t5_v1_1"], "qwen2": ["qwen2", "qwen2_moe"], "olmo3": ["olmo3"],
    "mistral": ["mistral", "llama"], "olmo": ["olmo"],
    "gpt_neox": ["gpt_neox"], "phi3": ["mistral", "llama", "phi3"], "gemma": ["gemma"],
    "olmoe": ["olmoe"], "opt": ["opt"],
    "gpt_j": ["gpt_j"], "gpt_neo": ["gpt_neo"], "falcon": ["falcon", "falcon_two_norms"],
    "mpt": ["mpt"], "stablelm": ["stablelm"], "smollm3": ["smollm3"],
    "granite": ["granite", "granite_moe"], "glm4": ["glm", "glm4"],
    "cohere": ["cohere", "cohere2"], "nemotron": ["nemotron"],
    "llava": ["llava"], "whisper": ["whisper"], "gemma3_vision": ["gemma3_seeing"],
    "llama4": ["llama4"], "gpt_oss": ["gpt_oss"], "clip": ["clip"], "siglip": ["siglip"],
    "stable_diffusion_3": ["stable_diffusion_3"], "flux": ["flux"],
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [one for one in model_names() if one.split("/")[0] in EXCHANGED and "/whole" not in one],
)
def test_a_gin_model_can_be_exchanged(name):
    config = load_model(name)
    assert choose_family(config).name in EXCHANGED[name.split("/")[0]]


def test_stable_diffusion_3_whole_is_a_pipeline_whose_parts_can_be_exchanged():
    config = load_model("stable_diffusion_3/whole_medium")
    kind = kind_of(config)
    assert kind is not None and kind.name == "StableDiffusion3Pipeline"
    encoders = kind.find_encoders(config.conditioner)
    assert encoders is not None
    made = kind.make_conditioner([*map(alone, encoders[:2]), encoders[2].model], [49_407, 0, 0])
    drops = [dataclasses.replace(one, drop=0.464) for one in kind.find_encoders(made) or []]
    assert drops == encoders
    counts = [123_650_304, 694_659_840, 4_762_310_656]
    assert [one.count().total for one in encoders] == counts
    parts = [DiffusionConfig(denoiser=config.denoiser), config.latents]
    parts += [*map(alone, encoders[:2]), encoders[2].model]
    for one, part in zip(parts, kind.parts.values(), strict=True):
        family = choose_family(one, part.family)
        assert part.of[1] in family.architectures


@pytest.mark.parametrize("name", ["palm/8b", "glam/8b", "gpt3/175b"])
def test_other_models_are_refused(name):
    with pytest.raises(InterchangeError, match="no family"):
        choose_family(load_model(name))
