"""One model for text and pictures: next tokens, and the flow of noisy patches, of the same rows."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.batch import Batch
from jaxgen.models.diffusion.patching import picture_of_patches
from jaxgen.models.media import reshaped_rows
from jaxgen.models.noisy_patches import with_time
from jaxgen.models.parameters import make_parameter, project
from jaxgen.models.transfusion_config import TransfusionConfig
from jaxgen.ops.initializers import zeros
from jaxgen.ops.vectors import take_vectors
from jaxgen.sharding.layout import Layout, spec, under_layout, using
from jaxgen.sharding.rules import reshard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowsToDraw:
    """Rows with one picture each that is to be drawn.

    Attributes:
      told: `Batch`, of prompts.
      untold: `Batch` of as many rows, without prompts, for guidance.
    """

    told: Any
    untold: Any


class PictureFlow(NamedTuple):
    """What a model gives for rows with noisy pictures.

    Attributes:
      output: of the language model.
      predictions: [batch, pictures, height, width, channels] float32.
      is_there: [batch, pictures] bool, which pictures a row has.
      first: [batch, pictures] int32, where in the row a picture's patches begin.
    """

    output: Any
    predictions: jax.Array
    is_there: jax.Array
    first: jax.Array


class Transfusion(nnx.Module):
    """A language model that reads patches, and a head that predicts of them what noise did."""

    latents = None

    def __init__(self, config: TransfusionConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout
        self.model = config.model.build(rngs, layout)
        width = config.pictures.patch_width
        with using(layout):
            shape = (config.model.embed_dim, width)
            self.out = make_parameter(rngs, shape, ("embed", None), zeros)
            self.out_bias = make_parameter(rngs, (width,), (None,), zeros)

    @property
    def language_model(self) -> Any:
        """What writes."""
        return self.model

    @property
    def conditioner(self) -> Any:
        """What reads prompts: the language model, as samplers ask for it."""
        return self.model

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Returns the language model's output; see `Transformer`."""
        return self.model(*arguments, **named)

    @under_layout
    def flow(
        self, batch: Batch, noisy: jax.Array, time: jax.Array, key: jax.Array | None = None
    ) -> PictureFlow:
        """Runs the rows with noisy pictures in place of their own.

        Args:
          batch: the rows, whose pictures are not read.
          noisy: [batch, pictures, height, width, channels] float32, in the rows' order.
          time: [batch, pictures] float32, as the network reads it.
          key: of a training pass.
        """
        media = {self.config.picture_input.modality: with_time(noisy, time)}
        output = self.model(dataclasses.replace(batch, media=media), key=key)
        with using(self.layout.with_whole_length()):
            return self._read(batch, output, noisy.shape)

    def _read(self, batch: Batch, output: Any, shape: tuple[int, ...]) -> PictureFlow:
        """Returns the predictions at the places of patches."""
        config, rows = self.config, spec("batch", None)
        form, (size, count) = config.pictures, shape[:2]
        tokens = reshard(jnp.asarray(batch.tokens), rows)
        length, wanted = tokens.shape[1], count * form.num_tokens
        places = reshard(jnp.broadcast_to(jnp.arange(length), tokens.shape), rows)
        is_patch = tokens == config.picture_input.token
        # The places of patches come first, in their order.
        order = jnp.sort(jnp.where(is_patch, places, length + places), axis=1)
        order = jnp.pad(order, ((0, 0), (0, max(0, wanted - length))), constant_values=2 * length)
        order = order[:, :wanted]
        hidden = take_vectors(output.hidden, jnp.minimum(order, length - 1))
        patches = project(hidden, self.out, self.out_bias).astype(jnp.float32)
        patches = reshaped_rows(patches, size * count, form.num_tokens, form.patch_width)
        pictures = picture_of_patches(patches, form.grid[0], form.patch_size)
        found = jnp.sum(is_patch, axis=1, keepdims=True) // form.num_tokens
        is_there = reshard(jnp.arange(count), jax.P(None)) < found
        first = order[:, :: form.num_tokens]
        return PictureFlow(output, reshaped_rows(pictures, *shape), is_there, first)

    @under_layout
    def condition(self, prompts: RowsToDraw, keeps: bool = True) -> Batch:
        """Returns the rows that pictures are drawn in: of prompts, or without any."""
        return prompts.told if keeps else prompts.untold

    def denoise(self, x: jax.Array, time: jax.Array, rows: Batch) -> jax.Array:
        """Returns the prediction for the one picture of each row; see `Denoiser`.

        The whole row is computed at each step.
        """
        return self.flow(rows, x[:, None], time[:, None]).predictions[:, 0]

    def encode(self, pictures: jax.Array) -> jax.Array:
        """Returns pictures from -1 to 1 as they are."""
        return pictures

    def decode(self, x: jax.Array) -> jax.Array:
        """Returns what is drawn as it is."""
        return x

    def adopt(self, parent: Any) -> Transfusion:
        """Returns the model with a parent's parameters: its own kind's, or a language model's."""
        from jaxgen.models.adopting import adopted

        found = jax.tree.map(lambda leaf: leaf, self)
        inner = parent.model if isinstance(parent, Transfusion) else parent
        found.model = adopted(found.model, inner)
        if isinstance(parent, Transfusion):
            found.out, found.out_bias = parent.out, parent.out_bias
        return found

    def after_update(self, metrics: dict[str, Any]) -> Transfusion:
        """Returns the model after the language model's own `after_update`."""
        found = jax.tree.map(lambda leaf: leaf, self)
        found.model = found.model.after_update(metrics)
        return found
