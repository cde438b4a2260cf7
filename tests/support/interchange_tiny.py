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
_CHAMELEON = {
    "vocabulary_map": {"<image>": 90},
    "vq_config": {
        "embed_dim": 8,
        "num_embeddings": 8,
        "latent_channels": 8,
        "base_channels": 32,
        "channel_multiplier": [1],
        "num_res_blocks": 1,
        "resolution": 16,
    },
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
    "chameleon": _sized(
        "ChameleonForConditionalGeneration", "chameleon", rms_norm_eps=1e-5, **_CHAMELEON
    ),
    "chameleon_post": _sized(
        "ChameleonForConditionalGeneration", "chameleon", rms_norm_eps=1e-6, swin_norm=True,
        rope_theta=5e5, **_CHAMELEON
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
    "qwen2": _sized(
        "Qwen2ForCausalLM", "qwen2", rope_theta=1e6, tie_word_embeddings=True,
        sliding_window=4096, max_window_layers=21, use_sliding_window=False,
    ),
    "qwen2_window": _sized(
        "Qwen2ForCausalLM", "qwen2", rope_theta=1e6, use_sliding_window=True, sliding_window=7,
        max_window_layers=1,
    ),
    "mistral": _sized("MistralForCausalLM", "mistral", head_dim=12, sliding_window=7),
    "mistral_dynamic": _sized(
        "MistralForCausalLM", "mistral", sliding_window=None, max_position_embeddings=32,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0},
    ),
    "gemma": _sized(
        "GemmaForCausalLM", "gemma", head_dim=24, num_key_value_heads=1, tie_word_embeddings=True,
        hidden_act="gelu",
    ),
    "olmo": _sized("OlmoForCausalLM", "olmo", clip_qkv=0.5, num_key_value_heads=4),
    "olmoe": _sized(
        "OlmoeForCausalLM", "olmoe", num_experts=8, num_experts_per_tok=3, clip_qkv=0.8,
        intermediate_size=48,
    ),
    "gpt_neox": _of(
        "GPTNeoXForCausalLM", "gpt_neox", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=112, rotary_pct=0.25, rotary_emb_base=10000,
        use_parallel_residual=True, max_position_embeddings=128, layer_norm_eps=1e-5,
    ),
    "gpt_neox_serial": _of(
        "GPTNeoXForCausalLM", "gpt_neox", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=112, rotary_pct=0.5, rotary_emb_base=500,
        use_parallel_residual=False, max_position_embeddings=128, attention_bias=False,
    ),
    "phi3": _sized("Phi3ForCausalLM", "phi3", sliding_window=7, partial_rotary_factor=0.75,
                   hidden_size=96, num_attention_heads=6),
    "phi3_long": _sized(
        "Phi3ForCausalLM", "phi3", original_max_position_embeddings=4, tie_word_embeddings=True,
        rope_scaling={"type": "longrope", "short_factor": [1.0] * 8,
                      "long_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 4.0, 8.0, 16.0]},
    ),
    "opt": _of(
        "OPTForCausalLM", "opt", vocab_size=96, hidden_size=64, num_hidden_layers=2, ffn_dim=112,
        num_attention_heads=4, max_position_embeddings=128,
    ),
    "opt_narrow": _of(
        "OPTForCausalLM", "opt", vocab_size=96, hidden_size=64, num_hidden_layers=2, ffn_dim=112,
        num_attention_heads=4, max_position_embeddings=128, word_embed_proj_dim=32,
        do_layer_norm_before=False,
    ),
    "gpt_j": _of(
        "GPTJForCausalLM", "gptj", vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128,
        rotary_dim=8, n_inner=112, tie_word_embeddings=False,
    ),
    "gpt_neo": _of(
        "GPTNeoForCausalLM", "gpt_neo", vocab_size=96, hidden_size=64, num_layers=3, num_heads=4,
        max_position_embeddings=128, intermediate_size=112, window_size=7,
        attention_types=[[["global", "local"], 1], [["global"], 1]],
    ),
    "falcon": _of(
        "FalconForCausalLM", "falcon", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, multi_query=True, parallel_attn=True, bias=False, alibi=False,
        new_decoder_architecture=False,
    ),
    "falcon_serial": _of(
        "FalconForCausalLM", "falcon", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, multi_query=False, parallel_attn=False, bias=True, alibi=False,
        new_decoder_architecture=False, ffn_hidden_size=112, tie_word_embeddings=False,
    ),
    "falcon_alibi": _of(
        "FalconForCausalLM", "falcon", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=4, multi_query=False, parallel_attn=False, bias=True, alibi=True,
        new_decoder_architecture=False,
    ),
    "falcon_two_norms": _of(
        "FalconForCausalLM", "falcon", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=8, num_kv_heads=2, new_decoder_architecture=True, alibi=False,
        bias=True, parallel_attn=True,
    ),
    "falcon_grouped": _of(
        "FalconForCausalLM", "falcon", vocab_size=96, hidden_size=64, num_hidden_layers=2,
        num_attention_heads=8, num_kv_heads=2, new_decoder_architecture=True, alibi=False,
        num_ln_in_parallel_attn=1,
    ),
    "mpt": _of(
        "MptForCausalLM", "mpt", vocab_size=96, d_model=48, n_layers=2, n_heads=6, max_seq_len=128,
        attn_config={"alibi": True, "clip_qkv": 0.9}, no_bias=True,
    ),
    "stablelm": _sized("StableLmForCausalLM", "stablelm", partial_rotary_factor=0.25,
                       use_qkv_bias=True),
    "stablelm_parallel": _sized("StableLmForCausalLM", "stablelm", partial_rotary_factor=0.5,
                                use_parallel_residual=True),
    "stablelm_heads": _sized("StableLmForCausalLM", "stablelm", qk_layernorm=True,
                             use_parallel_residual=True),
    "smollm3": _sized("SmolLM3ForCausalLM", "smollm3", num_hidden_layers=5, rope_theta=5e6,
                      tie_word_embeddings=True),
    "granite": _sized(
        "GraniteForCausalLM", "granite", embedding_multiplier=6.0, residual_multiplier=0.4,
        attention_multiplier=0.15, logits_scaling=4.0, rope_theta=1e4, mlp_bias=True,
    ),
    "granite_moe": _sized(
        "GraniteMoeForCausalLM", "granitemoe", embedding_multiplier=6.0, residual_multiplier=0.4,
        attention_multiplier=0.15, logits_scaling=4.0, num_local_experts=8, num_experts_per_tok=3,
        intermediate_size=32, tie_word_embeddings=True,
    ),
    "glm": _sized("GlmForCausalLM", "glm", head_dim=16, partial_rotary_factor=0.5),
    "glm4": _sized("Glm4ForCausalLM", "glm4", head_dim=16, partial_rotary_factor=0.5,
                   attention_bias=False),
    "cohere": _sized("CohereForCausalLM", "cohere", logit_scale=0.25, tie_word_embeddings=True),
    "cohere_heads": _sized("CohereForCausalLM", "cohere", logit_scale=0.25, use_qk_norm=True,
                           tie_word_embeddings=True),
    "cohere2": _sized("Cohere2ForCausalLM", "cohere2", logit_scale=0.25, sliding_window=7,
                      num_hidden_layers=5, tie_word_embeddings=True),
    "nemotron": _sized("NemotronForCausalLM", "nemotron", partial_rotary_factor=0.5, head_dim=12),
    "qwen2_moe": _sized(
        "Qwen2MoeForCausalLM", "qwen2_moe", num_experts=8, num_experts_per_tok=3,
        moe_intermediate_size=32, shared_expert_intermediate_size=48, decoder_sparse_step=2,
        mlp_only_layers=[], num_hidden_layers=3, rope_theta=1e6,
    ),
    "olmo3": _sized(
        "Olmo3ForCausalLM", "olmo3", num_hidden_layers=5, sliding_window=7, rope_theta=5e5,
        rope_scaling={"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16},
    ),
    "ministral": _sized(
        "MinistralForCausalLM", "ministral", num_hidden_layers=3, sliding_window=7, head_dim=12,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "ministral3": _sized(
        "Ministral3ForCausalLM", "ministral3", head_dim=16, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "mscale": 1.0,
            "mscale_all_dim": 1.0, "original_max_position_embeddings": 6, "beta_fast": 32.0,
            "beta_slow": 1.0, "llama_4_scaling_beta": 0.1, "max_position_embeddings": 128,
        },
    ),
    "llama4": _sized(
        "Llama4ForCausalLM", "llama4_text", num_hidden_layers=5, head_dim=16, num_local_experts=4,
        num_experts_per_tok=2, intermediate_size=48, intermediate_size_mlp=80,
        interleave_moe_layer_step=2, attention_chunk_size=6, floor_scale=4, rope_theta=5e5,
        rope_scaling=_LLAMA3 | {"high_freq_factor": 1.0},
    ),
    "gpt_oss": _sized(
        "GptOssForCausalLM", "gpt_oss", num_hidden_layers=3, sliding_window=7, head_dim=16,
        num_local_experts=8, num_experts_per_tok=3, intermediate_size=48, swiglu_limit=1.5,
        rope_theta=1.5e5, rope_scaling=_YARN | {"rope_type": "yarn", "truncate": False},
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
