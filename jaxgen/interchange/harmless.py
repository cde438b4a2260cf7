"""Keys of config.json that change nothing of what a model computes, in files of any family."""

from __future__ import annotations

from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.tables import Family, Values

INERT = frozenset((
    # What a file says of itself and of the program that wrote it.
    "architectures", "auto_map", "dtype", "finetuning_task", "is_llama_config", "model_type",
    "name_or_path", "task_specific_params", "tokenizer_class", "torch_dtype",
    "transformers.js_config", "transformers_version",
    # How tensors are quantised, which is read elsewhere.
    "quantization_config",
    # Tokens and labels.
    "bos_token", "eos_token", "id2label", "label2id", "num_labels", "pad_token", "prefix",
    "problem_type", "unk_token",
    # Training, and how a program runs the model.
    "attn_implementation", "cache_implementation", "chunk_size_feed_forward", "classifier_dropout",
    "ep_size", "gradient_checkpointing", "gradient_checkpointing_kwargs", "initializer_range",
    "keys_to_ignore_at_inference", "max_sequence_length", "model_max_length", "output_attentions",
    "output_hidden_states", "return_dict", "tf_legacy_loss", "torchscript", "use_bfloat16",
    "use_cache", "use_flash_attention", "use_flash_attention_2", "use_flash_attn",
    "use_return_dict",
    # How text is drawn, in files from before generation_config.json.
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "forced_decoder_ids", "guidance_scale", "length_penalty",
    "max_length", "max_new_tokens", "max_time", "min_length", "min_new_tokens", "min_p",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_logits", "output_scores", "penalty_alpha", "remove_invalid_values",
    "renormalize_logits", "repetition_penalty", "return_dict_in_generate", "sequence_bias",
    "stop_strings", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
))  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,), "attention_bias": (False,), "is_decoder": (False, True),
    "is_encoder_decoder": (False,), "logits_scaling": (1,), "mlp_bias": (False,),
    "partial_rotary_factor": (1,), "pretraining_tp": (1,), "pruned_heads": ({},),
    "residual_multiplier": (1,), "rope_interleaved": (False,), "tie_encoder_decoder": (False,),
    "use_bidirectional_attention": (False,), "use_mrope": (False,), "use_qk_norm": (False,),
    "use_sliding_window": (False,),
}  # fmt: skip
"""Values with which a key that a family does not have changes nothing."""
_PREFIXES = ("_", "unsloth_")
_SUFFIXES = ("_token_id", "_token_index", "_token_ids")


def is_harmless(key: str, value: Any) -> bool:
    """Returns whether a key that a family's table does not have changes nothing."""
    if value is None or key in INERT or key.startswith(_PREFIXES) or key.endswith(_SUFFIXES):
        return True
    if key == "layer_types":
        return isinstance(value, list) and all(one == "full_attention" for one in value)
    return key in NEUTRAL and value in NEUTRAL[key]


def unknown_keys(family: Family, values: Values) -> dict[str, Any]:
    """Returns the keys of a config.json, and their values, whose effect is not known."""
    known = _known(family)
    return {k: v for k, v in values.items() if k not in known and not is_harmless(k, v)}


def _known(family: Family) -> set[str]:
    read = (key for entry in family.entries for key in entry.keys)
    return {*family.inert, *family.written, *read}


def check_keys(family: Family, values: Values, ignored: tuple[str, ...] = ()) -> None:
    """Compares the keys of a config.json with those that a family knows.

    Args:
      family: the family.
      values: config.json.
      ignored: keys that a user says change nothing.

    Raises:
      InterchangeError: naming all keys whose effect is not known, or an ignored one that is
        missing or has an effect.
    """
    known = _known(family)
    for key in ignored:
        if key not in values:
            raise InterchangeError(f"--ignore_keys names {key!r}, which config.json does not have.")
        if key in known:
            raise InterchangeError(
                f"--ignore_keys names {key!r}, by which {family.name} models differ; change it in "
                "config.json if it is wrong."
            )
    unknown = {
        key: value for key, value in unknown_keys(family, values).items() if key not in ignored
    }
    if unknown:
        said = ", ".join(f"{key}={value!r}" for key, value in unknown.items())
        them, they = ("it", "it changes") if len(unknown) == 1 else ("them", "they change")
        raise InterchangeError(
            f"config.json says {said}, which jaxgen does not know for {family.name}. If {they} "
            f"nothing of what the model computes, leave {them} out with "
            f"--ignore_keys={','.join(unknown)}; otherwise the model cannot be imported."
        )
