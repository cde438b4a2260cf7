"""The transformer: a pytree of parameters and a pure function of a batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.batch import Batch, EncoderInput
from jaxgen.errors import DataError
from jaxgen.models.adapters import drops_inputs
from jaxgen.models.cache import Cache, with_new_tokens
from jaxgen.models.config import TransformerConfig
from jaxgen.models.context import EncoderOutput, cross_context, make_contexts
from jaxgen.models.embedding import Embedding, make_between
from jaxgen.models.head import PairHead, Pooler, Transform
from jaxgen.models.media import MediaReader, cells_of, media_writer, reshaped_rows
from jaxgen.models.moe import balance
from jaxgen.models.multi_token import MultiTokenModule
from jaxgen.models.parameters import gather, make_parameter, project
from jaxgen.models.stack import Stack
from jaxgen.ops.attention.masks import attention_side
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import Initializer, normal, zeros
from jaxgen.ops.look_ahead import look_ahead
from jaxgen.ops.routed_tokens import RoutedTokens, routed_tokens
from jaxgen.ops.routing import Auxiliary, RouterStatistics, router_losses
from jaxgen.sharding.layout import Layout, keys_length, spec, under_layout, using
from jaxgen.sharding.padding import without_padding
from jaxgen.sharding.rules import einsum, reshard

MEDIA_KEY = 2000
"""Folded into the key of a pass for what reads media."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """A model's output for a batch.

    Attributes:
      hidden: [batch, length, embed], what the unembedding table multiplies.
      auxiliary: the routers' losses and figures; None without sparse layers.
      cache: the written cache, if there is one.
      states: [batch, length, embed], what the pooler reads, in a model with one; or the stream
        before the last blocks, where that is asked for.
    """

    hidden: Any
    auxiliary: Auxiliary | None
    cache: Cache | None
    states: Any = None


class Transformer(nnx.Module):
    """Embedding, stack, and before the stack perhaps an encoder; hidden to tokens is `logits`.

    Under `jax.set_mesh` every parameter is born in its layout; without a mesh the same code runs
    on one device. The model alone owns the layout: a static part of its pytree.
    """

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout
        embed, vocab, width = config.embed_dim, config.vocab_size, config.table_width
        encoder = config.encoder_stack
        with using(layout):
            self.embedding = Embedding(config, config, rngs)
            self.encoder_embedding = (
                None
                if encoder is None or encoder.embed_dim == embed
                else Embedding(config, encoder, rngs)
            )
            self.encoder = None if encoder is None else Stack(encoder, rngs)
            self.sound = None if config.sound is None else config.sound.make(rngs)
            self.stack = Stack(config, rngs, config.attended_dim)
            self.transform = Transform(config, rngs) if config.output_transform else None
            self.pooler = Pooler(config, rngs) if config.pooler else None
            self.narrow = make_between(config, config, rngs, to_table=True)
            start, axes = _unembedding_start(config), ("vocab", "embed")
            self.unembedding = (
                None if config.tie_embeddings else make_parameter(rngs, (vocab, width), axes, start)
            )
            self.logit_bias = (
                make_parameter(rngs, (vocab,), ("vocab",), zeros)
                if config.has_bias("logits")
                else None
            )
            self.next_sentence = PairHead(config, rngs) if config.next_sentence else None
            self.media = nnx.List([MediaReader(one, config, rngs) for one in config.media])
            self.mtp = nnx.List(
                [MultiTokenModule(config, depth, rngs) for depth in range(config.mtp_depth)]
            )

    def with_layout(self, layout: Layout) -> Transformer:
        """Returns the same parameters as a model of another layout; this one stays as it is."""
        model = jax.tree.map(lambda leaf: leaf, self)
        model.layout = layout
        return model

    @under_layout
    def __call__(
        self,
        batch: Batch,
        cache: Cache | None = None,
        key: jax.Array | None = None,
        last: int | None = None,
    ) -> Output:
        """Runs the blocks over a batch, or over new tokens that follow those in `cache`.

        With a cache the row of a batch is one sequence, the slot of a token is its position, and
        tokens of segment 0 (padding) are not kept. An encoder runs where the batch has a source;
        a cache keeps what the blocks need of it.

        Args:
          batch: what to read.
          cache: of earlier tokens.
          key: of a training pass, in which dropout and the experts' capacity apply; None: the
            model as it is used.
          last: how many blocks there are after the stream that is returned as `Output.states`.

        Raises:
          DataError: a batch without a source for a model with an encoder, or the reverse.
        """
        config = self.config
        _check_source(config, batch, cache)
        tokens_layout = spec("batch", "length")
        media, batch = batch.media, dataclasses.replace(batch, media=None)
        batch = jax.tree.map(lambda x: reshard(jnp.asarray(x), tokens_layout), batch)
        key = self._training_key(key)
        embedding_key, encoder_key, stack_key, read_key = split(key, 4)
        media_key = None if key is None else jax.random.fold_in(key, MEDIA_KEY)
        encoder, encoder_router, source_ids = None, None, None
        if batch.encoder is not None:
            encoder, encoder_router = self._encode(batch, batch.encoder, read_key, encoder_key)
            source_ids = batch.encoder.segment_ids
        elif self.sound is not None and media is not None:
            encoder, source_ids = self._hear(batch, media["audio"], encoder_key)
            media = None
        elif cache is not None and cache.cross is not None:
            segment_ids = jnp.minimum(batch.segment_ids, 1)
            context = cross_context(segment_ids, cache.encoder_segment_ids)
            encoder = EncoderOutput(None, context, cache.cross)
        cells = cells_of(batch, config.media) if config.reads_cells else None
        queries = attention_side(batch.positions, batch.segment_ids, batch.block_ids, cells)
        if cache is None:
            keys = jax.tree.map(lambda x: reshard(x, spec("batch", keys_length())), queries)
            slots = None
        else:
            cache, queries, keys, slots = with_new_tokens(cache, batch, queries)
        contexts = make_contexts(config, queries, keys, slots, self.stack.relative, batch.places)
        x = self.embedding(
            batch.tokens,
            batch.positions,
            batch.token_types,
            embedding_key,
            batch.places,
            batch.modalities,
            None if media is None else media_writer(self.media, batch.tokens, media, media_key),
            batch.segment_ids,
        )
        result = self.stack(
            x,
            routed_tokens(batch, config.moe, config.num_layers),
            contexts,
            None if cache is None else cache.key_values,
            encoder,
            stack_key,
            last=last,
        )
        if cache is not None:
            cache = dataclasses.replace(cache, key_values=result.key_values)
            if source_ids is not None:
                cache = dataclasses.replace(
                    cache,
                    cross=result.cross,
                    encoder_segment_ids=reshard(jnp.minimum(source_ids, 1), spec("batch", None)),
                )
        hidden = self._before_logits(result.hidden)
        encoder_stack = config.encoder_stack
        auxiliary = router_losses(
            {
                "router": (config.moe, result.router),
                "encoder_router": (encoder_stack and encoder_stack.moe, encoder_router),
            }
        )
        states = result.earlier if self.pooler is None else result.hidden
        return Output(hidden, auxiliary, cache, states)

    @under_layout
    def predict_ahead(
        self, batch: Batch, output: Output, key: jax.Array | None = None
    ) -> list[tuple[Batch, Output]]:
        """Runs the modules of multi-token prediction over what the model gave for a batch.

        Args:
          batch: that of the model's call.
          output: what it returned.
          key: of a training pass.

        Returns:
          For each module the batch of its targets, and its output, whose hidden states the
          unembedding table multiplies.
        """
        tokens_layout = spec("batch", "length")
        batch = dataclasses.replace(batch, media=None)
        batch = jax.tree.map(lambda x: reshard(jnp.asarray(x), tokens_layout), batch)
        key = self._training_key(key)
        # The head's factors are nothing to a module, which begins with a norm.
        hidden, ahead = output.hidden, []
        for index, module in enumerate(self.mtp):
            name, steps = f"mtp{index + 1}", index + 1
            keys = split(None if key is None else jax.random.fold_in(key, 1000 + index), 2)
            later = look_ahead(batch, steps)
            x = self.embedding(
                later.tokens, batch.positions + steps, None, keys[0], segment_ids=later.segment_ids
            )
            x = jnp.where((later.segment_ids > 0)[..., None], x, 0)
            result = module(hidden, x, batch, keys[1])
            hidden = result.hidden
            stacks = {f"{name}_router": (module.stack.config.moe, result.router)}
            ahead.append((later, Output(self._before_logits(hidden), router_losses(stacks), None)))
        return ahead

    def _training_key(self, key: jax.Array | None) -> jax.Array | None:
        """Returns the key of a pass that differs from use, or None."""
        return key if self.config.differs_in_training or drops_inputs(self) else None

    @under_layout
    def pooled(self, output: Output) -> jax.Array:
        """Returns [batch, length, embed], of which a text's is at its first token."""
        assert self.pooler is not None
        return self.pooler(output.states)

    @under_layout
    def pair_logits(self, output: Output) -> jax.Array:
        """Returns [batch, length, 2] float32; those of a pair of spans are at its first token."""
        assert self.next_sentence is not None
        return self.next_sentence(self.pooled(output))

    def _before_logits(self, hidden: jax.Array) -> jax.Array:
        """Returns what the unembedding table multiplies, of the last norm's output."""
        config = self.config
        if self.transform is not None:
            hidden = self.transform(hidden)
        if self.narrow is not None:
            hidden = project(hidden, self.narrow)
        if config.scale_logits:
            hidden = hidden * (config.embed_dim / config.width_factor) ** -0.5
        if config.logit_factor != 1:
            hidden = hidden * config.logit_factor
        if config.width_factor != 1:
            hidden = hidden / config.width_factor
        return hidden

    def _encode(
        self, batch: Batch, read: EncoderInput, *keys
    ) -> tuple[EncoderOutput, RouterStatistics | None]:
        assert self.encoder is not None
        queries = attention_side(read.positions, read.segment_ids)
        attended = jax.tree.map(lambda x: reshard(x, spec("batch", keys_length())), queries)
        contexts = make_contexts(
            self.encoder.config, queries, attended, None, self.encoder.relative
        )
        embedding = self.embedding if self.encoder_embedding is None else self.encoder_embedding
        x = embedding(read.tokens, read.positions, None, keys[0], segment_ids=read.segment_ids)
        result = self.encoder(x, RoutedTokens(read.segment_ids), contexts, key=keys[1])
        segment_ids = reshard(read.segment_ids, spec("batch", None))
        context = cross_context(batch.segment_ids, segment_ids)
        return EncoderOutput(result.hidden, context), result.router

    def _hear(
        self, batch: Batch, sounds: jax.Array, key: jax.Array | None
    ) -> tuple[EncoderOutput, jax.Array]:
        """Returns the encoding of a row's sounds, of which each segment attends to its own."""
        assert self.sound is not None
        rows, count, *shape = sounds.shape
        hidden = self.sound.features(reshaped_rows(jnp.asarray(sounds), rows * count, *shape), key)
        tokens, width = hidden.shape[1:]
        hidden = reshaped_rows(hidden, rows, count * tokens, width)
        numbers = jnp.repeat(jnp.arange(1, count + 1, dtype=jnp.int32), tokens)
        ids = reshard(jnp.broadcast_to(numbers, hidden.shape[:2]), spec("batch", None))
        return EncoderOutput(hidden, cross_context(batch.segment_ids, ids)), ids

    def after_update(self, metrics: dict[str, Any]) -> Transformer:
        """Returns the model after what an optimiser's step does not do: balancing the routers.

        Args:
          metrics: the step's, by name, each a mean over its tokens.
        """
        model = self.with_layout(self.layout)
        stacks = [(model.stack, "router/load"), (model.encoder, "encoder_router/load")]
        modules = [(one.stack, f"mtp{i + 1}_router/load") for i, one in enumerate(model.mtp)]
        # These have figures only where the objective uses them.
        stacks += [(stack, name) for stack, name in modules if name in metrics]
        for stack, name in stacks:
            moe = None if stack is None else stack.config.moe
            if moe is not None and moe.bias_balancing:
                balance(stack, metrics[name])
        return model

    @under_layout
    def unembedding_table(self, dtype: Any) -> jax.Array:
        """Returns the table that turns hidden into logits, [vocab, embed], whole over fsdp.

        There may be rows of padding beyond the vocabulary, and so in `unembedding_bias`.
        """
        parameter: Any = self.embedding.table if self.unembedding is None else self.unembedding
        return gather(parameter, dtype)

    @under_layout
    def unembedding_bias(self) -> jax.Array | None:
        """Returns what is added to the logits, [vocab] float32, or None."""
        bias = self.logit_bias
        return None if bias is None else gather(bias, jnp.float32)

    @under_layout
    def logits(self, hidden: jax.Array) -> jax.Array:
        """Returns [batch, length, vocab] float32, of [batch, length, embed] of few positions."""
        table, bias = self.unembedding_table(hidden.dtype), self.unembedding_bias()
        layout = spec("batch", "length", "vocab")
        logits = einsum("btd,vd->btv", hidden, table, out=layout).astype(jnp.float32)
        logits = logits if bias is None else logits + bias
        cap = self.config.logit_soft_cap
        logits = logits if cap is None else cap * jnp.tanh(logits / cap)
        return without_padding(logits, self.config.vocab_size, spec("batch", "length", None))


def _unembedding_start(config: TransformerConfig) -> Initializer:
    """Returns the base's initializer: where a model is wider, its logits are divided as a whole."""
    if config.parametrization is not None and config.parametrization.zero_readout:
        return zeros
    width = config.embed_dim / config.width_factor
    return normal(config.initialization.kernel_stddev(width, config.vocab_size))


def _check_source(config: TransformerConfig, batch: Batch, cache: Cache | None) -> None:
    if batch.encoder is not None and not config.has_encoder:
        raise DataError("the batch has a source but the model has no encoder.")
    is_heard = config.sound is not None and batch.media is not None
    is_cached = cache is not None and cache.cross is not None
    has_source = batch.encoder is not None or is_heard or is_cached
    if config.has_encoder and not has_source:
        raise DataError(
            "the model has an encoder and the batch no source "
            "(Batch.encoder); use a mixture that makes one, or a model without an encoder."
        )
