"""Does one modality help another, and which abilities in pictures and sounds emerge?

A ladder of sizes is trained on four mixtures: text (prose and addition), pictures (sprites to draw
and to describe, as 36 codes of a small autoencoder), sounds (telephone digits to write down, as
codes of mel frames), and all of them. A step has equally many rows of each task in every mixture,
so that a task alone and together with others is trained on equal tokens in equal steps: the
transfer matrix of the report compares the two, by size and seed. Combinations of a colour and a
shape are held out of the pictures, and transcripts of the sounds. The largest size is predicted
before it is trained. About an hour and a quarter on two busy cores; what the four smaller sizes
showed, and what the study cannot show, is in docs/findings.md.

    jaxgen train --gin_file=runs/codecs/fsq_sprites.gin --run_dir=runs/fsq_sprites
    jaxgen codec export runs/fsq_sprites runs/sprites_fsq.safetensors
    jaxgen palette train tones_heard --field=sound --window=256 --hop=160 --bands=64 --codes=256 \
        --output=runs/tones.safetensors
    jaxgen sweep experiments/modalities.py         # shows the runs
    jaxgen sweep experiments/modalities.py --go    # the report is runs/modalities@1/report.html
"""

from __future__ import annotations

import dataclasses

from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.palettes import SoundPalette
from jaxgen.configuration import load
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, Sprites, Tones
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.evaluation.config import EvaluationTask
from jaxgen.evaluation.media import GeneratedMedia
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.positions import Rope
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps import Change, Sweep, axis, grid, product
from jaxgen.sweeps.scaling_rules import ModelShape
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

SIZES = ((1, 16), (1, 32), (2, 48), (2, 64), (2, 96))
SEEDS = range(2)
STEPS, ROWS_OF_A_TASK, LENGTH = 1000, 8, 192
SHAPE = ModelShape(head_dim=16, mlp_ratio=2)
SPRITES = Sprites(size=12, tags=("colors",))
IMAGES = load(
    ["mixtures/sprites_fsq.gin"], ["IMAGE_CODEC='runs/sprites_fsq.safetensors'"], root="mixture"
).codec.media
SOUNDS = SoundPalette("runs/tones.safetensors", mel=MelFrames(8000, 256, 160, 64), seconds=0.4)
CODEC = MultimodalCodec(media=(*IMAGES, SOUNDS))
LEAD = (
    "Text, pictures and sounds in one model, of five sizes. Is a task learned better or worse when "
    "others are trained beside it, at equal tokens of the task itself? And do drawing, describing "
    "and hearing appear suddenly with size, or does the metric make it look so?"
)


def drawn(name: str) -> Task:
    """Returns the task of drawing sprites from their descriptions."""
    order = Interleave(("description", "image"))
    return Task(name, SPRITES, PromptAnswer(), CODEC, preprocessors=(order,), metrics=())


TASKS = {
    "prose": Task("prose", StandardLibraryProse(), codec=CODEC),
    "addition": Task("addition", Addition(2), PromptAnswer(), CODEC),
    "drawn": drawn("drawn"),
    "described": Task(
        "described", SPRITES, PromptAnswer(), CODEC,
        preprocessors=(Interleave(("image", "description")),),
    ),
    "heard": Task(
        "heard", Tones(), PromptAnswer(), CODEC,
        preprocessors=(Interleave(("sound", "transcript")),),
    ),
}  # fmt: skip
MIXTURES = {
    "text": ("prose", "addition"),
    "pictures": ("drawn", "described"),
    "sounds": ("heard",),
    "all": tuple(TASKS),
}
VERIFIED = EvaluationTask(
    drawn("verified_drawing"),
    GeneratedMedia(SamplingPolicy(temperature=0), text="description", shown=24),
)
"""Pictures that are generated and read, where `drawn` compares codes."""


def mixture_runs(name: str) -> list[RunConfig]:
    """Returns the runs of one mixture, the largest first."""
    names = MIXTURES[name]
    base = load(["runs/quickstart.gin"])
    base = dataclasses.replace(
        base,
        model=dataclasses.replace(
            base.model, vocab_size=-(-CODEC.vocab_size // 64) * 64, dropout=0.0,
            # Of the 8 pairs of a head: by position, time, row and column.
            layers=(LayerConfig(rope=Rope(sections=(4, 0, 2, 2))),),
        ),
        mixture=Mixture(name, tuple(TASKS[one] for one in names), dict.fromkeys(names, 1.0)),
        train=dataclasses.replace(
            base.train, steps=STEPS, length=LENGTH, batch_size=ROWS_OF_A_TASK * len(names)
        ),
        evaluation=dataclasses.replace(
            base.evaluation, num_examples=200, num_batches=8,
            suite=(VERIFIED,) if "drawn" in names else (),
        ),
    )  # fmt: skip
    rungs = [rung(name, *size) for size in reversed(SIZES)]
    return grid(base, product(rungs, axis("train.seed", SEEDS)))


def rung(name: str, layers: int, width: int) -> Change:
    """Returns one size. Narrow models train well at larger rates."""
    size = SHAPE.change(f"{name}-{layers}x{width}", layers, width)
    schedule = WarmupCosine(peak=3e-3 * (96 / width) ** 0.5, warmup=STEPS // 20)
    return Change(size.label, {**size.values, "train.schedule": schedule})


SWEEP = Sweep(
    "modalities",
    "1",
    [run for name in MIXTURES for run in mixture_runs(name)],
    execution=ExecutionConfig(scan_unroll=2, log_every="2%", checkpoint_every="100%"),
    title="Modalities together and apart",
    lead=LEAD,
    held_out=[f"{name}-{layers}x{width}" for name in MIXTURES for layers, width in SIZES[-1:]],
)
