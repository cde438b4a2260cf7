"""A tiny model of every family, as the config.json of its architecture."""

from __future__ import annotations

from typing import Any

_SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "type": "yarn",
    "factor": 4,
    "original_max_position_embeddings": 16,
    "beta_fast": 32,
    "beta_slow": 1,
}
_LATENT = {
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
}
_T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "is_encoder_decoder": True,
    "vocab_size": 96,
    "d_model": 64,
    "d_kv": 12,
    "d_ff": 112,
    "num_heads": 4,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "relative_attention_max_distance": 20,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
    **_IDS,
}


def _of(architecture: str, model_type: str, **values: Any) -> dict[str, Any]:
    return {"architectures": [architecture], "model_type": model_type, **_IDS, **values}


def _sized(architecture: str, model_type: str, **values: Any) -> dict[str, Any]:
    if "kv_lora_rank" in values:
        values = {"num_key_value_heads": 4, "num_hidden_layers": 3} | values
    return _of(architecture, model_type, **(_SIZES | values))


CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _of(
        "GPT2LMHeadModel", "gpt2", vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128,
        n_inner=112,
    ),
    "bloom": _of("BloomForCausalLM", "bloom", vocab_size=96, hidden_size=48, n_layer=2, n_head=6),
    "llama": _sized("LlamaForCausalLM", "llama", rms_norm_eps=1e-5, rope_theta=5e5, head_dim=12),
    "llama_tied_biases": _sized(
        "LlamaForCausalLM", "llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        rope_theta=5e5, rope_scaling=_LLAMA3, hidden_act="gelu_new",
    ),
    "llama_linear": _sized(
        "LlamaForCausalLM", "llama", rope_theta=1e4,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
    ),
    "mixtral": _sized("MixtralForCausalLM", "mixtral", num_local_experts=4, rope_theta=1e6),
    "mixtral_window": _sized(
        "MixtralForCausalLM", "mixtral", num_local_experts=4, sliding_window=7, rope_theta=1e4,
    ),
    "qwen3": _sized(
        "Qwen3ForCausalLM", "qwen3", head_dim=16, rope_theta=1e6, attention_bias=True,
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    ),
    "qwen3_window": _sized(
        "Qwen3ForCausalLM", "qwen3", head_dim=12, rope_theta=1e6, num_hidden_layers=3,
        use_sliding_window=True, sliding_window=7, max_window_layers=1,
    ),
    "qwen3_moe": _sized(
        "Qwen3MoeForCausalLM", "qwen3_moe", head_dim=16, rope_theta=1e6, num_experts=8,
        num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True,
        decoder_sparse_step=2, mlp_only_layers=[], num_hidden_layers=3,
    ),
    "olmo2": _sized("Olmo2ForCausalLM", "olmo2", rope_theta=5e5, rms_norm_eps=1e-6),
    "gemma2": _sized(
        "Gemma2ForCausalLM", "gemma2", head_dim=16, num_hidden_layers=3, sliding_window=7,
        query_pre_attn_scalar=24, hidden_activation="gelu_pytorch_tanh", rope_theta=1e4,
        tie_word_embeddings=True, attn_logit_softcapping=2.0, final_logit_softcapping=9.0,
    ),
    "gemma3": _sized(
        "Gemma3ForCausalLM", "gemma3_text", head_dim=16, num_hidden_layers=4, sliding_window=7,
        sliding_window_pattern=3, query_pre_attn_scalar=24, rope_theta=1e6,
        rope_local_base_freq=1e4, rope_scaling={"rope_type": "linear", "factor": 8.0},
        hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True,
    ),
    "deepseek_v3": _sized(
        "DeepseekV3ForCausalLM", "deepseek_v3", **_LATENT, q_lora_rank=24, n_shared_experts=1,
        n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True,
        scoring_func="sigmoid", topk_method="noaux_tc", rope_theta=1e4,
        num_nextn_predict_layers=0, rope_scaling=_YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    "deepseek_v2": _sized(
        "DeepseekV2ForCausalLM", "deepseek_v2", **_LATENT, q_lora_rank=None, n_shared_experts=2,
        n_group=4, topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=1.5,
        rope_theta=1e4, rope_scaling=_YARN | {"mscale": 0.707, "mscale_all_dim": 0.5},
    ),
    "starcoder2": _sized(
        "Starcoder2ForCausalLM", "starcoder2", tie_word_embeddings=True, sliding_window=7,
        rope_theta=1e5, hidden_act="gelu_pytorch_tanh", norm_epsilon=1e-5,
    ),
    "starcoder2_plain": _sized(
        "Starcoder2ForCausalLM", "starcoder2", use_bias=False, sliding_window=None, rope_theta=1e6,
    ),
    "t5": _T5 | {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "t5_v1_1": _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bert_masked": _of(
        "BertForMaskedLM", "bert", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=112, max_position_embeddings=128,
        type_vocab_size=2, hidden_act="gelu",
    ),
    "bert_pretraining": _of(
        "BertForPreTraining", "bert", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=112, max_position_embeddings=128,
        type_vocab_size=2, hidden_act="gelu",
    ),
    "bert": _of(
        "BertModel", "bert", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=112, max_position_embeddings=128,
        type_vocab_size=2, hidden_act="gelu",
    ),
}  # fmt: skip
