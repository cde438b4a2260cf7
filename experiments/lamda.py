"""Does a model that rates its responses, or looks facts up, say more that is so (2201.08239)?

A small transformer learns to write responses about an invented town, to rate them, and to ask its
tools. Of held-out questions it draws sixteen responses each; those that it finds unsafe are dropped
and the rest ranked by 3 P(sensible) + P(specific) + P(interesting), or by that and 3 P(grounded).
Beside them the dialogues with tools answer the same questions. The town's facts decide how many
claims are so (groundedness), and whether the true answer is among what was said. Ratings are
compared with those of held-out responses. Ten minutes of training on one core. What came of it is
in docs/findings.md.

    python experiments/lamda.py             # continues what it has begun
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.configuration import load_run
from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import RatedResponses, TownDialogues
from jaxgen.data.generated.dialogues import ATTRIBUTES
from jaxgen.data.generated.town import Town, groundedness
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.errors import JaxgenError
from jaxgen.evaluation.metrics import ratio_interval, success_interval
from jaxgen.files import write_atomically
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.posttraining.dialogue import RANKED, Ranking, rater, reply, sample_and_rank
from jaxgen.posttraining.tools import Calculator, Retriever, Toolset, Translator
from jaxgen.posttraining.writing import Message, ModelWeigher, ModelWriter
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig, make_mesh

ASKED = Task("asked", TownDialogues(turns=1), Chat())
RATED = Task("rated", RatedResponses(), PromptAnswer())
DRAWN = SamplingPolicy(temperature=1.0, top_k=40)
"""As LaMDA draws its candidates."""
WITH_FACTS = {**RANKED, "GROUNDED": 3.0}


def share(outcomes: Sequence[bool]) -> dict[str, Any]:
    """Returns how many are true, with Wilson's interval."""
    low, high = success_interval(sum(outcomes), len(outcomes))
    return {"value": sum(outcomes) / len(outcomes), "low": low, "high": high, "n": len(outcomes)}


def ratings(rate: Callable[..., np.ndarray], count: int) -> dict[str, Any]:
    """Returns how often the model's ratings of held-out responses are right, by attribute."""
    records = RATED.instances(count, seed=0, split="heldout")
    found: dict[str, Any] = {}
    for attribute in ATTRIBUTES:
        some = [record for record in records if record["attribute"] == attribute]
        contexts, responses = ([one[field] for one in some] for field in ("context", "response"))
        sure = rate(contexts, responses, attribute)
        right = [(p > 0.5) == bool(one["rating"]) for p, one in zip(sure, some, strict=True)]
        found[attribute] = share(right) | {
            "always_1": sum(bool(one["rating"]) for one in some) / len(some)
        }
    return found


def measured(records: Sequence[Record], responses: Sequence[str]) -> dict[str, Any]:
    """Returns how much of responses is so, and how often the true answer is among it."""
    counts = [groundedness(Town(), text) for text in responses]
    claims, supported = (np.array(column) for column in zip(*counts, strict=True))
    low, high = ratio_interval(supported, claims)
    right = [one["answer"] in text for one, text in zip(records, responses, strict=True)]
    return {
        "groundedness": {
            "value": float(supported.sum() / claims.sum()), "low": low, "high": high,
            "claims": int(claims.sum()),
        },
        "answered": share(right),
        "with_a_claim": share([bool(count) for count in claims]),
    }  # fmt: skip


def answers(
    records: Sequence[Record], respond: Any, answer: Any, rate: Any, candidates: int
) -> dict[str, Any]:
    """Returns what each way to reply comes to.

    Args:
      records: questions with their answers.
      respond: draws responses to conversations, each anew.
      answer: writes an assistant's turn, to its tools or the user.
      rate: of attributes.
      candidates: responses for each question.
    """
    tools = Toolset((Calculator(), Translator(), Retriever(Town().knowledge())))
    said: dict[str, list[str]] = {name: [] for name in ("drawn", "ranked", "with_facts", "tools")}
    ends: list[str] = []
    for record in records:
        conversation = [{"role": "user", "content": record["prompt"]}]
        ranked = sample_and_rank(conversation, respond, rate, Ranking(candidates))
        said["drawn"].append(ranked.candidates[0])
        said["ranked"].append(ranked.response)
        # The same candidates, whose ratings of facts count too.
        again = Ranking(candidates, weights=WITH_FACTS)
        said["with_facts"].append(
            sample_and_rank(
                conversation, lambda _, of=ranked: list(of.candidates), rate, again
            ).response
        )
        found = reply(conversation, answer, tools)
        said["tools"].append(found.response)
        ends.append(found.end)
    return {name: measured(records, texts) for name, texts in said.items()} | {
        "ended_with_the_user": share([end == "user" for end in ends])
    }


def main() -> int:
    """Trains, then measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default="runs/town_lamda", help="of the run")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--rated", type=int, default=1000, help="held-out responses")
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--step", type=int, help="a checkpoint of a run that goes on")
    parser.add_argument("--gin", action="append", default=[], help="a binding of the run")
    arguments = parser.parse_args()
    prepare_process()
    folder = Path(arguments.run_dir)
    if arguments.step is None:
        config, execution = load_run(["runs/town_lamda.gin"], arguments.gin)
        run(config, folder, execution)
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(folder, mesh, arguments.step)
        model, codec = restored.language_model, restored.config.mixture.codec
        rows = {"batch_size": arguments.candidates}
        weigher = ModelWeigher(model, codec, 256, 2 * arguments.candidates)
        writer = ModelWriter(model, codec, DRAWN, 96, **rows)
        greedy = ModelWriter(
            model, codec, SamplingPolicy(temperature=0), 96, ("<|end_of_turn|>", "\n"), batch_size=1
        )

        def respond(conversations: Sequence[Sequence[Message]]) -> list[str]:
            found = writer([f"{one[-1]['content']} RESPONSE" for one in conversations])
            return [text.strip() for text in found]

        def answer(conversations: Sequence[Sequence[Message]]) -> list[str]:
            return greedy.answer(conversations, Chat())

        rate = rater(weigher)
        records = ASKED.instances(arguments.questions, seed=0, split="heldout")
        found = {"step": restored.step, "ratings": ratings(rate, arguments.rated)}
        found |= answers(records, respond, answer, rate, arguments.candidates)
    print(json.dumps(found, indent=1))
    write_atomically(folder / "lamda.json", json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxgenError as error:
        sys.exit(f"error: {error}")
