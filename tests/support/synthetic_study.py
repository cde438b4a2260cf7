"""Run directories of studies that were never trained: their law and their abilities are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.configuration import load, to_gin
from jaxgen.emergence import TaskRows
from jaxgen.runs.run_directory import RunDirectory

E, A, ALPHA, B, BETA = 1.2, 40.0, 0.35, 60.0, 0.4
SIZES = (2e4, 6e4, 2e5, 6e5, 2e6, 6e6, 2e7)
TOKENS = (2e6, 8e6, 3e7)
TOKEN_DECAY, PARAMETER_DECAY = 5.0, 3.0


def law(parameters: Any, tokens: Any) -> Any:
    """Held-out loss in nats a token."""
    return E + A * parameters**-ALPHA + B * tokens**-BETA


def config_text(evaluation_seed: int = 0, mixture: str = "quickstart") -> str:
    base = load(["runs/quickstart.gin"], ["mixture.tasks=[@addition/task()]",
                                           "mixture.weights={'addition': 1.0}",
                                           f"mixture.name='{mixture}'"])  # fmt: skip
    evaluation = dataclasses.replace(base.evaluation, seed=evaluation_seed)
    return to_gin(dataclasses.replace(base, evaluation=evaluation))


def write_run(
    folder: Path,
    rung: str,
    seed: int,
    parameters: float,
    tokens: float,
    loss: float,
    answers: dict[str, list[dict[str, Any]]],
    config: str,
    total: int | None = None,
    **changes: Any,
) -> RunDirectory:
    """A finished run's files, as `run` leaves them; `parameters` are the active ones."""
    directory = RunDirectory(folder / f"{rung}-seed{seed}")
    directory.evaluations.mkdir(parents=True)
    directory.config_file.write_text(config)
    evaluation: dict[str, Any] = {"text": {"loss": loss}}
    for task, rows in answers.items():
        exact = float(np.mean([row["exact_match"] for row in rows]))
        evaluation[task] = {"exact_match": exact, "chance": 0.0, "num_examples": len(rows)}
    steps = 10
    record = {
        "name": f"{rung}-seed{seed}", "version": "1", "finished": True, "fingerprint": "f" * 12,
        "parameters": {
            "total": total or int(parameters), "embedding": 64, "active": int(parameters)
        },
        "seed": seed, "steps": steps, "tokens": int(tokens),
        "flops_per_token": int(6 * parameters), "flops": int(6 * parameters) * int(tokens),
        "versions": {"jaxgen": "0"}, "git_revision": "0" * 40,
        "started": "2099-01-01T00:00:00+00:00", "evaluation": evaluation,
    }  # fmt: skip
    directory.write_record(record | changes)
    rows = [row for of_task in answers.values() for row in of_task]
    file = directory.evaluations / f"{steps:08}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = [
        {"step": s, "tokens": int(tokens * s / steps), "loss": loss + 5 / s, "tokens_per_second": 9}
        for s in range(1, steps + 1)
    ]
    directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return directory


def answers_of(rows: TaskRows, rung: int, seed: str) -> list[dict[str, Any]]:
    """The rows of one run of a simulated table, as an evaluation leaves them."""
    mine = np.flatnonzero((rows.rung == rung) & (rows.seed == seed))
    return [
        {
            "task": rows.task,
            "instance": str(rows.instance[place]),
            **{name: float(column[place]) for name, column in rows.metrics.items()},
        }
        for place in mine
    ]


def write_law_study(folder: Path, noise: float = 0.003, seeds: int = 1) -> None:
    """Every size with every number of tokens, losses by the law above."""
    random, config = np.random.default_rng(0), config_text()
    for size in SIZES[:-1]:
        for tokens in TOKENS:
            for seed in range(seeds):
                loss = law(size, tokens) * float(np.exp(random.normal(0, noise)))
                rung = f"n{size:.0e}-d{tokens:.0e}"
                write_run(folder, rung, seed, size, tokens, loss, {}, config)


def write_finetuned_study(
    folder: Path, losses: Iterable[float], counts: Iterable[int], score: Callable[..., float]
) -> None:
    """Models of some losses, and each fine-tuned on some numbers of examples.

    Args:
      folder: of the study.
      losses: of the models in pre-training.
      counts: of examples.
      score: (loss, examples, 1 for none) -> exact match on "words".
    """
    text, words = config_text(), config_text(mixture="words")
    for place, loss in enumerate(losses):
        size = 1e4 * 2**place
        words_of = {
            count: {"exact_match": score(loss, count), "chance": 0.0, "num_examples": 100}
            for count in (1, *counts)
        }
        base = write_run(
            folder, f"m{place}", 0, size, 1e6, loss, {}, text,
            evaluation={"text": {"loss": loss}, "words": words_of[1]},
        )  # fmt: skip
        told = {name: base.read_record()[name] for name in ("name", "fingerprint")}
        for count in counts:
            write_run(
                folder, f"m{place}-d{count}", 0, size, 1e4, 1.0, {}, words,
                evaluation={"words": words_of[count] | {"loss": 1.0}},
                examples={"words": count}, initialized_from=told,
            )  # fmt: skip


def worth(total: float, unique: float, decay: float) -> float:
    """Muennighoff et al. (2305.16264): of a total of which a part is unique."""
    return unique + unique * decay * (1 - np.exp(-(total / unique - 1) / decay))


def repeated_law(parameters: float, tokens: float, unique: float) -> float:
    """Held-out loss where no more than so many tokens are different ones."""
    unique = min(unique, tokens)
    # The size to which belong U tokens, where C = 6 N D is best spent by Chinchilla's law.
    ratio = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    best = min(parameters, (unique * ratio) ** (BETA / ALPHA) * ratio)
    return law(worth(parameters, best, PARAMETER_DECAY), worth(tokens, unique, TOKEN_DECAY))


def write_repeats_study(
    folder: Path,
    sizes: tuple[float, ...] = SIZES[:-1:2],
    tokens: tuple[float, ...] = TOKENS,
    pools: tuple[float, ...] = (1e9, 1e6, 2e5),
    noise: float = 0.002,
    of: Callable[[float, float, float], float] = repeated_law,
) -> None:
    """Sizes, token counts and pools of data, losses by Muennighoff's law or another."""
    random, config = np.random.default_rng(0), config_text()
    for pool in pools:
        for size in sizes:
            for seen in tokens:
                loss = of(size, seen, pool) * float(np.exp(random.normal(0, noise)))
                write_run(
                    folder, f"u{pool:.0e}-n{size:.0e}-d{seen:.0e}", 0, size, seen, loss, {}, config,
                    shares={"text": 1.0}, epochs={"text": seen / pool},
                )  # fmt: skip


def write_ability_study(
    folder: Path,
    tasks: dict[str, TaskRows],
    skip: tuple[int, ...] = (),
    tokens: float = 1e7,
    mixture: str = "quickstart",
    prefix: str = "",
    shift: float = 0.0,
) -> None:
    """A ladder at fixed tokens whose answers are those of simulated tables of one design.

    Its losses are the law's plus `shift`.
    """
    config = config_text(mixture=mixture)
    first = next(iter(tasks.values()))
    for rung, parameters in enumerate(first.scales["parameters"]):
        for seed in np.unique(first.seed):
            if rung in skip:
                continue
            answers = {
                name: [row | {"task": name} for row in answers_of(rows, rung, seed)]
                for name, rows in tasks.items()
            }
            noise = 1 + 0.002 * np.sin(17.0 * rung + 5.0 * int(seed))
            loss = law(parameters, tokens) * noise + shift
            write_run(
                folder, f"{prefix}rung{rung}", int(seed), parameters, tokens, loss, answers, config
            )


def write_isoflop_study(
    folder: Path,
    budgets: Iterable[float],
    sizes: Callable[[float], np.ndarray],
    token_flops: Callable[[float], float],
    noise: float = 0.001,
) -> None:
    """Sizes at each budget of FLOPs, losses by the law above.

    Args:
      folder: of the study.
      budgets: in FLOPs.
      sizes: of a budget.
      token_flops: of a size.
      noise: of the log loss.
    """
    random, config = np.random.default_rng(0), config_text()
    for budget in budgets:
        for size in sizes(budget):
            tokens = round(budget / token_flops(size))
            loss = law(size, tokens) * float(np.exp(random.normal(0, noise)))
            flops = {
                "flops_per_token": round(token_flops(size)),
                "flops": round(token_flops(size) * tokens),
            }
            rung = f"c{budget:.2e}-n{size:.2e}"
            write_run(folder, rung, 0, size, tokens, loss, {}, config, **flops)


def write_experts_study(
    folder: Path, sizes: Iterable[float], gains: Mapping[float, float], seeds: int = 3
) -> None:
    """Dense sizes at fixed tokens, losses by the law above, and mixtures of experts.

    Args:
      folder: of the study.
      sizes: of the dense models.
      gains: by active parameters of a mixture of experts, the times of its size that a dense model
        of its loss has.
      seeds: of each size.
    """
    random, config, tokens = np.random.default_rng(2), config_text(), 1e7
    dense = [(f"dense{size:.2e}", size, 1.0, None) for size in sizes]
    sparse = [(f"moe{size:.2e}", size, gain, int(4 * size)) for size, gain in gains.items()]
    for rung, size, gain, total in dense + sparse:
        for seed in range(seeds):
            loss = law(gain * size, tokens) * float(np.exp(random.normal(0, 0.002)))
            write_run(folder, rung, seed, size, tokens, loss, {}, config, total)
