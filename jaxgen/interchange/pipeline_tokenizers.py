"""The tokenizers of a whole pipeline of diffusers."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from jaxgen.codecs.tokenizer import read_tokenizer
from jaxgen.errors import DataError, InterchangeError
from jaxgen.interchange.files import TOKENIZER
from jaxgen.interchange.importing import Checkpoint
from jaxgen.interchange.pipeline_kinds import PipelineKind
from jaxgen.interchange.tokenizers import read_codec


def tokenizer_of(folder: pathlib.Path, parts: Mapping[str, Checkpoint], name: str) -> Checkpoint:
    """Returns the folder of a tokenizer, as `tokenizers.read_codec` reads one.

    Its special tokens are those that it names: CLIP's config.json has other ids.

    Raises:
      InterchangeError: if it has no tokenizer.json.
    """
    file = folder / name / TOKENIZER
    if not file.exists():
        raise InterchangeError(
            f"{file} is not there, and jaxgen reads no vocab.json and merges.txt: save the "
            "tokenizer once with transformers' CLIPTokenizerFast, which writes it."
        )
    return dataclasses.replace(parts["text_encoder"], folder=folder / name, values={})


def pad_ids(folder: pathlib.Path, kind: PipelineKind, parts: Mapping[str, Checkpoint]) -> list[int]:
    """Returns what each of several tokenizers pads by; the first two must be one but for that."""
    if len(kind.tokenizers) == 1:
        return []
    opened = {name: tokenizer_of(folder, parts, name) for name in kind.tokenizers}
    paths = {name: str(one.folder / TOKENIZER) for name, one in opened.items()}
    first, second, *_ = kind.tokenizers
    try:
        vocabularies = [read_tokenizer(paths[name]).get_vocab() for name in (first, second)]
    except DataError as error:
        raise InterchangeError(str(error)) from error
    if vocabularies[0] != vocabularies[1]:
        raise InterchangeError(
            f"{folder / first} and {folder / second} have other tokens than one another, and "
            "jaxgen reads a caption for both encoders by one tokenizer."
        )
    return [read_codec(one, paths[name]).pad_id for name, one in opened.items()]
