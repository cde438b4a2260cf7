"""A whole pipeline of diffusers as one run: the same pictures of the same noise, and back again."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from support.clip_tokenizers import clip_tokenizer
from support.tiers import slow_but
from transformers import CLIPTextConfig, CLIPTextModel

from jaxgen.cli import main
from jaxgen.errors import InterchangeError
from jaxgen.generation.diffusion.guidance import Guidance
from jaxgen.generation.diffusion.sampling import sample_pictures
from jaxgen.interchange.pipelines import open_pipeline
from jaxgen.interchange.schedulers import read_scheduler, write_scheduler
from jaxgen.models.parameters import named_parameters
from jaxgen.runs.cascades import Stage, read_run
from jaxgen.sharding.mesh import MeshConfig, make_mesh

LENGTH, STEPS = 24, 5
PROMPTS = ["a red circle", "Two BLUE squares, and a ring"]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"steps_offset": 1, "set_alpha_to_one": False}
SCHEDULERS = {
    "sd1": PNDMScheduler(**BETAS, **SD, skip_prk_steps=True),
    "sd2": DDIMScheduler(**BETAS, **SD, clip_sample=False, prediction_type="v_prediction"),
    "ddim": DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing"),
    "euler": EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
    "dpm": DPMSolverMultistepScheduler(**BETAS, timestep_spacing="trailing"),
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A tiny pipeline, and its folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    words = clip_tokenizer(folder / "words", LENGTH, "!")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=12, intermediate_size=20, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=LENGTH,
            eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=12,
        layers_per_block=1, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    with torch.no_grad():
        for part in (text, unet, vae):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    whole = StableDiffusionPipeline(
        vae.eval(), text.eval(), words, unet.eval(), SCHEDULERS["sd1"], None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    whole.set_progress_bar_config(disable=True)
    whole.save_pretrained(folder / "saved")
    return whole, folder


def imported(pipeline, name):
    """The run's directory of the pipeline with a scheduler."""
    whole, folder = pipeline
    run_dir = folder / f"run-{name}"
    if not run_dir.exists():
        whole.scheduler = SCHEDULERS[name]
        source = folder / "saved"
        whole.scheduler.save_pretrained(source / "scheduler")
        assert main(["import", f"--from={source}", f"--output={run_dir}"]) == 0
    return run_dir


def ours(run_dir):
    """Pictures of the prompts, and the noise that they were made of."""
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        stage = read_run(run_dir, mesh)
        assert isinstance(stage, Stage) and stage.sampling.guidance == Guidance(7.5)
        sampler = dataclasses.replace(stage.sampling.sampler, steps=STEPS)
        settings = dataclasses.replace(stage.sampling, sampler=sampler)
        keys = jax.vmap(jax.random.key)(np.arange(2))
        own = stage.model.config.denoiser
        noise = [
            jax.random.normal(jax.random.fold_in(key, 0), (own.size, own.size, own.channels))
            for key in keys
        ]
        prompts = stage.prompts(PROMPTS, None)
        made = sample_pictures(stage.model, stage.corruption, settings, prompts, keys)
    return np.asarray(made), np.stack(noise), prompts


def theirs(whole, noise):
    latents = torch.from_numpy(noise.transpose(0, 3, 1, 2).copy())
    found = whole(
        PROMPTS, latents=latents, num_inference_steps=STEPS, guidance_scale=7.5, output_type="pt",
        height=16, width=16,
    )  # fmt: skip
    return found.images.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", slow_but(("sd1",), SCHEDULERS))
def test_pictures_are_those_of_the_pipeline(pipeline, name):
    whole, _ = pipeline
    run_dir = imported(pipeline, name)
    whole.scheduler = SCHEDULERS[name]
    made, noise, prompts = ours(run_dir)
    ids = whole.tokenizer(PROMPTS, padding="max_length", max_length=LENGTH).input_ids
    np.testing.assert_array_equal(prompts.tokens, ids)
    expected = theirs(whole, noise)
    found = np.abs(np.clip(made / 2 + 0.5, 0, 1) - expected).max()
    print(name, f"{found:.1e}", f"deviation {expected.std():.2f}")
    assert expected.std() > 0.05
    assert found < 2e-4


def test_an_export_is_the_pipeline_again(pipeline):
    whole, folder = pipeline
    run_dir = imported(pipeline, "sd1")
    out = folder / "exported"
    assert main(["export", f"--run_dir={run_dir}", f"--output={out}"]) == 0
    again = StableDiffusionPipeline.from_pretrained(out, torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    for part in ("unet", "vae", "text_encoder"):
        own, other = (getattr(one, part).state_dict() for one in (whole, again))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own), part
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    whole.scheduler = SCHEDULERS["sd1"]
    np.testing.assert_allclose(theirs(again, noise), theirs(whole, noise), atol=1e-5)
    # Imported again it is the same model.
    back = folder / "back"
    assert main(["import", f"--from={out}", f"--output={back}"]) == 0
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        models = [dict(named_parameters(read_run(one, mesh).model)) for one in (run_dir, back)]
    assert models[0].keys() == models[1].keys()
    for name, parameter in models[0].items():
        np.testing.assert_array_equal(parameter[...], models[1][name][...])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_come_back(name):
    kind = {"_class_name": type(SCHEDULERS[name]).__name__}  # As a saved file has it.
    corruption, sampler = read_scheduler(dict(SCHEDULERS[name].config) | kind)
    written = write_scheduler(corruption, sampler)
    assert read_scheduler(written) == (corruption, sampler)
    again = type(SCHEDULERS[name]).from_config(written)
    again.set_timesteps(STEPS)
    SCHEDULERS[name].set_timesteps(STEPS)
    np.testing.assert_array_equal(again.timesteps, SCHEDULERS[name].timesteps)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "reads StableDiffusionPipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ("scheduler/scheduler_config.json", {"skip_prk_steps": False}, "skip_prk_steps=False"),
        ("unet/config.json", {"cross_attention_dim": 16}, "do not fit"),
    ],
)
def test_what_jaxgen_does_not_compute_is_refused(pipeline, file, changes, message, tmp_path):
    imported(pipeline, "sd1")
    shutil.copytree(pipeline[1] / "saved", tmp_path / "saved")
    SCHEDULERS["sd1"].save_pretrained(tmp_path / "saved" / "scheduler")
    path = tmp_path / "saved" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InterchangeError, match=message):
        open_pipeline(tmp_path / "saved")
