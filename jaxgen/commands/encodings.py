"""`jaxgen prepare --captions`: a run-to-be's captions as its frozen encoder reads them, once."""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from jaxgen.configuration import load_run
from jaxgen.data.caption_encodings import write_encodings
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.errors import ConfigError
from jaxgen.evaluation.caption_states import caption_states, distinct_captions
from jaxgen.process import prepare_process
from jaxgen.runs.encoders import open_encoder
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def prepare_captions(arguments: argparse.Namespace) -> int:
    """Writes the states of all captions, and prints what reads them.

    Args:
      arguments: `gin_files` and `bindings` of the run that will read them, whose
        `initialize_parts` are seen from the folder; `output` and `dtype`.
    """
    prepare_process()
    config, execution = load_run(arguments.gin_files, arguments.bindings)
    pairs, folder = config.mixture, Path(arguments.output)
    if not isinstance(pairs, ImageTextPairs):
        raise ConfigError(
            f"captions are those of pairs (run.mixture = @image_text_pairs()), and the data is a "
            f"{type(pairs).__name__}."
        )
    length, console = config.train.length, Console()
    with jax.set_mesh(make_mesh(MeshConfig(1), jax.devices()[:1])):
        encoder, parent = open_encoder(config, RunDirectory(folder), execution)
        captions = distinct_captions(pairs, length)
        masks_padding = encoder.config.masks_padding
        rows = list(captions.values())
        states = caption_states(
            encoder, rows, length, pairs.codec.pad_id, config.evaluation.batch_size
        )
        shown = track(
            zip(captions, states, strict=True),
            "captions",
            total=len(rows),
            console=console,
            disable=not console.is_terminal,
        )
        made_by = parent.describe()
        write_encodings(
            folder,
            {key: len(ids) if masks_padding else length for key, ids in captions.items()},
            shown,
            {
                "codec": pairs.codec.digest,
                "encoder": {
                    "name": made_by["name"],
                    "fingerprint": made_by["fingerprint"],
                    "parameters": parent.parameters_digest,
                },
                "width": encoder.config.context_dim,
                "dtype": arguments.dtype,
                "masks_padding": masks_padding,
                "length": length,
            },
        )
    tokens = sum(len(ids) for ids in captions.values())
    size = np.load(folder / "states.npy", mmap_mode="r").nbytes
    print(f"{folder}: {len(captions):,} captions of {tokens:,} tokens, {size / 1e6:,.1f} MB")
    print(
        f"read them with --gin.image_text_pairs.encodings={str(folder)!r} "
        "--gin.caption_encoder.precomputed=True"
    )
    return 0
