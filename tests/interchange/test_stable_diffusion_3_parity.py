"""Stable Diffusion 3 as a whole pipeline: captions by three encoders, pictures, and back again."""

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
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from support.clip_tokenizers import clip_tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from jaxgen.cli import main
from jaxgen.errors import InterchangeError
from jaxgen.generation.diffusion.guidance import Guidance
from jaxgen.generation.diffusion.sampling import sample_pictures
from jaxgen.interchange.pipelines import open_pipeline
from jaxgen.models.parameters import named_parameters
from jaxgen.runs.cascades import Stage, read_run
from jaxgen.sharding.mesh import MeshConfig, make_mesh

LENGTH, SOURCE, STEPS = 16, 256, 4
PROMPTS = ["a red circle", "Two BLUE squares, and a ring"]
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


def words_of_t5():
    """T5's tokenizer, of characters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [",", "▁"]
    names = ["<pad>", "</s>", "<unk>", *letters]
    names += [f"<extra_id_{number}>" for number in reversed(range(100))]
    return T5TokenizerFast(vocab=[(name, -1.0) for name in names])


def tower(words, width, activation):
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=20, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=width,
        hidden_act=activation, eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A tiny pipeline, and its folder."""
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    words = clip_tokenizer(folder / "words", LENGTH, "<|endoftext|>")
    others = clip_tokenizer(folder / "others", LENGTH, "!")
    t5 = T5EncoderModel(
        T5Config(
            d_model=32, d_kv=8, d_ff=40, num_heads=4, num_layers=2, vocab_size=160,
            feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        )
    )  # fmt: skip
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=32,
        caption_projection_dim=16, pooled_projection_dim=20, pos_embed_max_size=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5305,
        shift_factor=0.0609,
    )  # fmt: skip
    small, large = tower(words, 8, "quick_gelu"), tower(words, 12, "gelu")
    with torch.no_grad():
        for part in (small, large, t5, transformer, vae):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    whole = StableDiffusion3Pipeline(
        transformer.eval(), FlowMatchEulerDiscreteScheduler(shift=3.0), vae.eval(), small.eval(),
        words, large.eval(), others, t5.eval(), words_of_t5(),
    )  # fmt: skip
    whole.set_progress_bar_config(disable=True)
    whole.save_pretrained(folder / "saved")
    return whole, folder


@pytest.fixture(scope="module")
def run_dir(pipeline):
    """The run's directory of the pipeline."""
    _, folder = pipeline
    assert main(["import", f"--from={folder / 'saved'}", f"--output={folder / 'run'}"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def stage(run_dir):
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        found = read_run(run_dir, mesh)
        assert isinstance(found, Stage) and found.sampling.guidance == Guidance(7.0)
        yield found


def far(ours, theirs):
    """The largest difference, over the largest of theirs."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0.1
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def test_captions_are_read_as_by_the_pipeline(pipeline, stage):
    whole, _ = pipeline
    told, nothing, pooled, without = whole.encode_prompt(
        PROMPTS, None, None, device="cpu", max_sequence_length=SOURCE
    )
    prompts = stage.prompts(PROMPTS, None)
    condition = jax.jit(
        lambda model, prompts, keeps: model.condition(prompts, keeps), static_argnums=2
    )
    for keeps, sequence, vector in ((True, told, pooled), (False, nothing, without)):
        found = condition(stage.model, prompts, keeps)
        assert found.mask is None and found.sequence.shape == (2, LENGTH + SOURCE, 32)
        print(keeps, f"{far(found.sequence, sequence):.1e}", f"{far(found.pooled, vector):.1e}")
        assert far(found.sequence, sequence) < 2e-5
        assert far(found.pooled, vector) < 2e-5


def pictures_of(whole, noise):
    latents = torch.from_numpy(noise.transpose(0, 3, 1, 2).copy())
    found = whole(
        PROMPTS, latents=latents, num_inference_steps=STEPS, output_type="pt", height=16, width=16,
    )  # fmt: skip
    return found.images.numpy().transpose(0, 2, 3, 1)


def test_pictures_are_those_of_the_pipeline(pipeline, stage):
    sampler = dataclasses.replace(stage.sampling.sampler, steps=STEPS)
    settings = dataclasses.replace(stage.sampling, sampler=sampler)
    keys = jax.vmap(jax.random.key)(np.arange(2))
    noise = [jax.random.normal(jax.random.fold_in(key, 0), (8, 8, 4)) for key in keys]
    prompts = stage.prompts(PROMPTS, None)
    made = sample_pictures(stage.model, stage.corruption, settings, prompts, keys)
    expected = pictures_of(pipeline[0], np.stack(noise))
    found = np.abs(np.clip(made / 2 + 0.5, 0, 1) - expected).max()
    print(f"{found:.1e}", f"deviation {expected.std():.2f}")
    assert expected.std() > 0.05
    assert found < 2e-4


def test_an_export_is_the_pipeline_again(pipeline, run_dir):
    whole, folder = pipeline
    out = folder / "exported"
    assert main(["export", f"--run_dir={run_dir}", f"--output={out}"]) == 0
    again = StableDiffusion3Pipeline.from_pretrained(out, torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    for part in PARTS:
        own, other = (getattr(one, part).state_dict() for one in (whole, again))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own), part
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    np.testing.assert_allclose(pictures_of(again, noise), pictures_of(whole, noise), atol=1e-5)
    # Without the files of the import it still tokenises as they do.
    shutil.rmtree(run_dir / "imported")
    alone = folder / "alone"
    assert main(["export", f"--run_dir={run_dir}", f"--output={alone}"]) == 0
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    for name, length in zip(names, (LENGTH, LENGTH, 40), strict=True):
        written = PreTrainedTokenizerFast.from_pretrained(alone / name)
        options = {"padding": "max_length", "max_length": length, "truncation": True}
        expected = getattr(whole, name)([*PROMPTS, ""], **options).input_ids
        assert written([*PROMPTS, ""], **options).input_ids == expected, name
    back = folder / "back"
    assert main(["import", f"--from={alone}", f"--output={back}"]) == 0
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        models = [dict(named_parameters(read_run(one, mesh).model)) for one in (run_dir, back)]
    assert models[0].keys() == models[1].keys()
    for name, parameter in models[0].items():
        np.testing.assert_array_equal(parameter[...], models[1][name][...])


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"use_dynamic_shifting": True}, "use_dynamic_shifting"),
        ("transformer/config.json", {"joint_attention_dim": 16}, "do not fit"),
        ("text_encoder/config.json", {"architectures": ["CLIPTextModel"]}, "has a"),
    ],
)
def test_what_jaxgen_does_not_compute_is_refused(pipeline, file, changes, message, tmp_path):
    shutil.copytree(pipeline[1] / "saved", tmp_path / "saved")
    path = tmp_path / "saved" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InterchangeError, match=message):
        open_pipeline(tmp_path / "saved")
