"""The tokenizer of a checkpoint: its tokenizer.json, and the tokens that begin, end and pad."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.errors import InterchangeError
from jaxgen.interchange.files import TOKENIZER, read_json
from jaxgen.interchange.importing import Checkpoint

TOKENIZER_CONFIG = "tokenizer_config.json"
_NAMES = {"begin": ("bos_token", "cls_token"), "end": ("eos_token", "sep_token"),
          "pad": ("pad_token",)}  # fmt: skip


def read_codec(checkpoint: Checkpoint, path: str) -> TokenizerCodec:
    """Returns the codec of a checkpoint.

    The three special tokens are those whose ids config.json has, otherwise those that
    tokenizer_config.json names. The end token stands in for a missing begin or pad token.

    Args:
      checkpoint: an opened one.
      path: a tokenizer.json, the checkpoint's own or a copy.

    Raises:
      InterchangeError: if no token ends a text.
    """
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:
        raise InterchangeError(f"{path} is not a tokenizer.json: {error}.") from error
    settings = checkpoint.folder / TOKENIZER_CONFIG
    named = read_json(settings) if settings.exists() else {}
    found = {role: _token(tokenizer, checkpoint.values, named, role) for role in _NAMES}
    end = found["end"]
    if end is None:
        raise InterchangeError(
            f"neither config.json nor {TOKENIZER_CONFIG} in {checkpoint.folder} says which token "
            "ends a text; add eos_token_id to config.json."
        )
    return TokenizerCodec(path, begin=found["begin"] or end, end=end, pad=found["pad"] or end)


def write_codec(codec: Codec) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Returns the files of a codec by name, and its keys of config.json.

    A codec without a tokenizer.json, as that of bytes, has no files.
    """
    ids = {"bos_token_id": codec.begin_id, "eos_token_id": codec.end_id}
    ids["pad_token_id"] = codec.pad_id
    if not isinstance(codec, TokenizerCodec):
        return {}, ids
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": codec.begin,
        "eos_token": codec.end,
        "pad_token": codec.pad,
    }
    text = json.dumps(settings, indent=2) + "\n"
    return {TOKENIZER: codec.content(), TOKENIZER_CONFIG: text.encode()}, ids


def _token(tokenizer: Tokenizer, values: Any, named: Any, role: str) -> str | None:
    number = values.get(_NAMES[role][0] + "_id")
    if role == "begin":  # A decoder's first token need not be the one that begins texts.
        number = values.get("decoder_start_token_id", number)
    number = number[0] if isinstance(number, list) and number else number
    if isinstance(number, int) and (token := tokenizer.id_to_token(number)) is not None:
        return token
    for name in _NAMES[role]:
        token = named.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None and tokenizer.token_to_id(token) is not None:
            return token
    return None
