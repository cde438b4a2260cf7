"""Completions of prompts, sampled and scored on the mesh, as arrays of groups."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import decode_continued, stop_ids
from jaxgen.distributed import fetch
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import sample
from jaxgen.group_batch import GroupBatch, parted
from jaxgen.models.base import language_model
from jaxgen.objectives.log_probabilities import group_log_probabilities, token_log_probabilities
from jaxgen.ops.filtering import Filter
from jaxgen.training.loading import put_batch

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SampledGroups:
    """Completions of a batch of prompts.

    Attributes:
      arrays: the fields of a `GroupBatch` by name, [prompts, group, ...].
      texts: of every completion, [prompts][group], without its stop.
      is_cut: [prompts, group] bool, whether a completion has no stop.
    """

    arrays: Arrays
    texts: list[list[str]]
    is_cut: np.ndarray


def sample_groups(
    model: Any,
    codec: Codec,
    prompts: Sequence[np.ndarray],
    group: int,
    key: jax.Array,
    policy: SamplingPolicy,
    max_tokens: int,
    length: int,
) -> SampledGroups:
    """Returns sampled completions in rows of `length`; call under `jax.set_mesh`.

    Args:
      model: a language model, or one that has one.
      codec: of the stops and the texts.
      prompts: ids with their begin token, each at most `length` - `max_tokens`.
      group: completions of each prompt.
      key: of the draws.
      policy: how tokens are chosen.
      max_tokens: of a completion.
      length: tokens of a row.
    """
    # One width for all, so that one program is compiled.
    width, stops = length - max_tokens, stop_ids(codec)
    tokens = np.full((len(prompts) * group, width), codec.pad_id, np.int32)
    starts = np.repeat(np.array([len(ids) for ids in prompts], np.int32), group)
    for row, ids in zip(tokens, (ids for ids in prompts for _ in range(group)), strict=True):
        row[: len(ids)] = ids
    samples = sample(
        language_model(model), tokens, starts, key,
        policy=policy, max_tokens=max_tokens, stop_ids=stops,
    )  # fmt: skip
    made, lengths, drawn = fetch((samples.tokens, samples.lengths, samples.drawn))
    whole = np.full((len(tokens), length + 1), codec.pad_id, np.int32)
    sampled = np.zeros((len(tokens), length), np.float32)
    whole[:, :width] = tokens
    texts, is_cut = [], np.zeros(len(tokens), bool)
    for row, (start, count) in enumerate(zip(starts, lengths, strict=True)):
        ids = made[row, :count]
        whole[row, start : start + count] = ids
        sampled[row, start - 1 : start - 1 + count] = drawn[row, :count]
        is_cut[row] = ids[-1] not in stops
        answer = ids if is_cut[row] else ids[:-1]
        texts.append(decode_continued(codec, tokens[row, :start], answer))
    arrays = _rows(whole, starts, lengths) | {"sampled": sampled}
    return SampledGroups(
        {name: _grouped(array, group) for name, array in arrays.items()},
        [texts[first : first + group] for first in range(0, len(texts), group)],
        _grouped(is_cut, group),
    )


def answer_groups(
    codec: Codec,
    answered: Sequence[tuple[np.ndarray, np.ndarray]],
    group: int,
    max_tokens: int,
    length: int,
) -> Arrays:
    """Returns answers that are there as the completions of their prompts, all of a group alike.

    Args:
      codec: of the stops, of which an answer ends with one.
      answered: ids of a prompt, with its begin token, and of its answer.
      group: completions of each prompt.
      max_tokens: of a completion, which is cut there.
      length: tokens of a row.
    """
    stops = stop_ids(codec)
    whole = np.full((len(answered), length + 1), codec.pad_id, np.int32)
    starts, lengths = np.zeros((2, len(answered)), np.int32)
    for row, (prompt, answer) in enumerate(answered):
        ends = len(answer) > 0 and answer[-1] in stops
        ids = (answer if ends else np.append(answer, codec.end_id))[:max_tokens]
        starts[row], lengths[row] = len(prompt), len(ids)
        whole[row, : len(prompt) + len(ids)] = np.concatenate([prompt, ids])
    arrays = _rows(whole, starts, lengths)
    return {name: _grouped(np.repeat(x, group, axis=0), group) for name, x in arrays.items()}


def _rows(whole: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Arrays:
    """Returns the fields of rows [rows, length + 1] of prompts and their completions."""
    places = np.arange(whole.shape[1] - 1)
    is_target = (places >= starts[:, None] - 1) & (places < (starts + lengths)[:, None] - 1)
    return {
        "tokens": whole[:, :-1],
        "targets": whole[:, 1:],
        "completion_weights": is_target.astype(np.float32),
        "lengths": (starts + lengths).astype(np.int32),
    }


def score_groups(
    model: Any,
    arrays: Arrays,
    drawn_by: Filter,
    with_policy: bool,
    with_values: bool,
    with_reference: bool,
) -> Arrays:
    """Returns what training passes say of completions: fields of a `GroupBatch` by name.

    Args:
      model: a policy; a bare language model has neither values nor a reference.
      arrays: of `SampledGroups`.
      drawn_by: what the tokens were drawn with.
      with_policy: whether the policy's own log-probabilities are asked.
      with_values: whether its head or critic is asked.
      with_reference: whether its reference is asked.
    """
    mesh, rules = jax.sharding.get_mesh(), language_model(model).layout.rules
    scores = np.zeros(arrays["lengths"].shape, np.float32)
    fields: dict[str, Any] = {**arrays, "scores": scores, "drawn_by": drawn_by}
    batch = put_batch(GroupBatch(**fields), mesh, rules)
    return fetch(_score(model, batch, with_policy, with_values, with_reference))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _score(
    model: Any, batch: GroupBatch, with_policy: bool, with_values: bool, with_reference: bool
) -> Any:
    rows, group = batch.rows(), batch.shape[1]
    output = language_model(model)(rows)
    found = {}
    if with_policy:
        figures = token_log_probabilities(model, rows.targets, output, batch.drawn_by)
        found["log_probabilities"] = parted(figures.log_probability, group)
    if with_values:
        found["values"] = parted(model.values(rows, output).values, group)
    if with_reference:
        found["reference"] = group_log_probabilities(model.reference_model, batch)
    return found


def _grouped(array: np.ndarray, group: int) -> np.ndarray:
    return array.reshape(-1, group, *array.shape[1:])
