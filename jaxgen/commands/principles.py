"""`jaxgen revise` and `jaxgen feedback`: the data of constitutional AI, made by a run's model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from jaxgen import distributed
from jaxgen.commands.tasks import task_named
from jaxgen.data.principle_files import asset, read_principles, read_text
from jaxgen.data.protocols import Record
from jaxgen.errors import ConfigError
from jaxgen.generation.continuing import readable_length
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.posttraining.feedback import Judging, judge
from jaxgen.posttraining.principles import Revising, revise
from jaxgen.posttraining.writing import ModelWeigher, ModelWriter
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import Restored, restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def revise_answers(arguments: argparse.Namespace) -> int:
    """Writes a run's answers to a task's prompts, criticised and revised, as JSON lines.

    Args:
      arguments: `run_dir`, `step`, `ema`, `average`; `task`, `split`, `num_examples`, `gin_files`,
        `bindings`; `principles`, `critique`, `revision` (files or None), `rounds`; `max_tokens`,
        `temperature`, `top_p`, `stop`, `batch_size`, `seed`, `output`.
    """
    given = {name: getattr(arguments, name) for name in ("critique", "revision")}
    templates = {name: read_text(path) for name, path in given.items() if path is not None}
    principles = read_principles(arguments.principles)
    settings = Revising(principles, arguments.rounds, **templates, seed=arguments.seed)
    with _restored(arguments) as (restored, records):
        writer = _writer(restored, arguments)
        size = arguments.batch_size
        made = revise(records, writer, settings, arguments.output, size, _named(restored, writer))
    print(f"{made} new rows in {arguments.output}")
    return 0


def give_feedback(arguments: argparse.Namespace) -> int:
    """Writes a run's preferences between two answers to each prompt of a task, as JSON lines.

    Records without `completions` get two of the run's own.

    Args:
      arguments: as `revise_answers` has them; `template` (a file or None), `num_principles`,
        `clamp`, `one_order`.
    """
    own = arguments.template
    settings = Judging(
        read_principles(arguments.principles),
        arguments.num_principles,
        asset("feedback.txt") if own is None else read_text(own),
        both_orders=not arguments.one_order,
        clamp=arguments.clamp,
        seed=arguments.seed,
    )
    with _restored(arguments) as (restored, records):
        writer, size = _writer(restored, arguments), arguments.batch_size
        length = readable_length(restored.transformer, restored.config.train.length)
        weigher = ModelWeigher(restored.language_model, writer.codec, length, size)
        name = _named(restored, writer)
        made = judge(records, weigher, settings, arguments.output, size, name, writer)
    print(f"{made} new rows in {arguments.output}")
    return 0


@contextmanager
def _restored(arguments: argparse.Namespace) -> Iterator[tuple[Restored, list[Record]]]:
    """Restores the run under a mesh of one device, with the records that are asked for."""
    prepare_process()
    if distributed.process_count() > 1:
        raise ConfigError("this command runs in one process; start it without others.")
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir, mesh, arguments.step, ema=arguments.ema, average=arguments.average
        )
        task = task_named(arguments.task, arguments.gin_files, arguments.bindings)
        records = task.instances(arguments.num_examples, arguments.seed, arguments.split)
        if restored.transformer.has_encoder:
            raise ConfigError("principles need a model without an encoder, which reads long texts.")
        yield restored, records


def _writer(restored: Restored, arguments: argparse.Namespace) -> ModelWriter:
    return ModelWriter(
        restored.language_model,
        restored.config.mixture.codec,
        SamplingPolicy(arguments.temperature, top_p=arguments.top_p),
        arguments.max_tokens,
        tuple(arguments.stop if arguments.stop is not None else ["\n"]),
        arguments.batch_size,
        arguments.seed,
    )


def _named(restored: Restored, writer: ModelWriter) -> str:
    """Returns what a file was made by: the run, its step, and how it writes."""
    settings = (writer.policy, writer.max_tokens, writer.stop, writer.seed)
    return f"{restored.directory.path} at step {restored.step}, {settings}"
