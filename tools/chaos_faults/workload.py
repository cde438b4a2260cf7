"""The run that is disturbed: small, and with all that a resumption can get wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import random
import sys

from chaos_faults import orders
from chaos_faults.store import Store

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
SHARDS = 4
GIN = """
include 'base.gin'
include 'tasks/addition.gin'

run.name = 'chaos'
run.objective = @witness()
witness.loss = @next_token_loss()

notes/task.name = 'notes'
notes/task.source = @jsonl()
jsonl.pattern = '{data}/*.jsonl'
mixture.name = 'chaos'
mixture.tasks = [@notes/task(), @addition/task()]
mixture.weights = {{'notes': 0.7, 'addition': 0.3}}
later/mixture_stage.first_step = {half}
later/mixture_stage.weights = {{'notes': 0.4, 'addition': 0.6}}
mixture.stages = [@later/mixture_stage()]

model.num_layers = 1
model.embed_dim = 32
model.num_heads = 4
model.mlp_dim = 64
model.vocab_size = 320
model.dropout = 0.1

train.steps = {steps}
train.batch_size = 16
train.length = 64
train.batch_ramp = @stepped_ramp()
stepped_ramp.sizes = (8,)
stepped_ramp.until = (3,)
train.ema_decay = 0.9
train.divergence = @divergence()
divergence.max_skipped_updates = 0
divergence.max_rewinds = 99
train.skip_batches = [{skips}]
{skip_bindings}
warmup_cosine.peak = 3e-3

mesh.data = 4
mesh.fsdp = 2
execution.accumulation = 2
execution.log_every = 1
execution.checkpoint_every = {checkpoint_every}
execution.keep_checkpoints = 4
execution.watchdog_minutes = {watchdog_minutes}

evaluation.at_checkpoints = True
evaluation.num_examples = 8
evaluation.num_batches = 1
evaluation.batch_size = 16
"""


@dataclasses.dataclass(frozen=True)
class Workload:
    """A run's settings, and where it and its data are.

    Attributes:
      folder: of the data, the run directory, the log and the orders.
      steps: of the run.
      checkpoint_every: steps between checkpoints.
      watchdog_seconds: without progress, after which a process ends itself.
      skips: batches that are left out: after how many steps, and how many.
      data_workers: processes that make batches.
      store: which its mirror is in; None: it has none.
      cache: folder of compiled programs and tokens.
    """

    folder: pathlib.Path
    data: pathlib.Path
    cache: pathlib.Path
    steps: int
    checkpoint_every: int = 5
    watchdog_seconds: float = 6.0
    skips: tuple[tuple[int, int], ...] = ()
    data_workers: int = 0
    store: Store | None = None

    @property
    def run_dir(self) -> pathlib.Path:
        """The run directory."""
        return self.folder / "run"

    @property
    def mirror(self) -> str:
        """The place of its mirror in the store."""
        assert self.store is not None
        return self.store.url(self.folder.name)

    @property
    def orders(self) -> pathlib.Path:
        """The folder of orders."""
        return self.folder / "orders"

    def prepare(self) -> None:
        """Writes the files that the run reads."""
        self.orders.mkdir(parents=True)
        orders.write_numbers(self.orders / "clock", [0.0])
        names = [f"skip{number}/skip" for number in range(len(self.skips))]
        bindings = [
            f"{name}.after = {after}\n{name}.count = {count}"
            for name, (after, count) in zip(names, self.skips, strict=True)
        ]
        text = GIN.format(
            data=self.data,
            steps=self.steps,
            half=self.steps // 2,
            skips=", ".join(f"@{name}()" for name in names),
            skip_bindings="\n".join(bindings),
            checkpoint_every=self.checkpoint_every,
            watchdog_minutes=self.watchdog_seconds / 60,
        )
        (self.folder / "run.gin").write_text(text)

    def train_words(self) -> list[str]:
        """Returns the words of `jaxgen train ...`."""
        return [
            "train", f"--import={HERE / 'parts.py'}", f"--gin_file={self.folder / 'run.gin'}",
            f"--run_dir={self.run_dir}", f"--gin.execution.data_workers={self.data_workers}",
            *([] if self.store is None else [f"--gin.execution.mirror='{self.mirror}'"]),
        ]  # fmt: skip

    def command(self, restarts: int) -> list[str]:
        """Returns the command of the supervisor."""
        launch = ["launch", "local", "--processes=2", "--devices_per_process=4"]
        launch += [f"--restarts={restarts}", "--"]
        return [sys.executable, "-m", "jaxgen", *launch, *self.train_words()]

    def environment(self) -> dict[str, str]:
        """Returns the variables of the supervisor and all that it starts."""
        paths = [HERE / "site", ROOT, ROOT / "tools", os.environ.get("PYTHONPATH", "")]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(str(path) for path in paths if str(path)),
            "CHAOS_CLOCK": str(self.orders / "clock"),
            orders.FOLDER: str(self.orders),
            "JAXGEN_CACHE": str(self.cache),
            "JAX_COMPILATION_CACHE_DIR": str(self.cache / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
            **({} if self.store is None else self.store.environment()),
        }


def write_shards(folder: pathlib.Path, seed: int) -> None:
    """Writes shards of sentences of made-up words."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvwy", k=draw.randint(2, 7)))
             for _ in range(200)]  # fmt: skip
    folder.mkdir(parents=True)
    for number in range(SHARDS):
        records = (
            {"text": " ".join(draw.choices(words, k=draw.randint(20, 80)))} for _ in range(200)
        )
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"shard-{number}.jsonl").write_text(lines)
