"""The execution of a run: settings that may change whenever it is started again."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from jaxgen.domains import (
    MOST_PROCESSES,
    Domain,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError
from jaxgen.ops.rematerialisation import NAMES
from jaxgen.redaction import redacted
from jaxgen.sharding.layout import AttentionChoice, ExpertExchange, Layout
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.sharding.pipeline import PipelineConfig
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.durations import PositiveDuration
from jaxgen.training.tracking import TensorBoard, TrackerConfig


@dataclasses.dataclass(frozen=True)
class ExecutionConfig:
    """Settings that move nothing but the last bits of a run's losses; its data stays the same.

    One exception: dropout, and what a router learns of its balance, are drawn and computed for each
    microbatch, so there `accumulation` changes the noise of the gradient as well; a pipeline does
    so where there is dropout.

    Attributes:
      mesh: sizes of the mesh axes.
      rules: which logical axis is split over which mesh axis.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
      remat_saved: values that it keeps nevertheless: of "query", "key", "value", "attention",
        "attention_out", "up", "gate" and "feed_forward".
      remat_offloaded: values that it keeps in the memory of the devices' host instead, likewise,
        with remat="full".
      scan_unroll: how many repeating units one iteration of the scan over layers holds, at most all
        of them; more compiles longer and can run faster.
      attention: the implementation of it, an error where it cannot compute the model's; "auto": the
        first that suits an attention and the platform that the program is compiled for; "ring":
        where devices split the length, keys and values go round and are never gathered.
      expert_exchange: how tokens reach experts on other devices: "all_to_all" sends each to the
        devices of its experts, "gather" sends all to all; "auto": what sends fewer rows.
      pipeline: how a batch goes through the stages of a mesh that has them.
      accumulation: microbatches that a (full) batch is worked through in, to save memory.
      offload_optimizer: whether the optimizer's state is kept in the memory of the devices' host,
        and on them only while parameters are updated; a step takes longer by the copies.
      noise_scale: whether to measure the gradient noise scale, from how the gradients of a step's
        microbatches differ; it needs 2 or more of them in every step.
      data_workers: processes that make batches; 0: a thread does, which is enough for small models
        and tasks that draw nothing.
      log_every: between rows of metrics.jsonl, each the mean over that time: steps, or a duration
        such as "1%" of the run.
      checkpoint_every: between checkpoints, likewise; `evaluation.at_checkpoints` scores each.
      heldout_every: between held-out losses of every task, in rows and on the progress line,
        likewise, as of the next row; None: only at the end.
      compare_replicas_every: between comparisons of the bits that devices hold in common, likewise;
        where they differ the run ends and the device is named. None: there are none.
      repeat_step_every: between steps that are taken twice, to see whether they come to the same
        bits, likewise; they need the memory of another state. None: none is.
      profile_steps: the first and the last of the steps, counted from 1, that are traced for
        `jaxgen profile`, xprof and Perfetto; None: none.
      checkpoint_minutes: since the last checkpoint, after which there is another, beside those of
        `checkpoint_every`; None: there is none.
      keep_checkpoints: how many of the newest are kept.
      keep_every: between checkpoints that are kept for good, likewise, and taken beside the others;
        None: there are none.
      max_save_failures: how many checkpoints in a row may fail to be written, as on a full disk,
        before that ends the run; the last of a run must not.
      mirror: a folder, or a place in an object store such as "s3://bucket/runs/a", for this run
        alone. Checkpoints and what else a restart needs are copied there while it trains, and
        fetched from there where the run directory has been lost. Of a sweep, each run has a folder
        in it. None: there is none.
      watchdog_minutes: without progress, after which a process writes its stacks and ends, to be
        started again; compiling, a checkpoint and an evaluation may take four times as long; None:
        it waits for ever. The default is the 30 minutes that PyTorch's process groups wait for one
        another (`torch.distributed`, gloo): far longer than a step, and a hang of a night costs no
        more.
      trackers: receive the rows too, beside metrics.jsonl.
      accept_changed_data: whether a run may go on with files that have changed since it was
        started; otherwise they are named and refused.
    """

    mesh: MeshConfig = MeshConfig()
    rules: Rules = Rules()
    remat: Literal["none", "dots", "full"] = "none"
    remat_saved: tuple[str, ...] = ()
    remat_offloaded: tuple[str, ...] = ()
    scan_unroll: PositiveInt = 1
    attention: AttentionChoice = "auto"
    expert_exchange: ExpertExchange = "auto"
    pipeline: PipelineConfig = PipelineConfig()
    accumulation: PositiveInt = 1
    offload_optimizer: bool = False
    noise_scale: bool = False
    data_workers: Annotated[int, Domain(0, MOST_PROCESSES)] = 0
    log_every: PositiveDuration = 10
    checkpoint_every: PositiveDuration = 100
    heldout_every: PositiveDuration | None = None
    compare_replicas_every: PositiveDuration | None = None
    repeat_step_every: PositiveDuration | None = None
    profile_steps: tuple[PositiveInt, PositiveInt] | None = None
    checkpoint_minutes: PositiveFloat | None = None
    keep_checkpoints: PositiveInt = 2
    keep_every: PositiveDuration | None = None
    max_save_failures: NonNegativeInt = 3
    mirror: str | None = None
    watchdog_minutes: PositiveFloat | None = 30.0
    trackers: tuple[TrackerConfig, ...] = (TensorBoard(),)
    accept_changed_data: bool = False

    def __post_init__(self):
        check_domains(self, "execution")
        for setting in ("remat_saved", "remat_offloaded"):
            unknown = [name for name in getattr(self, setting) if name not in NAMES]
            if unknown:
                raise ConfigError(
                    f"execution.{setting} has {unknown}; a block's values are {', '.join(NAMES)}."
                )
        if self.remat_saved and self.remat == "none":
            raise ConfigError(
                "execution.remat_saved keeps what would be computed again, and with "
                "execution.remat='none' nothing is: set it to 'full' or 'dots'."
            )
        if self.remat_offloaded and self.remat != "full":
            raise ConfigError(
                "execution.remat_offloaded sends to the host what would be computed again, and "
                f"works with execution.remat='full', not {self.remat!r}."
            )
        twice = sorted(set(self.remat_saved) & set(self.remat_offloaded))
        if twice:
            raise ConfigError(
                f"execution.remat_saved and execution.remat_offloaded both have {twice}; keep a "
                "value on the devices or on the host."
            )

        if self.mirror is not None and (not self.mirror or redacted(self.mirror) != self.mirror):
            raise ConfigError(
                f"execution.mirror={redacted(self.mirror)!r} must name a folder or a place in an "
                "object store, without credentials, as the run's history records it: set those as "
                "for the store's own tools, such as $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY."
            )

    @property
    def layout(self) -> Layout:
        """The layout that a model is built with."""
        return Layout(
            self.rules,
            self.remat,
            self.remat_saved,
            self.remat_offloaded,
            self.scan_unroll,
            self.attention,
            self.expert_exchange,
            self.pipeline,
        )

    def microbatch_size(self, train: TrainConfig) -> int:
        """Returns the rows that are worked through at once.

        Raises:
          ConfigError: if a batch of the run does not divide into microbatches, or is a single one
            where they are to be compared.
        """
        size, rest = divmod(train.batch_size, self.accumulation)
        if rest:
            raise ConfigError(
                f"train.batch_size={train.batch_size} does not divide into "
                f"execution.accumulation={self.accumulation} microbatches."
            )
        for batch_size in (stage.batch_size for stage in train.batch_sizes.stages):
            if batch_size > size and batch_size % size:
                raise ConfigError(
                    f"a batch of {batch_size} in train.batch_ramp is no multiple of {size}, the "
                    f"microbatch of train.batch_size={train.batch_size} with "
                    f"execution.accumulation={self.accumulation}."
                )
            if self.noise_scale and batch_size < 2 * size:
                raise ConfigError(
                    f"execution.noise_scale=True compares the microbatches of a step, and a batch "
                    f"of {batch_size} is a single one of {size} rows (train.batch_size / "
                    f"execution.accumulation); raise execution.accumulation={self.accumulation} so "
                    "that each batch has 2 or more, or set execution.noise_scale=False."
                )
        return size
