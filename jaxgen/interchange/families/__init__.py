"""The families of checkpoints that jaxgen reads and writes, related ones in one file."""

from jaxgen.interchange.families.bert import BERT, BERT_MASKED, BERT_PRETRAINING
from jaxgen.interchange.families.bloom import BLOOM
from jaxgen.interchange.families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from jaxgen.interchange.families.gemma import GEMMA2, GEMMA3
from jaxgen.interchange.families.gpt2 import GPT2
from jaxgen.interchange.families.llama import LLAMA, MIXTRAL, OLMO2, QWEN3, QWEN3_MOE
from jaxgen.interchange.families.starcoder import STARCODER2
from jaxgen.interchange.families.t5 import T5, T5_GATED

FAMILIES = (
    GPT2, BLOOM, LLAMA, MIXTRAL, QWEN3, QWEN3_MOE, OLMO2, GEMMA2, GEMMA3, DEEPSEEK_V3,
    DEEPSEEK_V2, STARCODER2, T5, T5_GATED, BERT_MASKED, BERT, BERT_PRETRAINING,
)  # fmt: skip
"""In the order in which an export tries them."""

__all__ = ["FAMILIES"]
