"""The names of diffusion and flow."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_diffusion() -> Table:
    """Returns the names of models of diffusion and of their objective."""
    from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
    from jaxgen.models.diffusion.clip_latents import ClipLatentsConfig
    from jaxgen.models.diffusion.conditioner_configs import (
        ClassLabelsConfig,
        ClipConditionerConfig,
    )
    from jaxgen.models.diffusion.config import DiffusionConfig, Upsampling
    from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
    from jaxgen.models.diffusion.together_config import TogetherConfig
    from jaxgen.models.diffusion.unet_config import UNetConfig
    from jaxgen.models.noisy_patches import NoisyPatchesConfig
    from jaxgen.models.transfusion_config import TransfusionConfig
    from jaxgen.objectives.diffusion import DiffusionLoss
    from jaxgen.objectives.realism import Realism
    from jaxgen.objectives.transfusion import TransfusionLoss
    from jaxgen.ops.diffusion.betas import Betas
    from jaxgen.ops.diffusion.corruption import Corruption
    from jaxgen.ops.diffusion.schedules import Cosine, Edm, RectifiedFlow

    return {
        "diffusion": DiffusionConfig,
        "upsampling": Upsampling,
        "unet": UNetConfig,
        "kl_autoencoder": KlAutoencoderConfig,
        "class_labels": ClassLabelsConfig,
        "caption_encoder": CaptionEncoderConfig,
        "clip_conditioner": ClipConditionerConfig,
        "together": TogetherConfig,
        "clip_latents": ClipLatentsConfig,
        "diffusion_loss": DiffusionLoss,
        "transfusion": TransfusionConfig,
        "noisy_patches": NoisyPatchesConfig,
        "transfusion_loss": TransfusionLoss,
        "realism": Realism,
        "corruption": Corruption,
        "betas": Betas,
        "cosine_schedule": Cosine,
        "rectified_flow": RectifiedFlow,
        "edm": Edm,
    }


def registered_samplers() -> Table:
    """Returns the names of what makes pictures of noise."""
    from jaxgen.generation.diffusion.clean_errors import CleanErrors
    from jaxgen.generation.diffusion.guidance import Guidance, Threshold
    from jaxgen.generation.diffusion.samplers import Ddim, Ddpm, DpmSolver, Euler, Heun, Plms
    from jaxgen.generation.diffusion.sampling import PictureSampling

    return {
        "picture_sampling": PictureSampling,
        "guidance": Guidance,
        "threshold": Threshold,
        "clean_errors": CleanErrors,
        "ddim": Ddim,
        "ddpm": Ddpm,
        "plms": Plms,
        "euler": Euler,
        "heun": Heun,
        "dpm_solver": DpmSolver,
    }
