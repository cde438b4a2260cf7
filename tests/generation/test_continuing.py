"""Completions of prompts: what they begin with, where they end, and what has no room."""

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense, tiny_gpt2
from support.tokenizers import byte_level
from tokenizers import Tokenizer

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data.segments import continuation
from jaxgen.errors import ConfigError
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.generation.continuing import continue_prompts, started_with
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.ops.initializers import Initialization

GREEDY = SamplingPolicy(temperature=0)
LIVELY = Initialization(embedding_stddev=0.5)


def continued(model, codec, prompts, max_tokens):
    encoded = [codec.encode(prompt) for prompt in prompts]
    with jax.set_mesh(one_device_mesh()):
        return continue_prompts(model, codec, encoded, jax.random.key(0), GREEDY, max_tokens)


@pytest.mark.slow
def test_learned_positions_end_before_the_first_token():
    codec = ByteCodec()
    model = build(tiny_gpt2(max_length=24, vocab_size=320))
    assert len(continued(model, codec, ["x" * 13], 10)) == 1
    for prompt, max_tokens in (("x" * 14, 10), ("x", 23), ("x" * 30, 1)):
        with pytest.raises(ConfigError, match=r"model\.max_length=24"):
            continued(model, codec, [prompt, "y"], max_tokens)
    with pytest.raises(ConfigError, match=r"evaluation\.length=25.*model\.max_length=24"):
        Scorer(model, 1, 25)


@pytest.mark.slow
def test_every_stop_ends_a_completion_and_is_left_out(tmp_path):
    path = byte_level(tmp_path / "tokenizer.json")
    plain = TokenizerCodec(path, pad="</s>", begin="<s>", end="</s>")
    model = build(tiny_dense(vocab_size=448, initialization=LIVELY))
    (whole,) = continued(model, plain, ["Answer:"], 12)
    stop = Tokenizer.from_file(path).id_to_token(int(whole[3])) or ""
    stopping = TokenizerCodec(path, pad="</s>", begin="<s>", end="</s>", stops=("<|user|>", stop))
    assert stopping.stop_ids == (plain.end_id, plain.special_id("<|user|>"), whole[3])
    (part,) = continued(model, stopping, ["Answer:"], 12)
    assert part.tolist() == whole[: whole.tolist().index(whole[3])].tolist()


def test_a_codec_without_begin_token_reads_and_scores_the_text_alone(tmp_path):
    path = byte_level(tmp_path / "tokenizer.json")
    codec = TokenizerCodec(path, pad="</s>", begin="</s>", end="</s>", adds_begin=False)
    prompt, answer = codec.encode("Answer:"), codec.encode(" Paris")
    assert started_with(codec, prompt).tolist() == prompt.tolist()
    assert started_with(codec, prompt[:0]).tolist() == [codec.end_id]
    model = build(tiny_dense(vocab_size=448, initialization=LIVELY))
    with jax.set_mesh(one_device_mesh()):
        segment = continuation(prompt, answer, codec, has_source=False)
        scored = Scorer(model, 1, 32).score("t", [segment], codec.pad_id)[0]
        assert scored.targets.tolist() == [*answer, codec.end_id]
        # The log-probabilities of the plain ids, computed by another way: one longer prompt each.
        for place, token in enumerate(answer):
            so_far = np.concatenate([prompt, answer[:place]])
            alone = continuation(so_far, np.array([token]), codec, has_source=False)
            again = Scorer(model, 1, 64).score("t", [alone], codec.pad_id)[0]
            expected = again.log_probabilities[0]
            np.testing.assert_allclose(scored.log_probabilities[place], expected, rtol=1e-4)
        assert segment.tokens[: len(prompt)].tolist() == prompt.tolist()
