"""The tokenizer of a checkpoint: its tokenizer.json, and the tokens that begin, end and pad."""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids, opening_ids, stop_ids
from jaxgen.codecs.tokenizer import TokenizerCodec, read_tokenizer
from jaxgen.errors import DataError, InterchangeError
from jaxgen.interchange.files import TOKENIZER, read_json
from jaxgen.interchange.importing import Checkpoint
from jaxgen.interchange.originals import GENERATION, TOKENIZER_CONFIG

NAMES = {"begin": ("bos_token", "cls_token"), "end": ("eos_token", "sep_token"),
         "pad": ("pad_token",)}  # fmt: skip
"""The keys of tokenizer_config.json that name a token of each role."""


def read_codec(checkpoint: Checkpoint, path: str) -> TokenizerCodec:
    """Returns the codec of a checkpoint.

    Args:
      checkpoint: an opened one.
      path: a tokenizer.json, the checkpoint's own or a copy.

    Raises:
      InterchangeError: if no token ends a text.
    """
    section = checkpoint.family.token_section
    return codec_of(checkpoint.folder, checkpoint.values, section, path)


def begin_contradiction(checkpoint: Checkpoint) -> str | None:
    """Returns a line if two files say otherwise whether texts begin with a token; None if not."""
    path = checkpoint.folder / TOKENIZER_CONFIG
    told = read_json(path).get("add_bos_token") if path.exists() else None
    before = prepended(read_tokenizer(str(checkpoint.folder / TOKENIZER)))
    if not isinstance(told, bool) or told == bool(before):
        return None
    return (
        f"{TOKENIZER_CONFIG} says add_bos_token={str(told).lower()}, and {TOKENIZER} puts "
        f"{''.join(before) or 'nothing'} before a text; rows and prompts follow {TOKENIZER}, as "
        "transformers 5 does (tokenizer_codec.adds_begin)"
    )


def codec_of(
    folder: pathlib.Path, config: Mapping[str, Any], section: str, path: str
) -> TokenizerCodec:
    """Returns the codec that the files of a checkpoint describe.

    The three special tokens are those whose ids config.json has, otherwise those that
    tokenizer_config.json names. The end token stands in for a missing begin or pad token. Every
    end token of config.json and generation_config.json ends what is generated. Texts begin with the
    tokens that tokenizer.json puts before them, none or several, as in transformers 5, which reads
    no `add_bos_token` beside that file; those of a decoder beside an encoder begin with the token
    that config.json names.

    Args:
      folder: has the two other files, or neither.
      config: config.json.
      section: the key of its object that has ids of special tokens; "": none.
      path: a tokenizer.json.

    Raises:
      InterchangeError: if no token ends a text.
    """
    try:
        tokenizer = read_tokenizer(path)
    except DataError as error:
        raise InterchangeError(str(error)) from error
    named, generation = (
        read_json(file) if file.exists() else {}
        for file in (folder / name for name in (TOKENIZER_CONFIG, GENERATION))
    )
    values = dict(config) | (config.get(section) or {} if section else {})
    found = {role: _token(tokenizer, values, named, role) for role in NAMES}
    end = found["end"]
    if end is None:
        raise InterchangeError(
            f"neither config.json nor {TOKENIZER_CONFIG} in {folder} says which token "
            "ends a text; add eos_token_id to config.json."
        )
    begin, *after = _begin_tokens(tokenizer, values, found["begin"] or end)
    stops = [
        tokenizer.id_to_token(number)
        for source in (values, generation)
        for number in _ids(source.get("eos_token_id"))
    ]
    others = dict.fromkeys(one for one in stops if one is not None and one != end)
    begins = prepended(tokenizer)[:1] == [begin]
    return TokenizerCodec(
        path, begin=begin, end=end, pad=found["pad"] or end, stops=tuple(others),
        adds_begin=begins, after_begin=tuple(after),
    )  # fmt: skip


def prepended(tokenizer: Tokenizer) -> list[str]:
    """Returns the special tokens that a tokenizer puts before a text."""
    encoded = tokenizer.encode("a")
    pairs = zip(encoded.tokens, encoded.special_tokens_mask, strict=True)
    return [token for token, _ in itertools.takewhile(lambda pair: pair[1], pairs)]


def write_codec(
    codec: Codec, has_encoder: bool = False, both_ends: bool = False, max_length: int | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Returns the files of a codec by name, and its keys of config.json.

    The tokenizer there puts the tokens around a text that rows of training have around it.

    Args:
      codec: the run's; the bytes' is written as a tokenizer too, one of another kind has no files.
      has_encoder: whether the model is an encoder-decoder, whose encoder reads an end token.
      both_ends: whether rows have begin and end tokens, as those of masked tokens do.
      max_length: the longest text that the model reads.
    """
    ends = stop_ids(codec)
    ids = {
        "bos_token_id": codec.begin_id,
        "eos_token_id": ends[0] if len(ends) == 1 else list(ends),
        "pad_token_id": codec.pad_id,
    }
    if isinstance(codec, TokenizerCodec):
        tokenizer = Tokenizer.from_str(codec.content().decode())
        names = {"begin": codec.begin, "end": codec.end, "pad": codec.pad}
    elif isinstance(codec, ByteCodec):
        tokenizer = tokenizer_of_bytes(codec)
        named = (codec.begin_id, codec.end_id, codec.pad_id)
        names = dict(zip(("begin", "end", "pad"), codec.pieces(named), strict=True))
    else:
        return {}, ids
    before = opening_ids(codec) if both_ends else begin_ids(codec)
    before = () if has_encoder else before
    after = (codec.end_id,) if has_encoder or both_ends else ()
    _surround(tokenizer, before, after)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names["begin"],
        "eos_token": names["end"],
        "pad_token": names["pad"],
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
    } | ({} if max_length is None else {"model_max_length": max_length})
    files = {TOKENIZER_CONFIG: settings, GENERATION: ids}
    written = {name: (json.dumps(v, indent=2) + "\n").encode() for name, v in files.items()}
    return written | {TOKENIZER: tokenizer.to_str(pretty=True).encode()}, ids


def _surround(tokenizer: Tokenizer, before: Sequence[int], after: Sequence[int]) -> None:
    """Makes a tokenizer put these special tokens around a text and no others."""
    ids, plain = (tokenizer.encode("a", add_special_tokens=add).ids for add in (True, False))
    if ids == [*before, *plain, *after]:
        return
    names = {number: str(tokenizer.id_to_token(number)) for number in (*before, *after)}
    single = [*(names[i] for i in before), "$A", *(names[i] for i in after)]
    special = [(name, number) for number, name in names.items()]
    template: Any = processors.TemplateProcessing(single=single, special_tokens=special)
    own: Any = tokenizer.post_processor if ids == plain else None
    tokenizer.post_processor = template if own is None else processors.Sequence([own, template])


def tokenizer_of_bytes(codec: ByteCodec) -> Tokenizer:
    """Returns a tokenizer whose tokens are the codec's bytes and control tokens, with its ids."""
    # The letters by which byte-level tokenizers write bytes: themselves where they are printable.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    letters = {chr(b if b in printable else next(others)): b for b in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    special = codec.pieces(range(256, codec.vocab_size))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    return tokenizer


def _begin_tokens(tokenizer: Tokenizer, values: Mapping[str, Any], named: str) -> list[str]:
    """Returns the tokens before a text: those the tokenizer puts there, or the one named."""
    before = prepended(tokenizer)
    is_decoders = values.get("decoder_start_token_id") is not None
    return before if before and not is_decoders else [named]


def _ids(value: Any) -> Iterator[int]:
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int) and 0 <= number < 2**31:
            yield number


def _token(
    tokenizer: Tokenizer, values: Mapping[str, Any], named: Mapping[str, Any], role: str
) -> str | None:
    number = values.get(NAMES[role][0] + "_id")
    if role == "begin":  # A decoder's first token need not be the one that begins texts.
        number = values.get("decoder_start_token_id", number)
    number = next(_ids(number), None)
    if number is not None and (token := tokenizer.id_to_token(number)) is not None:
        return token
    for name in NAMES[role]:
        token = named.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and tokenizer.token_to_id(token) is not None:
            return token
    return None
