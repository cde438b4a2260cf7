"""The families of checkpoints that jaxgen reads and writes, related ones in one file."""

from jaxgen.interchange.families.bert import BERT, BERT_MASKED, BERT_PRETRAINING
from jaxgen.interchange.families.bloom import BLOOM
from jaxgen.interchange.families.chameleon import CHAMELEON, CHAMELEON_POST
from jaxgen.interchange.families.clip import CLIP, SIGLIP
from jaxgen.interchange.families.clip_text import CLIP_TEXT, CLIP_TEXT_PROJECTED
from jaxgen.interchange.families.cohere import COHERE, COHERE2
from jaxgen.interchange.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from jaxgen.interchange.families.dit import DIT
from jaxgen.interchange.families.falcon import FALCON, FALCON_TWO_NORMS
from jaxgen.interchange.families.flux import FLUX
from jaxgen.interchange.families.gemma import GEMMA, GEMMA2, GEMMA3
from jaxgen.interchange.families.glm import GLM, GLM4
from jaxgen.interchange.families.gpt2 import GPT2
from jaxgen.interchange.families.gpt_j import GPT_J, GPT_NEO
from jaxgen.interchange.families.gpt_neox import GPT_NEOX
from jaxgen.interchange.families.gpt_oss import GPT_OSS
from jaxgen.interchange.families.granite import GRANITE, GRANITE_MOE
from jaxgen.interchange.families.kl_autoencoder import KL_AUTOENCODER
from jaxgen.interchange.families.llama import LLAMA
from jaxgen.interchange.families.llama4 import LLAMA4
from jaxgen.interchange.families.mistral import MINISTRAL, MINISTRAL3, MISTRAL, MIXTRAL
from jaxgen.interchange.families.mpt import MPT
from jaxgen.interchange.families.nemotron import NEMOTRON
from jaxgen.interchange.families.olmo import OLMO, OLMO2, OLMO3, OLMOE
from jaxgen.interchange.families.opt import OPT
from jaxgen.interchange.families.phi import PHI3
from jaxgen.interchange.families.qwen import QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE
from jaxgen.interchange.families.seeing import GEMMA3_SEEING, LLAVA
from jaxgen.interchange.families.smollm import SMOLLM3
from jaxgen.interchange.families.stable_diffusion_3 import STABLE_DIFFUSION_3
from jaxgen.interchange.families.stablelm import STABLELM
from jaxgen.interchange.families.starcoder import STARCODER2
from jaxgen.interchange.families.t5 import T5, T5_ENCODER, T5_GATED, T5_GATED_ENCODER
from jaxgen.interchange.families.unclip import UNCLIP_PRIOR
from jaxgen.interchange.families.unet import UNET, UNET_LINEAR
from jaxgen.interchange.families.whisper import WHISPER

FAMILIES = (
    GPT2, BLOOM, LLAMA, MISTRAL, MIXTRAL, MINISTRAL, MINISTRAL3, QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE,
    OLMO, OLMO2, OLMO3, OLMOE, PHI3, GEMMA, GEMMA2, GEMMA3, GPT_NEOX, GPT_J, GPT_NEO, OPT, FALCON,
    FALCON_TWO_NORMS, MPT, STABLELM, SMOLLM3, GRANITE, GRANITE_MOE, GLM, GLM4, COHERE, COHERE2,
    NEMOTRON, LLAMA4, GPT_OSS, DEEPSEEK_V3, DEEPSEEK_V2, STARCODER2, T5, T5_GATED, T5_ENCODER,
    T5_GATED_ENCODER, BERT_MASKED, BERT, BERT_PRETRAINING, CLIP, CLIP_TEXT,
    CLIP_TEXT_PROJECTED, SIGLIP, CHAMELEON, CHAMELEON_POST, LLAVA, GEMMA3_SEEING, WHISPER, DIT,
    STABLE_DIFFUSION_3, FLUX, UNCLIP_PRIOR, UNET, UNET_LINEAR, KL_AUTOENCODER,
)  # fmt: skip
"""In the order in which an export tries them."""

__all__ = ["FAMILIES"]
