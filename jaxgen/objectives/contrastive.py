"""Contrastive losses of pairs: softmax (CLIP, 2103.00020) and sigmoid (SigLIP, 2303.15343).

Every image of a batch is compared with every text. A device keeps its rows of images, and the rows
of texts go round the devices that share the batch, so that none holds more than a block of the
logits; the backward pass makes the blocks again. Of a text that goes round travels what its column
of logits has come to, so that each logit is made once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.objectives.base import Loss, Sum
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import Rules, mesh_is_set, varying

LOGITS_AT_A_TIME = 2**22
"""Entries of the block of float32 logits that one device holds (16 MiB), if that is enough."""

Kind = Literal["softmax", "sigmoid"]


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """The loss of telling which text belongs to which image of a batch, a mean over its pairs.

    Its metrics are "loss"; "text_of_image" and "image_of_text", the shares of images and of texts
    for which no other logit of the batch is as large as their own pair's; and the model's "scale".

    Attributes:
      kind: "softmax", cross-entropy over the batch in both directions, averaged; or "sigmoid", a
        logistic loss of every image with every text.
    """

    kind: Kind = "softmax"

    adds_over_microbatches: ClassVar[bool] = False
    loss_unit: ClassVar[str] = "nats/pair"

    def __call__(self, model: Any, batch: Any, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a model such as `models.dual_encoder.DualEncoder`."""
        output = model(batch, key=key)
        found = pair_losses(
            output.images, output.texts, output.scale, output.bias, self.kind, model.layout.rules
        )
        pairs = jnp.float32(output.images.shape[0])
        return Loss(
            total=found.total,
            weight=pairs,
            metrics={
                "loss": Sum(found.total, pairs),
                "text_of_image": Sum(found.text_of_image, pairs),
                "image_of_text": Sum(found.image_of_text, pairs),
                "scale": Sum(output.scale * pairs, pairs),
            },
        )


class PairLosses(NamedTuple):
    """Sums over the pairs of a batch, scalar float32.

    Attributes:
      total: of the loss, which is differentiable.
      text_of_image: images for which no text has as large a logit as their own.
      image_of_text: texts for which no image has.
    """

    total: Any
    text_of_image: Any
    image_of_text: Any


class _Reduced(NamedTuple):
    """What the logits of some rows or columns have come to, [rows] float32.

    Attributes:
      value: the logarithm of the sum of their exponentials, or the sum of their softplus.
      largest_other: the largest of those that are not of a pair; without gradient.
    """

    value: Any
    largest_other: Any


def pair_losses(
    images: ArrayLike,
    texts: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    kind: Kind,
    rules: Rules = Rules(),
    logits_at_a_time: int | None = None,
) -> PairLosses:
    """Returns the losses of a batch, of which the i-th text belongs to the i-th image.

    Args:
      images: [batch, embed] float32.
      texts: [batch, embed] float32.
      scale: scalar, on the inner products.
      bias: scalar, added to them.
      kind: see `Contrastive`.
      rules: of the mesh in force.
      logits_at_a_time: entries of the block of logits of one device; None: as the constant says.
    """
    at_a_time = LOGITS_AT_A_TIME if logits_at_a_time is None else logits_at_a_time
    axes = axis_names(rules.batch) if mesh_is_set() else ()

    def local(images, texts, scale, bias) -> PairLosses:
        if axes:
            # Cast here, each gradient is summed over the devices once, after the blocks.
            scale, bias = (varying(x, axes) for x in (scale, bias))
        own = scale * jnp.sum(images * texts, axis=-1) + bias
        rows, columns = _compare(images, texts, scale, bias, kind, axes, at_a_time)
        if kind == "softmax":
            total = jnp.sum(rows.value + columns.value) / 2 - jnp.sum(own)
        else:
            total = jnp.sum(rows.value) - jnp.sum(own)
        found = (jnp.sum(own > one.largest_other, dtype=jnp.float32) for one in (rows, columns))
        sums = PairLosses(total, *found)
        return jax.lax.psum(sums, axes) if axes else sums

    if not axes:
        return local(images, texts, scale, bias)
    features = rules.activation("batch", None)
    return jax.shard_map(
        local,
        in_specs=(features, features, jax.P(), jax.P()),
        out_specs=PairLosses(jax.P(), jax.P(), jax.P()),
    )(images, texts, scale, bias)


def _compare(images, texts, scale, bias, kind, axes, at_a_time) -> tuple[_Reduced, _Reduced]:
    """Returns what the logits of this device's images and of its texts come to, over the batch."""
    count = images.shape[0]
    devices = jax.lax.axis_size(axes) if axes else 1
    pieces = _pieces(count, max(1, at_a_time // count))

    def with_texts_here(carry, step):
        rows, passing = carry

        @jax.checkpoint
        def compare(rows: _Reduced, of_texts):
            first, texts, columns = of_texts
            logits = jnp.einsum("id,jd->ij", images, texts, preferred_element_type=jnp.float32)
            logits = scale * logits + bias
            column = first + jnp.arange(len(texts))
            is_pair = (step == 0) & (jnp.arange(count)[:, None] == column)
            others = jnp.where(is_pair, -jnp.inf, jax.lax.stop_gradient(logits))
            return (
                _add(rows, logits, others, 1, kind),
                _add(columns, logits, others, 0, kind),
            )

        split = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), passing)
        firsts = jnp.arange(0, count, count // pieces)
        rows, columns = jax.lax.scan(compare, rows, (firsts, *split))
        passing = (passing[0], jax.tree.map(lambda x: x.reshape(count), columns))
        if devices > 1:
            pairs = [(i, (i + 1) % devices) for i in range(devices)]
            passing = jax.tree.map(lambda x: jax.lax.ppermute(x, axes, pairs), passing)
        return (rows, passing), None

    values = jnp.full(count, -jnp.inf if kind == "softmax" else 0.0)
    start = _Reduced(*(varying(x, axes) for x in (values, jnp.full(count, -jnp.inf))))
    # After as many steps as there are devices, texts and their columns are at home again.
    (rows, (_, columns)), _ = jax.lax.scan(
        with_texts_here, (start, (texts, start)), jnp.arange(devices)
    )
    return rows, columns


def _add(
    reduced: _Reduced, logits: jax.Array, others: jax.Array, axis: int, kind: Kind
) -> _Reduced:
    """Returns what logits have come to with those of a block, along one of its axes."""
    largest = jnp.maximum(reduced.largest_other, jnp.max(others, axis=axis))
    if kind == "softmax":
        value = jnp.logaddexp(reduced.value, jax.nn.logsumexp(logits, axis=axis))
    elif axis == 1:
        value = reduced.value + jnp.sum(jax.nn.softplus(logits), axis=axis)
    else:  # Each logit counts once, with its row.
        value = reduced.value
    return _Reduced(value, largest)


def _pieces(count: int, at_most: int) -> int:
    """Returns into how many equal pieces so many texts are cut, of `at_most` each."""
    least = -(-count // at_most)
    return next(n for n in range(least, count + 1) if count % n == 0)
