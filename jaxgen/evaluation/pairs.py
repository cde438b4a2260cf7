"""Evaluators of contrastive pairs: retrieval in both directions, and zero-shot classification."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.distributed import fetch
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.training.loading import put_batch


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Finds, among the captions of held-out images, that of each image, and the reverse.

    Captions are unlike one another where the data can have it so. Of equal similarities the worst
    place counts, so that a model to which all is alike finds nothing.

    Attributes:
      num_pairs: images and captions that are compared; by chance one in so many is found.
      task: the records, as the data's task gives its own; None: the data's.
      name: the name in tables.
    """

    num_pairs: PositiveInt = 256
    task: Task | None = None
    name: str = "retrieval"

    def __post_init__(self):
        check_domains(self, "retrieval")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no pairs to compare."""
        if self.task is not None:
            _pairs_of(context.data, self.task, self.name).examples(1, context.seed)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a pair.

        Returns:
          Rows with "instance", "text_of_image" (whether no other caption is as near to the image),
          "text_of_image_rank" (how many are, from 1), "image_of_text" and "image_of_text_rank"
          likewise, and "chance" of each.
        """
        data: Any = context.data
        if self.task is not None:
            data = _pairs_of(data, self.task, self.name)
        batch: Any = data.open(
            batch_size=self.num_pairs, length=context.length, seed=context.seed, split="heldout"
        ).batch(0)
        images = encode_images(model, batch.images, context.batch_size)
        texts = encode_texts(model, batch.tokens, batch.lengths, context.batch_size)
        by_image, by_text = ranks_of(images, texts), ranks_of(texts, images)
        return [
            {
                "instance": str(place),
                "text_of_image": int(by_image[place] == 1),
                "text_of_image_rank": int(by_image[place]),
                "image_of_text": int(by_text[place] == 1),
                "image_of_text_rank": int(by_text[place]),
                "chance": 1 / self.num_pairs,
            }
            for place in range(self.num_pairs)
        ]


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Classifies images by the class whose name, put into a text, is nearest (2103.00020, 3.1).

    Attributes:
      label: the field of a record that has its class.
      templates: texts with {} for the class; the mean of their vectors speaks for it.
      classes: the names; (): those that the records have.
      task: the records, as the data's task gives its own; None: the data's.
      num_examples: held-out images.
      name: the name in tables.
    """

    label: str
    templates: tuple[str, ...] = ("{}",)
    classes: tuple[str, ...] = ()
    task: Task | None = None
    num_examples: PositiveInt = 256
    name: str = "zero_shot"

    def __post_init__(self):
        check_domains(self, "zero_shot")
        if not self.templates or not all("{}" in one for one in self.templates):
            raise ConfigError(
                f"zero_shot.templates={self.templates!r}: each needs {{}} where the class goes, "
                "such as 'a photo of a {}.'."
            )

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no images to classify, or a record lacks its class."""
        self._labels(_pairs_of(context.data, self.task, self.name).examples(1, context.seed))

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row an image.

        Returns:
          Rows with "instance", "exact_match" (whether its class is the nearest), "label", "answer"
          (the nearest) and "chance" (one over the classes).

        Raises:
          ConfigError: if the data are no pairs.
          DataError: if a record lacks its class.
        """
        pairs = _pairs_of(context.data, self.task, self.name)
        records = pairs.examples(self.num_examples, context.seed)
        labels = self._labels(records)
        classes = self.classes or tuple(sorted(set(labels)))
        images = encode_images(model, pairs.pixels(records), context.batch_size)
        near = images @ self._vectors(model, pairs, classes, context).T
        return [
            {
                "instance": instance_of(record, place),
                "exact_match": int(classes[int(np.argmax(near[place]))] == label),
                "label": label,
                "answer": classes[int(np.argmax(near[place]))],
                "chance": 1 / len(classes),
            }
            for place, (record, label) in enumerate(zip(records, labels, strict=True))
        ]

    def _labels(self, records: Sequence[dict[str, Any]]) -> list[str]:
        lacking = [record for record in records if record.get(self.label) in (None, "")]
        if lacking or not records:
            there = sorted(lacking[0]) if lacking else "none"
            raise DataError(
                f"zero_shot.label={self.label!r} is no field of a record; it has {there}."
            )
        labels = [str(record[self.label]) for record in records]
        if unknown := set(labels) - set(self.classes) if self.classes else set():
            raise DataError(
                f"zero_shot.classes has no {sorted(unknown)[0]!r}, the {self.label} of a record."
            )
        return labels

    def _vectors(
        self, model: Any, pairs: ImageTextPairs, classes: Sequence[str], context: EvaluationContext
    ) -> np.ndarray:
        """Returns a vector of length 1 for each class."""
        texts = [template.replace("{}", name) for name in classes for template in self.templates]
        tokens, lengths = pairs.tokens(texts, context.length)
        found = encode_texts(model, tokens, lengths, context.batch_size)
        found = found.reshape(len(classes), len(self.templates), -1).mean(axis=1)
        return found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)


def _pairs_of(data: Any, task: Task | None, evaluator: str) -> ImageTextPairs:
    """Returns the data, with the records of a task in place of its own if there is one."""
    if not isinstance(data, ImageTextPairs):
        raise ConfigError(
            f"the evaluator {evaluator} needs data of pairs (@image_text_pairs()), not "
            f"{type(data).__name__}."
        )
    return data if task is None else dataclasses.replace(data, task=task.with_codec(data.codec))


def ranks_of(asked: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Returns, for each vector, how many of the others' are at least as near as its partner.

    Args:
      asked: [n, embed].
      among: [n, embed]; the partner of a vector is that of its own number.

    Returns:
      [n] int, from 1: the partner is nearer than all others.
    """
    near = asked @ among.T
    return np.sum(near >= np.diagonal(near)[:, None], axis=1)


def encode_images(model: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns [images, embed] float32, so many images at a time; under `jax.set_mesh`."""
    return in_batches(_encode_images, model, (images,), batch_size)


def encode_texts(
    model: Any, tokens: np.ndarray, lengths: np.ndarray, batch_size: int
) -> np.ndarray:
    """Returns [texts, embed] float32, so many texts at a time; under `jax.set_mesh`."""
    return in_batches(_encode_texts, model, (tokens, lengths), batch_size)


@jax.jit
def _encode_images(model: Any, images: jax.Array) -> jax.Array:
    return model.encode_images(images)


@jax.jit
def _encode_texts(model: Any, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    return model.encode_texts(tokens, lengths)


def in_batches(function: Any, model: Any, arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """Returns function(model, *arrays), an array or a pytree of arrays, of so many rows at a time.

    It is called under `jax.set_mesh`.
    """
    count, found = len(arrays[0]), []
    for first in range(0, count, batch_size):
        part = [array[first : first + batch_size] for array in arrays]
        missing = batch_size - len(part[0])  # Rows that fill the last batch repeat its first.
        part = [np.concatenate([one, np.repeat(one[:1], missing, axis=0)]) for one in part]
        placed = put_batch(part, jax.sharding.get_mesh(), model.layout.rules)
        whole = fetch(function(model, *placed))
        found.append(jax.tree.map(lambda rows, last=batch_size - missing: rows[:last], whole))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
