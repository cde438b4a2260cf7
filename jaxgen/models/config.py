"""The configuration of a transformer: shapes and choices, nothing derived from data or devices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.domains import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError
from jaxgen.models.audio_config import AudioConfig
from jaxgen.models.media_config import MediaInput
from jaxgen.models.parametrization import check
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import Bidirectional, looks_ahead

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.batch import Batch
    from jaxgen.models.base import ParameterCount
    from jaxgen.models.transformer import Transformer
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A card holds what was published of a model, to compare its counts with.

    Attributes:
      name: as its authors call it.
      source: the paper or public configuration that the shapes come from.
      parameters: the published number; None where none was.
      active_parameters: the published number of parameters that compute a token.
      is_exact: whether `parameters` is exact, not rounded by its authors.
      counts_head: whether `parameters` counts what stands between the last block and the logits.
      note: what is undisclosed or cannot be reproduced.
    """

    name: str
    source: str
    parameters: PositiveInt | None = None
    active_parameters: PositiveInt | None = None
    is_exact: bool = False
    counts_head: bool = True
    note: str = ""

    def __post_init__(self):
        check_domains(self, "card")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(StackConfig):
    """A stack of blocks over tokens, with a second stack before it in an encoder-decoder.

    Attributes:
      vocab_size: rows of the embedding; at least the codec's vocabulary.
      num_encoder_layers: blocks of an encoder like the decoder but bidirectional and dense, whose
        output every block attends to; it shares the token table. 0: none.
      encoder: an encoder of its own form instead. One of another width has its own embedding.
      sound: an encoder that reads one sound for each segment of a row in place of tokens (Whisper);
        they are `Batch.media` of the modality audio.
      table_dim: width of the token table, with matrices to the stream's width and back (None:
        embed_dim, without) (ALBERT, 1909.11942; OPT-350M).
      embedding_norm: whether the embedding is normalised.
      embedding_positions: "learned" (needs max_length) or "sinusoidal", added to the embedding.
      max_length: learned positions; of other positions the longest text that the model is made to
        read, None: what it was trained on.
      unused_positions: rows of the table before position 0's, which nothing reads (OPT).
      text_positions: rows of a table of learned positions that are added to text alone, while codes
        have place_embeddings (DALL-E, 2102.12092, 2.2); text beyond them has none. 0: no table.
      place_embeddings: rows of three tables, added by the time, row and column that a token has in
        its picture, sound or clip (DALL-E, 2102.12092, 2.2); 0: no such table.
      num_token_types: rows of a table added by the token's type (BERT's segments); 0: none.
      tie_embeddings: whether the logits use the embedding table.
      scale_embeddings: whether embeddings are multiplied by sqrt(embed_dim).
      embedding_factor: on the token's embedding (Granite).
      embedding_noise: alpha of uniform noise on the tokens' embeddings in training passes, up to
        alpha / sqrt(tokens of the segment * embed_dim) (NEFTune, 2310.05914, which uses 5 to 15);
        0: none.
      scale_logits: whether logits are divided by sqrt(embed_dim).
      logit_factor: on the logits, before their cap (Granite, Cohere).
      logit_soft_cap: as attention_soft_cap, of the logits.
      output_transform: whether a dense layer, activation and norm precede the logits (BERT).
      pooler: whether there is a dense layer with tanh for a row's first token (BERT).
      next_sentence: whether there is a head of two classes behind the pooler (BERT).
      media: pictures and sounds that are read as vectors at places of a row; at most one input of
        each modality.
      mtp_depth: modules that predict further tokens in training, one more each (DeepSeek-V3).
      card: what was published of the model; no part of what it computes.
    """

    vocab_size: PositiveInt
    num_encoder_layers: NonNegativeInt = 0
    encoder: StackConfig | None = None
    sound: AudioConfig | None = None
    table_dim: PositiveInt | None = None
    embedding_norm: bool = False
    embedding_positions: Literal["learned", "sinusoidal"] | None = None
    max_length: PositiveInt | None = None
    unused_positions: NonNegativeInt = 0
    text_positions: NonNegativeInt = 0
    place_embeddings: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 0, 0)
    num_token_types: NonNegativeInt = 0
    tie_embeddings: bool = True
    scale_embeddings: bool = False
    embedding_factor: PositiveFloat = 1.0
    embedding_noise: NonNegativeFloat = 0.0
    scale_logits: bool = False
    logit_factor: PositiveFloat = 1.0
    logit_soft_cap: PositiveFloat | None = None
    output_transform: bool = False
    pooler: bool = False
    next_sentence: bool = False
    media: tuple[MediaInput, ...] = ()
    mtp_depth: NonNegativeInt = 0
    card: ModelCard | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        super().__post_init__()
        if self.embedding_positions == "learned" and not self.max_length:
            raise ConfigError("model.embedding_positions='learned' needs model.max_length.")
        if self.encoder is not None:
            self._check_encoder(self.encoder)
        if self.sound is not None and (self.encoder_stack is not None or self.media):
            raise ConfigError(
                "model.sound is an encoder, and all that a model reads beside tokens; leave "
                "model.encoder, num_encoder_layers and media out."
            )
        if self.parallel and self.has_encoder:
            raise ConfigError("model.parallel needs a model without an encoder.")
        if self.next_sentence and not self.pooler:
            raise ConfigError("model.next_sentence=True needs model.pooler=True.")
        if self.mtp_depth:
            self._check_mtp()
        if self.media:
            self._check_media()
        if self.parametrization is not None:
            check(self.parametrization, self)

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Transformer:
        """Returns the model."""
        from jaxgen.models.transformer import Transformer

        return Transformer(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters."""
        from jaxgen.models.counting import count_parameters

        return count_parameters(self)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a row of `length`."""
        from jaxgen.models.counting import training_flops_per_token

        return training_flops_per_token(self, length, source_length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> Batch:
        """Returns the shapes of the batch that the model reads.

        Raises:
          ConfigError: rows longer than the learned positions, or a source where there is no
            encoder, or the reverse.
        """
        from jaxgen.batch import token_batch_spec

        if self.embedding_positions == "learned" and (self.max_length or 0) < length:
            raise ConfigError(
                f"train.length={length} exceeds the learned positions, "
                f"model.max_length={self.max_length}."
            )
        if self.encoder_stack is not None and source_length is None:
            raise ConfigError(
                "the model has an encoder: set train.source_length, the tokens of a row that it "
                "reads."
            )
        if self.encoder_stack is None and source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder; "
                "leave it out, or set model.num_encoder_layers."
            )
        spec = token_batch_spec(batch_size, length, source_length)
        if self.sound is not None:
            shape = (batch_size, 1, *self.sound.input_shape)
            return dataclasses.replace(
                spec, media={"audio": jax.ShapeDtypeStruct(shape, "float32")}
            )
        if not self.media:
            return spec
        media = {
            one.modality: jax.ShapeDtypeStruct(
                (batch_size, max(1, length // one.num_vectors), *one.encoder.input_shape),
                jnp.uint8 if one.modality == "image" else jnp.float32,
            )
            for one in self.media
        }
        return dataclasses.replace(spec, media=media)

    def _check_media(self) -> None:
        modalities = [one.modality for one in self.media]
        if len(set(modalities)) < len(modalities):
            raise ConfigError(
                f"model.media has the modalities {modalities}: give one input of each."
            )
        wrong = [vocab for vocab in (one.token for one in self.media) if vocab >= self.vocab_size]
        if wrong:
            raise ConfigError(
                f"media_input.token={wrong[0]} is beyond model.vocab_size={self.vocab_size}; give "
                "the id of a control token, such as the codec's <|image|>."
            )
        if self.has_encoder or self.mtp_depth or self.table_dim is not None:
            raise ConfigError(
                "model.media is of models without an encoder of text, model.mtp_depth and "
                "model.table_dim; leave them out."
            )

    def _check_encoder(self, encoder: StackConfig) -> None:
        if self.num_encoder_layers:
            raise ConfigError(
                f"model.num_encoder_layers={self.num_encoder_layers} is an encoder like the "
                "decoder, and model.encoder another one; set one of them."
            )
        if encoder.compute_dtype != self.compute_dtype:
            raise ConfigError(
                f"model.encoder computes in {encoder.compute_dtype} and its decoder in "
                f"{self.compute_dtype}; set both compute_dtype to the same."
            )
        if self.parametrization is not None or encoder.parametrization is not None:
            raise ConfigError(
                "model.parametrization has one width, and model.encoder may have another; leave "
                "one of them out, or set model.num_encoder_layers."
            )

    def _check_mtp(self) -> None:
        if self.table_dim is not None:
            raise ConfigError("model.mtp_depth needs model.table_dim=None.")
        if any(looks_ahead(layer.mask) for layer in self.kinds_of_layers) or self.has_encoder:
            raise ConfigError(
                f"model.mtp_depth={self.mtp_depth} needs a causal model without an encoder: others "
                "have seen the further tokens already."
            )
        if any(self.place_embeddings) or self.text_positions or self.reads_cells:
            raise ConfigError(
                "model.mtp_depth does not go together with model.place_embeddings, "
                "model.text_positions or masks over places; leave one out."
            )

    @property
    def has_encoder(self) -> bool:
        """Whether the blocks attend to an encoder's output."""
        return self.encoder is not None or self.num_encoder_layers > 0 or self.sound is not None

    @property
    def attended_dim(self) -> int | None:
        """Width of the encoder's output; None without one."""
        if self.sound is not None:
            return self.sound.width
        return None if self.encoder_stack is None else self.encoder_stack.embed_dim

    @property
    def table_width(self) -> int:
        """Width of the token table, and of what the logits are made from."""
        return self.embed_dim if self.table_dim is None else self.table_dim

    @property
    def encoder_stack(self) -> StackConfig | None:
        """The encoder's stack, or None without one."""
        if self.encoder is not None or not self.num_encoder_layers:
            return self.encoder
        layers = tuple(dataclasses.replace(one, mask=(Bidirectional(),)) for one in self.layers)
        return self._stack(
            num_layers=self.num_encoder_layers, layers=layers, last_layers=(), moe=None
        )

    def mtp_stack(self, depth: int) -> StackConfig:
        """Returns the one block of a module of multi-token prediction, counted from 0."""
        number = self.num_layers + depth
        layer, moe = self.layers[number % len(self.layers)], self.moe
        if moe is not None:
            is_sparse = moe.is_sparse(number)
            moe = dataclasses.replace(moe, first=0, every=1, offset=None) if is_sparse else None
        return self._stack(num_layers=1, layers=(layer,), last_layers=(), moe=moe)

    def _stack(self, **changes: Any) -> StackConfig:
        names = (field.name for field in dataclasses.fields(StackConfig))
        return StackConfig(**{name: getattr(self, name) for name in names} | changes)

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use: by dropout, noise, or what experts drop."""
        encoders = (self.encoder, self.sound)
        encoder = any(one is not None and one.differs_in_training for one in encoders)
        media = any(one.differs_in_training for one in self.media)
        return super().differs_in_training or encoder or media or self.embedding_noise > 0
