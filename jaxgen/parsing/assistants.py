"""The arguments of commands that make data for assistants with a run's model."""

from __future__ import annotations

import argparse
from typing import Annotated, Any

from jaxgen.domains import Domain, NonNegativeFloat, PositiveFraction, number
from jaxgen.parsing.arguments import COUNT, GIN_HELP, SEED, TOKENS
from jaxgen.parsing.models import add_checkpoint_arguments


def add_commands(commands: Any) -> None:
    """Adds the commands to those of a parser."""
    revise = commands.add_parser(
        "revise", help="let a run answer, criticise and revise by principles", epilog=GIN_HELP
    )
    _add_common(revise)
    revise.add_argument("--rounds", type=COUNT, default=1, help="of a critique and a revision")
    revise.add_argument("--critique", metavar="FILE", help="a template of your own")
    revise.add_argument("--revision", metavar="FILE", help="likewise")
    revise.set_defaults(function=("principles", "revise_answers"))

    feedback = commands.add_parser(
        "feedback", help="ask a run which of two answers follows a principle", epilog=GIN_HELP
    )
    _add_common(feedback)
    feedback.add_argument("--template", metavar="FILE", help="of the question; one of your own")
    feedback.add_argument(
        "--num_principles", type=COUNT, default=1, help="whose probabilities are averaged"
    )
    feedback.add_argument(
        "--clamp",
        type=number(Annotated[float, Domain(0, 0.5)]),
        default=0.0,
        help="keeps probabilities within CLAMP and 1 - CLAMP; 0.4 after a chain of thought",
    )
    feedback.add_argument(
        "--one_order", action="store_true", help="do not ask in the other order too"
    )
    feedback.set_defaults(function=("principles", "give_feedback"))

    rollouts = commands.add_parser(
        "rollouts",
        help="write a run's completions with their scores: best of n, pairs for preferences",
        epilog=GIN_HELP,
    )
    add_checkpoint_arguments(rollouts)
    rollouts.add_argument("--output", required=True, metavar="FILE", help="JSON lines; continued")
    rollouts.add_argument("--num_prompts", type=COUNT, default=256)
    rollouts.add_argument(
        "--at_least",
        type=_score,
        help="marks the rows whose best score reaches it as kept",
    )
    rollouts.add_argument("--length", type=COUNT, help="tokens of a row; default: the run's")
    rollouts.add_argument("--batch_size", type=COUNT, default=16, help="prompts at a time")
    rollouts.add_argument("--seed", type=SEED, default=0)
    rollouts.set_defaults(function=("rollouts", "write_rollouts"))


def _add_common(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of both: the run, the prompts, the principles, the writing."""
    add_checkpoint_arguments(command)
    command.add_argument(
        "--task", required=True, help="whose prompts are asked: one that comes with jaxgen, or of "
        "the mixture in --gin_file"
    )  # fmt: skip
    command.add_argument("--split", choices=("train", "heldout"), default="train")
    command.add_argument("--num_examples", type=COUNT, default=256, help="prompts")
    command.add_argument("--principles", metavar="FILE", help="one a paragraph")
    command.add_argument("--output", required=True, metavar="FILE", help="JSON lines; continued")
    command.add_argument("--max_tokens", type=TOKENS, default=64, help="of a text")
    command.add_argument("--temperature", type=number(NonNegativeFloat), default=1.0)
    command.add_argument("--top_p", type=number(PositiveFraction))
    command.add_argument("--stop", action="append", help="ends a text; default: a line break")
    command.add_argument("--batch_size", type=COUNT, default=16)
    command.add_argument("--seed", type=SEED, default=0)


def _score(text: str) -> float:
    """Returns a score, of either sign."""
    return number(Annotated[float, Domain(-1e6, 1e6)])(text)
