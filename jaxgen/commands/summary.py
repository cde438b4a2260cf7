"""Scores as lines for a terminal."""

from __future__ import annotations

from typing import Any


def score_lines(summary: dict[str, Any]) -> list[str]:
    """Held-out loss of each task, and the means of its instances' scores."""
    lines = []
    for task, scores in summary.items():
        parts = [f"  {task:<22} held-out loss {scores['loss']:.4f}"]
        for metric in ("exact_match", "token_accuracy", "log_probability"):
            if metric in scores:
                parts.append(f"{metric} {scores[metric]:.3f}")
        if "num_examples" in scores:
            parts.append(f"({scores['num_examples']} instances)")
        lines.append("  ".join(parts))
    return lines


def summary_lines(record: dict[str, Any]) -> list[str]:
    """A finished run in a few lines."""
    parameters = record["parameters"]
    head = (
        f"{record['name']}: {parameters['total']:,} parameters ({parameters['active']:,} active), "
        f"{record['tokens']:,} tokens, {record['flops']:.2e} FLOPs"
    )
    repeated = [
        f"{task} {epochs:.3g} times"
        for task, epochs in record.get("epochs", {}).items()
        if epochs > 1
    ]
    if repeated:
        head += f"; repeated: {', '.join(repeated)}"
    return [head, *score_lines(record["evaluation"])]
