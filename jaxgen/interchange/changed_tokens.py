"""The token files of an import, with the tokens that a run which goes on from it has otherwise."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids, stop_ids
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import find_family
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.files import TOKENIZER
from jaxgen.interchange.originals import (
    FOLDER,
    GENERATION,
    SPECIAL,
    TOKENIZER_CONFIG,
    original_config,
    original_files,
)
from jaxgen.interchange.parts import text_part
from jaxgen.interchange.tokenizers import NAMES, codec_of

_START = "decoder_start_token_id"
_SECTION = "text_config"


def returned(
    run_dir: pathlib.Path, codec: Codec, text_only: bool, written: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """Returns the token files of an export by name, and the config.json that its run came from.

    They are those that an import was given, but for the tokens that the run has otherwise: another
    begin, end or pad token, other tokens that end an answer, rows that begin with none.

    Args:
      run_dir: of the run exported; it may have been imported, or go on from an import, or neither.
      codec: the run's.
      text_only: whether its model reads text alone.
      written: the files that the codec has if nothing was imported.
    """
    config, files = original_config(run_dir), original_files(run_dir)
    if config is None or files is None:
        return dict(written), config
    before, codec = _imported_codec(run_dir, config, text_only), getattr(codec, "text", codec)
    if before is None or not isinstance(codec, TokenizerCodec) or codec == before:
        return files, config
    changed = _with_ids(config, before, codec)
    if codec.digest != before.digest:
        return dict(written), changed
    if begin_ids(codec) != begin_ids(before):
        files[TOKENIZER] = written[TOKENIZER]
    for name, change in ((TOKENIZER_CONFIG, _with_names), (SPECIAL, _with_names),
                         (GENERATION, _with_ids)):  # fmt: skip
        if name in files:
            values = change(json.loads(files[name].decode("utf-8-sig")), before, codec)
            files[name] = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
        elif name in written:
            files[name] = written[name]
    return files, changed


def _imported_codec(
    run_dir: pathlib.Path, config: Mapping[str, Any], text_only: bool
) -> TokenizerCodec | None:
    """Returns the codec that an import's files describe; None if they describe none."""
    folder = run_dir / FOLDER
    with contextlib.suppress(InterchangeError):
        values, _ = text_part(config, text_only)
        section = find_family(FAMILIES, values).token_section
        return codec_of(folder, values, section, str(folder / TOKENIZER))
    return None


def _with_names(
    values: Mapping[str, Any], before: TokenizerCodec, codec: TokenizerCodec
) -> dict[str, Any]:
    """Returns tokenizer_config.json, or a map of special tokens, with the names that changed."""
    changed = dict(values)
    for role, keys in NAMES.items():
        old, new = getattr(before, role), getattr(codec, role)
        named = [key for key in keys if values.get(key) is not None]
        if old != new or (role == "pad" and not named and before.end != codec.end):
            changed |= dict.fromkeys(named or keys[:1], new)
    if "add_bos_token" in values and begin_ids(codec) != begin_ids(before):
        changed["add_bos_token"] = codec.adds_begin
    return changed


def _with_ids(
    values: Mapping[str, Any], before: TokenizerCodec, codec: TokenizerCodec
) -> dict[str, Any]:
    """Returns config.json, or generation_config.json, with the ids that changed."""
    changed = dict(values)
    if isinstance(part := changed.get(_SECTION), dict):
        changed[_SECTION] = _with_ids(part, before, codec)
    begins, ends = (before.begin_id, codec.begin_id), (stop_ids(before), stop_ids(codec))
    if begins[0] != begins[1]:
        changed["bos_token_id"] = begins[1]
        changed |= {_START: begins[1]} if changed.get(_START) is not None else {}
    if ends[0] != ends[1]:
        changed["eos_token_id"] = ends[1][0] if len(ends[1]) == 1 else list(ends[1])
    # The end token stands in for a pad token that is not named.
    named = changed.get("pad_token_id") is not None
    if before.pad_id != codec.pad_id or (not named and before.end_id != codec.end_id):
        changed["pad_token_id"] = codec.pad_id
    return changed
