"""`jaxgen import` and `jaxgen export`: checkpoints of Hugging Face from and to runs."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from typing import Any

import jax

from jaxgen.codecs.media import media_ranges
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.codecs.vectors import ImageVectors
from jaxgen.commands.imported_runs import keep_config, save_import
from jaxgen.commands.pipelines import export_whole, import_pipeline
from jaxgen.configuration import load_run
from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import Text
from jaxgen.data.mixtures import Mixture
from jaxgen.data.protocols import Denoising
from jaxgen.data.tasks import Task
from jaxgen.distributed import is_main, on_main
from jaxgen.errors import InterchangeError
from jaxgen.generation.continuing import readable_length
from jaxgen.interchange.changed_tokens import returned
from jaxgen.interchange.configs import LONGEST, write_config
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.files import TOKENIZER
from jaxgen.interchange.hub import local_checkpoint
from jaxgen.interchange.importing import Checkpoint, load_model, open_checkpoint
from jaxgen.interchange.originals import keep_originals, original_config
from jaxgen.interchange.peft import Adapter, export_adapter, load_adapted, open_adapter
from jaxgen.interchange.pipelines import is_pipeline, kind_of
from jaxgen.interchange.quantised import check_method
from jaxgen.interchange.tokenizers import begin_contradiction, read_codec, write_codec
from jaxgen.models.base import language_model
from jaxgen.models.config import TransformerConfig
from jaxgen.models.lora import Lora
from jaxgen.models.parameters import number_of_parameters
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.restoring import Restored, restore
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig

TRAINED = 512


def import_checkpoint(arguments: argparse.Namespace) -> int:
    """Makes a run whose checkpoint of step 0 is a Hugging Face model with a fresh optimiser.

    The other commands then take it as any run: `generate` and `evaluate` read the checkpoint,
    `train` continues from it. Configuration flags name the data of training and evaluation; the
    model, and the codec if the folder has a tokenizer.json, are the checkpoint's. Without such
    flags the data is the embedded prose, which is enough to generate and to try things out.

    Args:
      arguments: `source`, `revision`, `ignore_keys`, `text_only`, `adapter`, `output`, `gin_files`
        and `bindings`.
    """
    prepare_process()
    source, revision = local_checkpoint(arguments.source, arguments.revision)
    if is_pipeline(source):
        return import_pipeline(arguments, source)
    checkpoint = open_checkpoint(source, arguments.ignore_keys, revision, arguments.text_only)
    directory = RunDirectory(arguments.output)
    if on_main(directory.path.exists):
        raise InterchangeError(f"{directory.path} exists; import to a folder that does not.")
    if not isinstance(checkpoint.config, TransformerConfig) and not arguments.gin_files:
        raise InterchangeError(
            f"{checkpoint.folder} is a {checkpoint.family.name}, whose data no import can choose; "
            "name a --gin_file with data and objective, such as runs/contrastive.gin for pairs of "
            "encoders, runs/codecs/kl_sprites.gin for autoencoders, or one of runs/diffusion."
        )
    if getattr(checkpoint.config, "sound", None) is not None:
        raise InterchangeError(
            f"{checkpoint.folder} is a {checkpoint.family.name}, and no mixture gives sounds to an "
            "encoder yet; read it in Python, by interchange.importing.load_model."
        )
    if not (checkpoint.folder / TOKENIZER).exists() and not arguments.gin_files:
        raise InterchangeError(
            f"{checkpoint.folder} has no {TOKENIZER}. Put it there, or name a --gin_file whose "
            "tasks use the codec that the model was trained with."
        )
    adapter = None if arguments.adapter is None else open_adapter(arguments.adapter, checkpoint)
    try:
        config, execution = make_run(checkpoint, directory, arguments, adapter)

        def load(layout: Layout) -> Any:
            if adapter is None:
                return load_model(checkpoint, layout)
            return load_adapted(checkpoint, adapter, layout)

        model = save_import(config, execution, directory, load, str(checkpoint.folder))
    except BaseException:
        if is_main():
            shutil.rmtree(directory.path, ignore_errors=True)  # It was not there before.
        raise
    part = f", the text part of {checkpoint.part_of}" if checkpoint.part_of else ""
    if method := check_method(checkpoint.values):
        print(f"the tensors were quantised ({method}); the run's are float32")
    print(f"{checkpoint.family.name}, {number_of_parameters(model):,} parameters{part}")
    if (checkpoint.folder / TOKENIZER).exists() and (line := begin_contradiction(checkpoint)):
        print(line)
    print(f"run directory: {directory.path}")
    return 0


def export_checkpoint(arguments: argparse.Namespace) -> int:
    """Writes the model of a run's checkpoint, with its tokenizer, for Hugging Face.

    Args:
      arguments: `run_dir`, `step`, `output`, `family`, `dtype`, `max_shard_bytes`, `adapter`.
    """
    prepare_process()
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir, mesh, arguments.step, ema=arguments.ema, average=arguments.average
        )
        model = language_model(restored.config.model)
        if arguments.adapter:
            return _export_adapter(restored, arguments)
        if kind_of(restored.config.model) is not None:
            return export_whole(restored, arguments)
        settings = export_settings(restored.config, model, restored.directory, arguments.family)
        family = export_model(
            restored.language_model,
            arguments.output,
            dtype=arguments.dtype,
            max_shard_bytes=arguments.max_shard_bytes,
            **settings,
        )
    if TOKENIZER not in settings["files"]:
        print(
            f"no {TOKENIZER}: {type(restored.config.mixture.codec).__name__} cannot be written as "
            "one; give transformers the tokenizer that the model was trained with."
        )
    for one in media_ranges(restored.config.mixture.codec):
        if one.form is not None:
            continue
        print(
            f"ids from {one.first_id} to {one.first_id + one.num_codes - 1} are codes of "
            f"{one.modality}, which jaxgen's codec alone turns back"
        )
    if getattr(model, "mtp_depth", 0) and not family.module_rows:
        print(
            f"left out: {model.count().multi_token:,} parameters of modules that predict further "
            f"tokens, which {family.name} does not have"
        )
    print(f"{restored.config.name} at step {restored.step} as {family.name}: {arguments.output}")
    return 0


def _export_adapter(restored: Restored, arguments: argparse.Namespace) -> int:
    if not isinstance(restored.model, Lora):
        raise InterchangeError(
            f"{arguments.run_dir} is a run of {type(restored.config.model).__name__}, which has no "
            "adapters; leave --adapter out."
        )
    original = original_config(restored.directory.path)
    family = choose_family(restored.transformer, arguments.family, original)
    export_adapter(restored.model, arguments.output, family, arguments.dtype)
    name = f"{restored.config.name} at step {restored.step}"
    print(f"adapters of {name} for PEFT, upon its {family.name}: {arguments.output}")
    return 0


def export_settings(
    config: RunConfig, model: Any, directory: RunDirectory, name: str | None = None
) -> dict[str, Any]:
    """Returns what an export writes beside the tensors, as arguments of `export_model`.

    Args:
      config: the run's.
      model: that of its parameters.
      directory: the run's, which has the files that an import was given.
      name: of the family to write; None: the import's own, or the first that can.
    """
    original = original_config(directory.path)
    family = choose_family(model, name, original)
    longest = readable_length(model, config.train.length)
    has_encoder = getattr(model, "has_encoder", False)
    files, more = write_codec(config.mixture.codec, has_encoder, _has_both_ends(model), longest)
    if has_encoder:
        more["decoder_start_token_id"] = more["bos_token_id"]
    if LONGEST in family.inert and LONGEST not in write_config(family, model):
        more[LONGEST] = longest
    text_only = not getattr(model, "media", ())
    files, original = returned(directory.path, config.mixture.codec, text_only, files)
    return {"family": family, "files": files, "more": more, "original": original}


def make_run(
    checkpoint: Checkpoint,
    directory: RunDirectory,
    arguments: argparse.Namespace,
    adapter: Adapter | None = None,
) -> tuple[RunConfig, ExecutionConfig]:
    """Makes the directory of an import, with its tokenizer, config.gin and the files given."""
    on_main(_keep_files, checkpoint, directory)
    codec = None
    if (checkpoint.folder / TOKENIZER).exists():
        codec = read_codec(checkpoint, str(directory.path / TOKENIZER))
    model = checkpoint.config
    if arguments.gin_files:
        config, execution = load_run(arguments.gin_files, arguments.bindings)
        mixture = config.mixture
        if codec is not None:
            mixture = mixture.with_codec(codec)
        config = dataclasses.replace(config, model=model, mixture=mixture)
    else:
        assert codec is not None
        config, execution = _default_run(checkpoint, codec), ExecutionConfig()
    if codec is not None and getattr(model, "media", ()):
        mixture: Any = config.mixture
        mixture = mixture.with_codec(codec_with_media(codec, model, checkpoint.values))
        config = dataclasses.replace(config, mixture=mixture)
    if adapter is not None:
        config = dataclasses.replace(config, model=adapter.config)
    on_main(keep_config, config, directory)
    return config, execution


def codec_with_media(
    codec: TokenizerCodec, model: TransformerConfig, values: Mapping[str, Any]
) -> MultimodalCodec:
    """Returns a tokenizer with the images that its model reads, where their token stands.

    Args:
      codec: the tokenizer.
      model: says how many vectors an image is.
      values: the checkpoint's config.json, which may name the tokens around an image (Gemma 3).
    """
    around = [values.get(name) for name in ("boi_token_index", "eoi_token_index")]
    begin, end = (None if one is None else codec.special_name(one) for one in around)
    images = []
    for one in model.media:
        height, width, _ = one.encoder.input_shape
        images.append(
            ImageVectors(
                height,
                width,
                rows=one.num_vectors // one.width,
                columns=one.width,
                token=codec.special_name(one.token),
                begin=begin,
                end=end,
            )
        )
    return MultimodalCodec(codec, tuple(images))


def _keep_files(checkpoint: Checkpoint, directory: RunDirectory) -> None:
    directory.prepare()
    if (checkpoint.folder / TOKENIZER).exists():
        shutil.copyfile(checkpoint.folder / TOKENIZER, directory.path / TOKENIZER)
    keep_originals(checkpoint.folder, directory.path)


def _has_both_ends(model: Any) -> bool:
    """Returns whether rows have begin and end tokens: masked texts and captions do."""
    return not isinstance(model, TransformerConfig) or _is_bidirectional(model)


def _default_run(checkpoint: Checkpoint, codec: TokenizerCodec) -> RunConfig:
    """Returns a run on the embedded prose, with the denoising that suits the architecture."""
    model = checkpoint.config
    has_encoder = model.has_encoder
    task = Task("prose", StandardLibraryProse(), Text(denoising=_denoising(model, codec)), codec)
    length = min(model.max_length or TRAINED, TRAINED)
    return RunConfig(
        model,
        Mixture("prose", (task,)),
        TrainConfig(
            steps=1000,
            batch_size=8 * jax.device_count(),
            length=length,
            source_length=length if has_encoder else None,
        ),
        name=checkpoint.family.name,
    )


def _is_bidirectional(model: TransformerConfig) -> bool:
    return any(
        isinstance(one, Bidirectional) for layer in model.kinds_of_layers for one in layer.mask
    )


def _denoising(model: TransformerConfig, codec: TokenizerCodec) -> Denoising | None:
    if model.has_encoder:
        has_sentinels = codec.has_special("<extra_id_0>")
        return SpanCorruption(sentinel="<extra_id_{}>") if has_sentinels else PrefixLM()
    if _is_bidirectional(model):
        known = [name for name in ("[MASK]", "<mask>", "<|mask|>") if codec.has_special(name)]
        if not known:
            raise InterchangeError(
                "the model is bidirectional, and its tokenizer has no mask token to train with; "
                "name a --gin_file with a mixture."
            )
        return MaskedTokens(mask=known[0])
    return None
