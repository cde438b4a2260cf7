"""What the steps of post-training ask of a model: to write, and to weigh choices.

Both are functions of texts, so that a test, another program or a person can stand in for a model:

    write(prompts) -> completions                  a list of texts for a list of texts
    weigh(prompts, choices) -> [prompts, choices]  the choices' log-probabilities, in nats

`ModelWriter` and `ModelWeigher` are those of a model. They are called under `jax.set_mesh`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import decode_continued, stop_ids
from jaxgen.data.chat import Chat
from jaxgen.data.hashing import hash64
from jaxgen.data.parts import Part, encode_parts
from jaxgen.data.segments import example_segment, unended
from jaxgen.evaluation.answers import last_answer
from jaxgen.evaluation.generations import cut
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.base import language_model

Write = Callable[[Sequence[str]], list[str]]
Weigh = Callable[[Sequence[str], Sequence[str]], np.ndarray]
Message = dict[str, str]


@dataclasses.dataclass(frozen=True)
class ModelWriter:
    """Writes completions with a model. The same prompts with the same seed give the same texts.

    Attributes:
      model: the parameters.
      codec: of the model.
      policy: how tokens are chosen.
      max_tokens: the most of a completion.
      stop: texts that end a completion and are no part of it.
      batch_size: prompts at a time.
      seed: of the draws.
    """

    model: Any
    codec: Codec
    policy: SamplingPolicy = SamplingPolicy()
    max_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    batch_size: int = 16
    seed: int = 0

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """Returns the completions of texts."""
        return self.continued([self.codec.encode(prompt) for prompt in prompts])

    def answer(self, conversations: Sequence[Sequence[Message]], chat: Chat) -> list[str]:
        """Returns the assistant's next turn in conversations, by a chat template."""
        turns = [[*some, {"role": "assistant", "content": ""}] for some in conversations]
        examples = chat.encode([{chat.messages: some} for some in turns], self.codec)
        return self.continued([last_answer(example)[0] for example in examples])

    def continued(self, prompts: Sequence[np.ndarray]) -> list[str]:
        """Returns the completions of token ids."""
        if not prompts:
            return []
        # The draws of a step depend on what it asks, not on what was asked before.
        key = jax.random.key(hash64(self.seed, *(ids.tolist() for ids in prompts)) % 2**32)
        found = continue_prompts(
            language_model(self.model),
            self.codec,
            prompts,
            key,
            self.policy,
            self.max_tokens,
            self.batch_size,
            stop_ids(self.codec, self.stop),
        )
        return [
            cut(decode_continued(self.codec, ids, new), self.stop)
            for ids, new in zip(prompts, found, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class ModelWeigher:
    """Weighs choices by a model's log-probabilities.

    Attributes:
      model: the parameters.
      codec: of the model.
      length: the most tokens of a prompt and a choice.
      batch_size: texts at a time.
    """

    model: Any
    codec: Codec
    length: int
    batch_size: int = 16

    def __call__(self, prompts: Sequence[str], choices: Sequence[str]) -> np.ndarray:
        """Returns [prompts, choices] float64, the log-probability of each choice after a prompt."""
        if not prompts:
            return np.zeros((0, len(choices)))
        segments = [
            unended(
                example_segment(
                    encode_parts(
                        [Part(prompt, in_loss=False), Part(choice, is_answer=True)], self.codec
                    ),
                    self.codec,
                    False,
                )
            )
            for prompt in prompts
            for choice in choices
        ]
        scorer = Scorer(language_model(self.model), self.batch_size, self.length)
        scored = scorer.score("choices", segments, self.codec.pad_id)
        return np.array([one.total for one in scored]).reshape(len(prompts), len(choices))
