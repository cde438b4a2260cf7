"""Checkpoints as their authors published them, but for their sizes: every file and every key."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jaxgen.interchange.configs import find_family, read_config
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.placing import place
from jaxgen.models.base import abstract_model
from jaxgen.models.parameters import named_parameters
from support.tokenizers import TEXTS, prefix_space

_FILE = pathlib.Path(__file__).parents[1] / "interchange" / "published.json"
_ALL = json.loads(_FILE.read_text())
PUBLISHED: dict[str, dict[str, Any]] = _ALL["models"]
TOKENIZERS: dict[str, dict[str, Any]] = _ALL["tokenizers"]

_SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "n_embed", "d_model"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "topk_group", "n_group"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "d_ff", "ffn_dim"), 48),
    **dict.fromkeys(("shared_expert_intermediate_size", "intermediate_size_mlp"), 56),
    **dict.fromkeys(("head_dim", "d_kv", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "experts_per_token"), 2),
    "word_embed_proj_dim": 32, "num_decoder_layers": 3, "first_k_dense_replace": 1,
    "vocab_size": 512,
}  # fmt: skip
_ROLES = {"pad": "pad_token", "bos": "bos_token", "eos": "eos_token"}


def write_published(name: str, folder: pathlib.Path) -> None:
    """Writes a published checkpoint with a tiny model of zeros and a tiny tokenizer of its kind."""
    folder.mkdir(parents=True)
    tokenizer = TOKENIZERS[PUBLISHED[name]["tokenizer"]]
    values, ids = _with_ids(_shrunk(PUBLISHED[name]["config"]))
    settings = json.loads(json.dumps(tokenizer["config"]))
    generation = {key: _id(value, ids) for key, value in tokenizer.get("generation", {}).items()}
    files = {"config.json": values, "tokenizer_config.json": settings}
    files |= {"generation_config.json": generation} if generation else {}
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))
    _write_tokenizer(folder / "tokenizer.json", tokenizer, _names(settings, ids))
    family = find_family(FAMILIES, values)
    config = read_config(family, values)
    shapes = {path: tuple(p.shape) for path, p in named_parameters(abstract_model(config))}
    tensors = {
        tensor: np.zeros(placed.tensor_shape, np.float32)
        for placed in place(family, config, shapes)
        for tensor, _ in placed.tensors()
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _shrunk(values: dict[str, Any]) -> dict[str, Any]:
    depth = next(values[key] for key in values if _SMALL.get(key) == 2 and "layer" in key)

    def small(key: str, value: Any) -> Any:
        if isinstance(value, list) and len(value) == depth:
            return [0, 1] if key == "moe_layers" else value[:2]
        return value if value is None else _SMALL.get(key, value)

    made = {key: small(key, value) for key, value in values.items()}
    if "attention_types" in made:
        made["attention_types"] = [[["global", "local"], 1]]
    if made.get("num_key_value_heads") and values["num_key_value_heads"] == 1:
        made["num_key_value_heads"] = 1
    if values.get("kv_lora_rank"):
        made["num_key_value_heads"] = made["num_attention_heads"]
    return made


def _with_ids(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns config.json with ids of the tiny tokenizer, and the ids by role."""
    found: dict[int, int] = {}
    values = dict(values)
    for role in (*_ROLES, "decoder_start"):
        key = f"{role}_token_id"
        if isinstance(number := values.get(key), list):
            values[key] = [found.setdefault(one, len(found)) for one in number]
        elif number is not None:
            values[key] = found.setdefault(number, len(found))
    ids = {role: values[f"{role}_token_id"] for role in _ROLES if f"{role}_token_id" in values}
    ids = {role: number[0] if isinstance(number, list) else number for role, number in ids.items()}
    return values, ids


def _id(value: Any, ids: dict[str, int]) -> Any:
    """Returns a value of generation_config.json, in which roles stand for ids."""
    if isinstance(value, list):
        return [_id(one, ids) for one in value]
    known = {"pad": 0, "bos": 1, "eos": 2, "more": 7} | ids
    return known.get(value, value) if isinstance(value, str) else value


def _names(settings: dict[str, Any], ids: dict[str, int]) -> list[str]:
    """Returns the control tokens by id."""
    names: dict[int, str] = {}
    others = []
    for role, key in (*_ROLES.items(), ("bos", "cls_token"), ("eos", "sep_token")):
        token = settings.get(key)
        token = token["content"] if isinstance(token, dict) else token
        if token is not None and token not in names.values():
            if role in ids and ids[role] not in names:
                names[ids[role]] = token
            else:
                others.append(token)
    more = [*others, settings.get("unk_token"), settings.get("mask_token")]
    more += settings.get("additional_special_tokens") or []
    more = [one["content"] if isinstance(one, dict) else one for one in more if one]
    more = [one for one in dict.fromkeys(more) if one not in names.values()]
    free = (f"<extra_{n}>" for n in range(100))
    held = max([*names, 7]) + 1
    first = [names.get(n) or (more.pop(0) if more else next(free)) for n in range(held)]
    return [*first, *more]


def _write_tokenizer(path: pathlib.Path, spec: dict[str, Any], names: list[str]) -> None:
    tokenizer = _KINDS[spec["kind"]](path, names)
    if single := spec.get("single"):
        settings = spec["config"]
        content = {
            role: token["content"] if isinstance(token := settings.get(key), dict) else token
            for role, key in _ROLES.items()
        }
        single = single.format(**content)
        special = [(one, tokenizer.token_to_id(one)) for one in single.split() if one != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=special
        )
    tokenizer.save(str(path))


def _byte_level(path: pathlib.Path, names: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _digits(path: pathlib.Path, names: list[str]) -> Tokenizer:
    """As Cohere's: byte level, every digit by itself."""
    tokenizer = _byte_level(path, names)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _prefix_space(path: pathlib.Path, names: list[str]) -> Tokenizer:
    return Tokenizer.from_file(prefix_space(path, begins=False, special=names))


def _metaspace(path: pathlib.Path, names: list[str]) -> Tokenizer:
    """As Gemma's: spaces are a letter, and none is put before the first word."""
    written = json.loads(pathlib.Path(prefix_space(path, begins=False, special=names)).read_text())
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _unigram(path: pathlib.Path, names: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=names, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _wordpiece(path: pathlib.Path, names: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=names)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


_KINDS: dict[str, Callable[[pathlib.Path, list[str]], Tokenizer]] = {
    "byte_level": _byte_level,
    "digits": _digits,
    "prefix_space": _prefix_space,
    "metaspace": _metaspace,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
