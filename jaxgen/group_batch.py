"""The batch of completions that are compared: what preferences, rewards and rollouts come as."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch

GroupArray = Annotated[Any, ("batch",)]
"""An array [batch, group, ...]; a group lies whole on a device. See `batch.TokenArray`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupBatch:
    """Completions of prompts, a group for each prompt.

    A pair of preference has a group of two, the better first; a comparison of K has a group of K;
    a prompt whose completions were sampled has as many as were sampled. The group is an axis, so
    that microbatches never part it.

    Attributes:
      tokens: [batch, group, length] int32, prompt, completion, padding.
      targets: [batch, group, length] int32, the next token of each.
      completion_weights: [batch, group, length] float32, 1 where the target is a token of the
        completion, 0 elsewhere.
      lengths: [batch, group] int32, tokens before the padding; 0: there is no such completion.
      scores: [batch, group] float32, how good each is: a reward, a rank (larger is better), or 1
        and 0 for what is and is not desirable.
      score_parts: [batch, group, parts] float32, what the scores are made of, for reports alone.
      preference: [batch] float32, the probability that the first of a pair is the better; None: 1.
      log_probabilities: [batch, group, length] float32, of the targets under the policy that
        sampled them, by a training pass; None: the policy has not changed since.
      reference: [batch, group, length] float32, of the targets under the reference.
      step_scores: [batch, group, length] float32, of a step of the completion that ends with this
        token, from 0 to 1; -1 elsewhere.
      sampled: [batch, group, length] float32, as `log_probabilities`, as the sampler found them,
        token by token.
      values: [batch, group, length] float32, of a value head when the completions were sampled.
      advantages: [batch, group, length] float32, of each token of the completion.
      returns: [batch, group, length] float32, what the values are to be.
      ages: [batch] int32, updates since the completions were sampled.
      task_ids: [batch] int32, the index in `task_names` of a prompt's task.
      task_names: static; () leaves losses unreported by task.
      part_names: static, of `score_parts`.
      drawn_by: static, the `ops.filtering.Filter` that sampled tokens were drawn with; None: by the
        model's own probabilities.
    """

    tokens: GroupArray
    targets: GroupArray
    completion_weights: GroupArray
    lengths: GroupArray
    scores: GroupArray
    score_parts: GroupArray = None
    preference: GroupArray = None
    log_probabilities: GroupArray = None
    reference: GroupArray = None
    step_scores: GroupArray = None
    sampled: GroupArray = None
    values: GroupArray = None
    advantages: GroupArray = None
    returns: GroupArray = None
    ages: GroupArray = None
    task_ids: GroupArray = None
    task_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    part_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    drawn_by: Any = dataclasses.field(default=None, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch, group, length)."""
        return self.tokens.shape

    def rows(self) -> Batch:
        """Returns the completions as rows [batch * group, length] for a model to read."""
        batch, _, length = self.shape
        positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), self.shape)
        is_there = (positions < self.lengths[..., None]).astype(jnp.int32)
        ids = jnp.zeros(batch, jnp.int32) if self.task_ids is None else self.task_ids
        ids = ids[:, None, None] + jnp.zeros_like(is_there)

        def flat(array: Any) -> jax.Array:
            return joined(jnp.asarray(array))

        return Batch(
            tokens=flat(self.tokens),
            targets=flat(self.targets),
            loss_weights=flat(self.completion_weights),
            positions=flat(positions + jnp.zeros_like(is_there)),
            segment_ids=flat(is_there),
            task_ids=flat(ids),
            task_names=self.task_names,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupsAndText:
    """Completions, and as many rows of text beside them.

    Attributes:
      groups: of completions.
      text: packed rows, one for each prompt.
    """

    groups: GroupBatch
    text: Batch


def joined(array: jax.Array) -> jax.Array:
    """Maps [batch, group, ...] to [batch * group, ...], split over the mesh as the batch is."""
    shape = (array.shape[0] * array.shape[1], *array.shape[2:])
    layout = _layout(array)
    if layout is None:
        return array.reshape(shape)
    spec = jax.P(layout[0], *layout[2:])
    return jax.lax.reshape(array, shape, out_sharding=spec)


def parted(array: jax.Array, group: int) -> jax.Array:
    """Inverts `joined`, for groups of this size."""
    shape = (array.shape[0] // group, group, *array.shape[1:])
    layout = _layout(array)
    if layout is None:
        return array.reshape(shape)
    return jax.lax.reshape(array, shape, out_sharding=jax.P(layout[0], None, *layout[1:]))


def _layout(array: jax.Array) -> tuple[Any, ...] | None:
    """Returns how each axis is split over the mesh; None without a mesh."""
    sharding = jax.typeof(array).sharding
    if sharding.mesh.empty:
        return None
    spec = tuple(sharding.spec)
    return spec + (None,) * (array.ndim - len(spec))


def group_batch_spec(batch_size: int, group: int, length: int) -> GroupBatch:
    """Returns the shapes of groups of completions."""

    def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *shape), dtype)

    tokens, weights = array(group, length), array(group, length, dtype=jnp.float32)
    return GroupBatch(
        tokens, tokens, weights, array(group), array(group, dtype=jnp.float32), task_ids=array()
    )
