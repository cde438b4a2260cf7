"""The names that gin/models/ uses: models, what they are made of, and their objectives."""

from __future__ import annotations

from jaxgen.configuration.registry.diffusion import registered_diffusion
from jaxgen.configuration.table import Table


def registered_models() -> Table:
    """Returns the names that gin/models/ uses; without the other rooms."""
    from jaxgen.models.audio_config import AudioConfig
    from jaxgen.models.block_config import LatentConfig, LayerConfig
    from jaxgen.models.bottleneck import FiniteScalar, GumbelCodebook
    from jaxgen.models.config import ModelCard, TransformerConfig
    from jaxgen.models.diffusion.dit_config import DiTConfig
    from jaxgen.models.diffusion.mmdit_config import MMDiTConfig
    from jaxgen.models.diffusion.prior_config import PriorConfig
    from jaxgen.models.distilled_config import DistilledConfig
    from jaxgen.models.dual_encoder_config import DualEncoderConfig
    from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
    from jaxgen.models.lora_config import LoraConfig
    from jaxgen.models.media_config import MediaInput, PatchesConfig, Projector
    from jaxgen.models.pair_codes import PairCodesConfig
    from jaxgen.models.parametrization import Parametrization
    from jaxgen.models.policy_config import PolicyConfig
    from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
    from jaxgen.models.stack_config import StackConfig
    from jaxgen.models.vision import VisionConfig

    return {
        "model": TransformerConfig,
        "stack": StackConfig,
        "policy": PolicyConfig,
        "lora": LoraConfig,
        "distilled": DistilledConfig,
        "dual_encoder": DualEncoderConfig,
        "dit": DiTConfig,
        "mmdit": MMDiTConfig,
        "prior": PriorConfig,
        "vision": VisionConfig,
        "audio_encoder": AudioConfig,
        "patches": PatchesConfig,
        "projector": Projector,
        "media_input": MediaInput,
        "image_autoencoder": ImageAutoencoderConfig,
        "pair_codes": PairCodesConfig,
        "sound_autoencoder": SoundAutoencoderConfig,
        "finite_scalar": FiniteScalar,
        "gumbel_codebook": GumbelCodebook,
        "card": ModelCard,
        "layer": LayerConfig,
        "latent": LatentConfig,
        "parametrization": Parametrization,
        **registered_operations(),
        **registered_objectives(),
        **registered_diffusion(),
    }


def registered_operations() -> Table:
    """Returns the names of masks, positions and initial values."""
    from jaxgen.ops.attention.biases import Alibi, RelativeBias
    from jaxgen.ops.attention.grids import GridColumn, GridNeighbourhood, GridRow, SamePicture
    from jaxgen.ops.attention.masks import (
        Banded,
        Bidirectional,
        BlockCausal,
        Causal,
        Chunked,
        Either,
        Window,
    )
    from jaxgen.ops.initializers import Initialization
    from jaxgen.ops.moe_config import MoEConfig
    from jaxgen.ops.positions import LogTemperature, Rope, RopeScaling

    return {
        "causal": Causal,
        "bidirectional": Bidirectional,
        "block_causal": BlockCausal,
        "window": Window,
        "banded": Banded,
        "chunked": Chunked,
        "either": Either,
        "grid_row": GridRow,
        "same_picture": SamePicture,
        "grid_column": GridColumn,
        "grid_neighbourhood": GridNeighbourhood,
        "rope": Rope,
        "rope_scaling": RopeScaling,
        "log_temperature": LogTemperature,
        "alibi": Alibi,
        "relative_bias": RelativeBias,
        "moe": MoEConfig,
        "initialization": Initialization,
    }


def registered_objectives() -> Table:
    """Returns the names of what models of gin/models/ are trained to minimise."""
    from jaxgen.objectives.contrastive import Contrastive
    from jaxgen.objectives.distillation import Distillation
    from jaxgen.objectives.multi_token import MultiToken
    from jaxgen.objectives.next_sentence import NextSentence
    from jaxgen.objectives.next_token import NextToken
    from jaxgen.objectives.reconstruction import Reconstruction

    return {
        "next_token_loss": NextToken,
        "multi_token_loss": MultiToken,
        "distillation_loss": Distillation,
        "next_sentence_loss": NextSentence,
        "contrastive_loss": Contrastive,
        "reconstruction_loss": Reconstruction,
    }
