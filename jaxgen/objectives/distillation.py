"""Distillation: the distributions of a frozen teacher are what a student learns."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.domains import InnerFraction, PositiveFloat, UnitFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.group_batch import GroupBatch
from jaxgen.models.base import language_model
from jaxgen.objectives.base import Loss
from jaxgen.objectives.positions import map_positions
from jaxgen.objectives.token_sums import sums_by_task, with_auxiliary
from jaxgen.ops.vectors import take_vectors
from jaxgen.sharding.layout import using
from jaxgen.sharding.rules import mesh_is_set, reshard
from jaxgen.taught_batch import TaughtBatch

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The divergence of a student from its teacher at every position that is in the loss.

    Rows are those of the data: of a corpus (1503.02531, 1606.07947), or completions that the
    student has sampled (GKD, 2306.13649, with `@rollouts()` as data). The reported "loss" and
    "accuracy" are the student's of the data's own targets; "divergence" is what is learned, in nats
    and at the temperature, and "teacher_loss" what the teacher comes to.

    Attributes:
      divergence: "forward_kl", KL(teacher || student); "reverse_kl", KL(student || teacher), which
        leaves out what the teacher finds unlikely (MiniLLM, 2306.08543); "jsd", the generalised
        Jensen-Shannon divergence of GKD.
      beta: of "jsd": the teacher's share of the mixture that both are compared with.
      temperature: both distributions' logits are divided by it, and the divergence multiplied by
        its square, which keeps the size of the gradient (1503.02531, 2).
      cross_entropy: the share of the loss that is cross-entropy of the data's targets.
    """

    divergence: Divergence = "forward_kl"
    beta: InnerFraction = 0.5
    temperature: PositiveFloat = 1.0
    cross_entropy: UnitFraction = 0.0

    def __post_init__(self):
        check_domains(self, "distillation_loss")

    def __call__(
        self, model: Any, batch: Batch | GroupBatch | TaughtBatch, key: jax.Array | None = None
    ) -> Loss:
        """Returns the loss of a model that has a teacher."""
        student, teacher = language_model(model), teacher_of(model)
        taught = batch if isinstance(batch, TaughtBatch) else None
        rows: Any = batch
        if isinstance(batch, GroupBatch):
            # The length of a group's rows is whole, and a corpus's is split as the model's is.
            split = student.layout.rules.activation("batch", "length")
            rows = jax.tree.map(lambda array: reshard(array, split), batch.rows())
        if taught is not None:
            rows, (count, length) = taught.student, taught.teacher.shape
            # Refuses rows that learned positions do not reach.
            teacher.config.batch_spec(batch_size=count, length=length)
        output = student(rows, key=key)
        hidden = teacher(rows if taught is None else taught.teacher).hidden
        if taught is not None:
            with using(student.layout):
                hidden = take_vectors(hidden, jnp.asarray(taught.places))
        figures = self._figures(student, teacher, output.hidden, hidden, rows)
        weights = jnp.asarray(rows.loss_weights)
        share = self.cross_entropy
        losses = (1 - share) * self.temperature**2 * figures["divergence"]
        losses = losses + share * figures["loss"]
        # Without weight what is there may be anything, such as the divergence of padding.
        total = jnp.sum(jnp.where(weights != 0, losses, 0.0) * weights)
        weight = jnp.sum(weights)
        metrics = sums_by_task(rows, {n: jax.lax.stop_gradient(x) for n, x in figures.items()})
        loss = Loss(total, weight, metrics)
        return with_auxiliary(loss, output.auxiliary, weight, rows.task_names)

    def _figures(
        self, student: Any, teacher: Any, ours: jax.Array, theirs: jax.Array, rows: Any
    ) -> dict[str, jax.Array]:
        """Returns the figures of every position, [batch, length] float32."""
        layout = student.layout.with_whole_length()
        heads = student.with_layout(layout), teacher.with_layout(layout)

        def of_chunk(
            ours: jax.Array, theirs: jax.Array, targets: jax.Array
        ) -> dict[str, jax.Array]:
            q_logits = heads[0].logits(ours)
            p_logits = jax.lax.stop_gradient(heads[1].logits(theirs))
            is_target = targets[..., None] == _numbers(q_logits)
            target = jnp.sum(jnp.where(is_target, q_logits, 0.0), axis=-1)
            known = jnp.sum(jnp.where(is_target, p_logits, 0.0), axis=-1)
            return {
                "loss": jax.nn.logsumexp(q_logits, axis=-1) - target,
                "accuracy": (target >= jnp.max(q_logits, axis=-1)).astype(jnp.float32),
                "divergence": divergence(
                    p_logits / self.temperature, q_logits / self.temperature, self.divergence,
                    self.beta,
                ),
                "teacher_loss": jax.nn.logsumexp(p_logits, axis=-1) - known,
            }  # fmt: skip

        return map_positions(of_chunk, (ours, theirs, rows.targets), student.layout.rules)


def divergence(p_logits: Any, q_logits: Any, kind: Divergence, beta: float = 0.5) -> jax.Array:
    """Returns how far the student is from the teacher, in nats.

    Args:
      p_logits: [..., vocab] float32, the teacher's.
      q_logits: [..., vocab] float32, the student's.
      kind: see `Distillation`.
      beta: of "jsd", beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q.
    """
    p, q = (jax.nn.log_softmax(one, axis=-1) for one in (p_logits, q_logits))
    if kind == "forward_kl":
        return _kl(p, q)
    if kind == "reverse_kl":
        return _kl(q, p)
    mixture = jnp.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * _kl(p, mixture) + (1 - beta) * _kl(q, mixture)


def _kl(p: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(p) * (p - q), axis=-1)


def _numbers(logits: jax.Array) -> jax.Array:
    """Returns the tokens' numbers [vocab], split over the mesh as the logits are."""
    numbers = jnp.arange(logits.shape[-1])
    if not mesh_is_set():
        return numbers
    return jax.reshard(numbers, jax.P(jax.typeof(logits).sharding.spec[-1]))


def teacher_of(model: Any) -> Any:
    """Returns the frozen model that another learns from: its teacher, or its reference.

    Raises:
      ConfigError: if it has neither.
    """
    teacher = getattr(model, "teacher", None)
    if teacher is not None:
        return language_model(teacher)
    if not hasattr(type(model), "reference_model"):
        raise ConfigError(
            f"distillation_loss needs a teacher, and the model is a {type(model).__name__}: set "
            "run.model = @distilled() with distilled.teacher, or @policy() with policy.reference "
            "= True, which learns from what it begins with."
        )
    return model.reference_model
