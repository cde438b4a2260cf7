"""A run that begins with the parameters of another: fine-tuning, of a run or of an import."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from jaxgen.configuration import dataclasses_in, difference, load_recorded
from jaxgen.data.caption_encodings import CaptionEncodings
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.interchange.originals import hand_on_originals
from jaxgen.models.adopting import adopted, shapes_of
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.program import Program
from jaxgen.training.state import TrainState

CONDITIONER = "conditioner"
WHOLE = ""
"""The name of the whole model among its parts."""
NEEDED = {"name": str, "fingerprint": str, "codec_digest": str, "finished": bool,
          "steps": int, "flops": float}  # fmt: skip
"""The shape of what is read of a parent's run.json."""


def parents_of(config: RunConfig, directory: RunDirectory) -> dict[str, RunDirectory]:
    """Returns the runs whose parameters a run begins with, by the part of the model; "" is all."""
    sources = {} if config.initialize_from is None else {WHOLE: config.initialize_from}
    sources |= dict(config.initialize_parts or {})
    return {part: directory.beside(path) for part, path in sources.items()}


def runs_needed(config: RunConfig, directory: RunDirectory) -> list[RunDirectory]:
    """Returns all runs that must have finished before a run: parents, and those that parts name.

    A part, such as a reward by a model, names its runs in an attribute `run_dirs`, seen from the
    current folder.
    """
    named = [path for part in dataclasses_in(config) for path in getattr(part, "run_dirs", ())]
    return [*parents_of(config, directory).values(), *(RunDirectory(path) for path in named)]


@dataclasses.dataclass(frozen=True)
class Parent:
    """A run whose last parameters another begins with.

    Attributes:
      directory: where it is.
      config: its own.
      record: what run.json says of it.
      is_read: whether its parameters are taken, or what they made of the data is read instead.
    """

    directory: RunDirectory
    config: RunConfig
    record: dict[str, Any]
    is_read: bool = True

    @property
    def parameters_digest(self) -> str:
        """What tells the parameters of its last checkpoint from others."""
        with Checkpoints(self.directory.checkpoints) as checkpoints:
            return checkpoints.parameters_digest()

    def describe(self) -> dict[str, Any]:
        """Returns its entry in the run.json of the run that begins here."""
        # Of an import that was not trained here, steps and FLOPs are only a plan.
        of_training = ("steps", "flops") if self.record["finished"] else ("imported_from",)
        told = {name: self.record[name] for name in ("name", "fingerprint", *of_training)}
        if not self.is_read:
            told["parameters"] = self.parameters_digest
        return {"directory": str(self.directory.path)} | told

    def read(self, program: Program) -> Any:
        """Returns the parent's model, laid out as `program` says; call under its mesh.

        Raises:
          CheckpointError: if the parent's checkpoint cannot be trusted.
        """
        theirs = dataclasses.replace(program, model=self.config.model, train=self.config.train)
        with Checkpoints(self.directory.checkpoints) as checkpoints:
            state, _ = checkpoints.restore(theirs.abstract_state_without_optimizer())
        return state.model


@dataclasses.dataclass(frozen=True)
class Parents:
    """All runs whose parameters a run begins with.

    Attributes:
      by_part: of each part of the model its parent; "" is the whole model.
    """

    by_part: dict[str, Parent]

    def describe(self) -> dict[str, Any]:
        """Returns what run.json of the run that begins here says of them."""
        parts = {part: one.describe() for part, one in self.by_part.items() if part != WHOLE}
        whole = self.by_part.get(WHOLE)
        record = {} if whole is None else {"initialized_from": whole.describe()}
        return record | ({"initialized_parts": parts} if parts else {})

    def hand_on(self, directory: RunDirectory) -> None:
        """Copies the files that an import was given, for an export of the run that begins here."""
        if WHOLE in self.by_part:
            hand_on_originals(self.by_part[WHOLE].directory.path, directory.path)

    def initial_state(self, program: Program) -> TrainState:
        """Returns the state before the first step: the parents' parameters, all else fresh.

        Call under `jax.set_mesh(program.mesh)`.

        Raises:
          CheckpointError: if a parent's checkpoint cannot be trusted.
        """
        models = {
            part: parent.read(program) for part, parent in self.by_part.items() if parent.is_read
        }
        abstract = program.abstract_state_without_optimizer().model
        whole = models.get(WHOLE)
        if set(models) == {WHOLE} and shapes_of(abstract) == shapes_of(whole):
            return program.state_with(adopted(abstract, whole))
        # What no parent has is fresh, such as a head.
        return program.state_with(jax.jit(begun_with)(program.fresh_model(), models))


def begun_with(model: Any, parents: dict[str, Any]) -> Any:
    """Returns a model with its parents' parameters."""
    if WHOLE in parents:
        model = adopted(model, parents[WHOLE])
    for part, parent in parents.items():
        if part != WHOLE:
            model = jax.tree.map(lambda leaf: leaf, model)
            *outer, name = part.split(".")
            within = _part_at(model, outer)
            if name.isdigit():
                within[int(name)] = _begun_part(within[int(name)], part, parent)
            else:
                setattr(within, name, _begun_part(getattr(within, name), part, parent))
    return model


def _begun_part(begins: Any, part: str, parent: Any) -> Any:
    """Returns a part with a parent's parameters, or else with those of the parent's same part."""
    try:
        return adopted(begins, parent)
    except ValueError:
        same = _part_at(parent, part.split("."))
        if same is None or shapes_of(same) != shapes_of(begins):
            raise
        return adopted(begins, same)


def _part_at(model: Any, steps: list[str]) -> Any:
    """Returns a part by its names, one inside the other, or its numbers in lists; None without."""
    for step in steps:
        if step.isdigit():
            model = model[int(step)] if model is not None and int(step) < len(model) else None
        else:
            model = getattr(model, step, None)
    return model


def open_parents(config: RunConfig, directory: RunDirectory, program: Program) -> Parents | None:
    """Returns the parents of a run, checked to fit it; None if all its parameters are fresh.

    Raises:
      CheckpointError: there is no such run, or it has not finished.
      ConfigError: its parameters or tokens are others than this run's.
    """
    sources = parents_of(config, directory)
    if not sources:
        return None
    found = {}
    for part, source in sources.items():
        named = config.initialize_from if part == WHOLE else (config.initialize_parts or {})[part]
        subject = f"initialize_from={named!r}"
        subject = subject if part == WHOLE else f"initialize_parts[{part!r}]={named!r}"
        found[part] = _open_parent(subject, source, config)
        if part == CONDITIONER and is_precomputed(config):
            found[part] = dataclasses.replace(found[part], is_read=False)
            _check_encoder(subject, found[part], config)
        else:
            _check_shapes(subject, part, found[part].config, config, program)
    return Parents(found)


def _open_parent(subject: str, source: RunDirectory, config: RunConfig) -> Parent:
    if not source.config_file.exists() or not source.run_file.exists():
        raise CheckpointError(
            f"{subject} of the run {config.name!r} is {source.path}, which is no run directory; a "
            "relative one is seen from the run's own directory, so ../NAME is a run beside it."
        )
    record = source.read_whole(NEEDED, f"{subject}: ")
    if not record.get("finished") and "imported_from" not in record:
        raise CheckpointError(
            f"{subject}: the run in {source.path} has not finished; finish it first."
        )
    parent: RunConfig = load_recorded(source.config_file)
    codecs = config.mixture.codec, *getattr(config.mixture, "more_codecs", ())
    if record["codec_digest"] not in [codec.digest for codec in codecs]:
        raise ConfigError(
            f"{subject}: {source.path} was trained on tokens of {record['codec_digest']}, and this "
            f"run's are of {' and '.join(one.digest for one in codecs)}; give its tasks that codec."
        )
    return Parent(source, parent, record)


def is_precomputed(config: RunConfig) -> bool:
    """Returns whether a run reads what an encoder made of its captions, and has no encoder."""
    conditioner = getattr(config.model, CONDITIONER, None)
    return bool(getattr(conditioner, "precomputed", False))


def _check_encoder(subject: str, parent: Parent, config: RunConfig) -> None:
    """Raises ConfigError unless a parent made the states that a run reads."""
    data: Any = config.mixture
    made_by = CaptionEncodings(data.encodings).manifest["encoder"]
    if made_by["parameters"] != parent.parameters_digest:
        raise ConfigError(
            f"{subject}: image_text_pairs.encodings={data.encodings!r} was made by another "
            f"encoder, of the run {made_by['name']!r} with the fingerprint "
            f"{made_by['fingerprint'][:12]} and the parameters {made_by['parameters']}, and those "
            f"in {parent.directory.path} are {parent.parameters_digest}; name that run, or make "
            "the encodings again with `jaxgen prepare --captions`."
        )


def _check_shapes(
    subject: str, part: str, parent: RunConfig, config: RunConfig, program: Program
) -> None:
    """Raises ConfigError unless a model, or a part of it, can begin with its parent."""

    def abstract(run: RunConfig) -> Any:
        its_own = dataclasses.replace(program, model=run.model, train=run.train)
        return its_own.abstract_state_without_optimizer().model

    ours = abstract(config)
    begins = ours if part == WHOLE else _part_at(ours, part.split("."))
    if begins is None:
        raise ConfigError(
            f"{subject}: {type(config.model).__name__} has no part {part!r}; name one that it has, "
            "or set the one that makes it."
        )
    begin = adopted if part == WHOLE else functools.partial(_begun_part, part=part)
    try:
        jax.eval_shape(lambda own, other: begin(own, parent=other), begins, abstract(parent))
    except ValueError as error:
        different = "; ".join(difference(parent.model, config.model)[:5])
        raise ConfigError(
            f"{subject}: {error} ({different}). Give the run the model of the other."
        ) from error
