"""The classes of whole pipelines of diffusers: what is in their folders, and where in a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxgen.interchange.schedulers import CLASS
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
from jaxgen.models.diffusion.together_config import TogetherConfig

NOTHING = [None, None]
"""A component of model_index.json that is not there."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A folder of a network.

    Attributes:
      path: where its module is in a model, dotted; "": the model without its other parts.
      kind: the class of its configuration.
      of: its library and class in model_index.json.
      family: that it is exported as; None: the first that can express it.
    """

    path: str
    kind: type
    of: tuple[str, str]
    family: str | None = None

    @property
    def prefix(self) -> str:
        """What the names of its parameters begin with in a model."""
        return f"{self.path}." if self.path else ""


@dataclasses.dataclass(frozen=True)
class PipelineKind:
    """A class of pipelines.

    Attributes:
      name: of the class.
      models: that are saved as it.
      parts: the folders of networks, the denoiser's first, the autoencoder's second.
      tokenizers: the folders of tokenizers with their classes; the first makes the tokens of the
        data's codec, a third those of its second.
      index: what model_index.json has besides.
      make_conditioner: (configurations of encoders, ids of padding of tokenizers) to the
        configuration of what reads captions.
      find_encoders: the reverse; None for a conditioner of another form.
      steps: of the sampler, where a pipeline is called without a number of them.
      guidance: likewise.
    """

    name: str
    models: str
    parts: Mapping[str, Part]
    tokenizers: Mapping[str, str]
    index: Mapping[str, Any]
    make_conditioner: Callable[[list[Any], list[int]], Any]
    find_encoders: Callable[[Any], list[CaptionEncoderConfig] | None]
    steps: int
    guidance: float

    def describes(self, config: Any) -> bool:
        """Returns whether a model has the parts of such a pipeline."""
        return (
            isinstance(config, DiffusionConfig)
            and isinstance(config.latents, KlAutoencoderConfig)
            and self.find_encoders(config.conditioner) is not None
        )

    def written_index(self, scheduler: str) -> dict[str, Any]:
        """Returns the model_index.json of a pipeline with a scheduler of diffusers."""
        found = {CLASS: self.name, **self.index}
        found |= {folder: list(part.of) for folder, part in self.parts.items()}
        found |= {folder: ["transformers", kind] for folder, kind in self.tokenizers.items()}
        return found | {"scheduler": ["diffusers", scheduler]}


def _one_encoder(encoders: list[Any], pads: list[int]) -> CaptionEncoderConfig:
    del pads  # That of the data's codec is read.
    return CaptionEncoderConfig(encoders[0], masks_padding=False)


def _one_of(conditioner: Any) -> list[CaptionEncoderConfig] | None:
    return [conditioner] if isinstance(conditioner, CaptionEncoderConfig) else None


def _three_encoders(encoders: list[Any], pads: list[int]) -> TogetherConfig:
    towers = tuple(
        dataclasses.replace(one, skipped_layers=1, pad_id=pad)
        for one, pad in zip(encoders[:2], pads, strict=False)
    )
    last = CaptionEncoderConfig(encoders[2], codec="second", masks_padding=False)
    return TogetherConfig((TogetherConfig(towers, "width"), last), "length")


def _three_of(conditioner: Any) -> list[CaptionEncoderConfig] | None:
    parts = getattr(conditioner, "parts", ())
    inner = getattr(parts[0], "parts", ()) if parts else ()
    found = [*inner, *parts[1:]]
    is_such = len(inner) == 2 and len(parts) == 2 and parts[0].join == "width"
    is_such &= all(isinstance(one, CaptionEncoderConfig) for one in found)
    return found if is_such and conditioner.join == "length" else None


STABLE_DIFFUSION = PipelineKind(
    name="StableDiffusionPipeline",
    models="Stable Diffusion 1 and 2",
    parts={
        "unet": Part("", DiffusionConfig, ("diffusers", "UNet2DConditionModel")),
        "vae": Part("latents", KlAutoencoderConfig, ("diffusers", "AutoencoderKL")),
        "text_encoder": Part(
            "conditioner.model", TransformerConfig, ("transformers", "CLIPTextModel"), "clip_text"
        ),
    },
    tokenizers={"tokenizer": "CLIPTokenizer"},
    index={
        "feature_extractor": NOTHING, "image_encoder": NOTHING, "safety_checker": NOTHING,
        "requires_safety_checker": False,
    },
    make_conditioner=_one_encoder,
    find_encoders=_one_of,
    steps=50,
    guidance=7.5,
)  # fmt: skip
_PROJECTED = ("transformers", "CLIPTextModelWithProjection")
STABLE_DIFFUSION_3 = PipelineKind(
    name="StableDiffusion3Pipeline",
    models="Stable Diffusion 3",
    parts={
        "transformer": Part("", DiffusionConfig, ("diffusers", "SD3Transformer2DModel")),
        "vae": Part("latents", KlAutoencoderConfig, ("diffusers", "AutoencoderKL")),
        "text_encoder": Part(
            "conditioner.parts.0.parts.0", CaptionEncoderConfig, _PROJECTED, "clip_text_projected"
        ),
        "text_encoder_2": Part(
            "conditioner.parts.0.parts.1", CaptionEncoderConfig, _PROJECTED, "clip_text_projected"
        ),
        "text_encoder_3": Part(
            "conditioner.parts.1.model", TransformerConfig, ("transformers", "T5EncoderModel"),
            "t5_v1_1_encoder",
        ),
    },
    tokenizers={
        "tokenizer": "CLIPTokenizer", "tokenizer_2": "CLIPTokenizer",
        "tokenizer_3": "T5TokenizerFast",
    },
    index={"feature_extractor": NOTHING, "image_encoder": NOTHING},
    make_conditioner=_three_encoders,
    find_encoders=_three_of,
    steps=28,
    guidance=7.0,
)  # fmt: skip
KINDS = (STABLE_DIFFUSION, STABLE_DIFFUSION_3)
