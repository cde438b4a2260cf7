"""Scores as lines for a terminal."""

from __future__ import annotations

from typing import Any

SHOWN = (
    "accuracy",
    "calibration_error",
    "divergence",
    "text_of_image",
    "image_of_text",
    "text_of_true",
    "found",
    "cosine",
    "word_error_rate",
    "every_attribute",
    "count",
    "colour",
    "shape",
    "position",
    "direction",
    "frechet_distance",
    "frechet_distance_floor",
    "kernel_distance",
    "kernel_distance_floor",
    "harmful_compliance",
    "harmful_refusal",
    "benign_help",
    "over_refusal",
    "groundedness",
    "passed",
    "precision",
    "recall",
    "token_accuracy",
    "choice_probability",
    "log_probability",
)
"""Beside exact matches; the rest is in the rows."""
WITH_INTERVAL = ("word_error_rate", "accuracy", "calibration_error")
"""Those beside which no exact match stands that has an interval."""


def score_lines(summary: dict[str, Any]) -> list[str]:
    """Returns a line for each task: its held-out loss, and the means of its instances' scores."""
    lines, width = [], max((len(task) for task in summary), default=0)
    for task, scores in summary.items():
        parts = [f"  {task:<{width}}"]
        if scores.get("loss") is not None:
            low, high = scores.get("loss_interval", (None, None))
            between = f" [{low:.4f}, {high:.4f}]" if low is not None else ""
            unit = scores.get("loss_unit", "nats/token")
            parts.append(f"held-out loss {scores['loss']:.4f}{between} {unit}")
            if "bits_per_byte" in scores:
                parts.append(f"{scores['bits_per_byte']:.4f} bits/byte")
            if "perplexity" in scores:
                parts.append(f"perplexity {scores['perplexity']:.4g}")
        if "exact_match" in scores:
            low, high = scores.get("exact_match_interval", (None, None))
            between = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
            parts.append(f"exact_match {scores['exact_match']:.3f}{between}")
        if scores.get("contaminated"):
            parts.append(f"{scores['contaminated']:.1%} contaminated")
        if "chance" in scores:
            parts.append(f"chance {scores['chance']:.3g}")
        for metric in SHOWN:
            if metric in scores:
                low, high = scores.get(f"{metric}_interval", (None, None))
                if metric == "calibration_error" and low is None:
                    continue
                has_interval = metric in WITH_INTERVAL and low is not None
                between = f" [{low:.3f}, {high:.3f}]" if has_interval else ""
                parts.append(f"{metric} {scores[metric]:.3f}{between}")
        if "num_examples" in scores:
            parts.append(f"({scores['num_examples']} instances)")
        lines.append("  ".join(parts))
    return lines


def summary_lines(record: dict[str, Any]) -> list[str]:
    """Returns a finished run in a few lines."""
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
