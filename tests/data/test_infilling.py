"""Fill-in-the-middle as the paper writes it, at characters, with nothing lost."""

import re

from hypothesis import given
from hypothesis import strategies as st
from support.word_codec import WordCodec

from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.parts import encode_parts, parts_of
from jaxgen.data.protocols import Context

NOTHING = Context(lambda: iter(()))


def test_the_two_orders_of_the_paper():
    """2207.14255, section 3: PSM, and SPM in the second form of appendix D."""
    infilling, codec = FillInTheMiddle(), WordCodec()
    cut = "def f ( x ) :", " return x", " + 1"
    psm = encode_parts(infilling.psm(*cut), codec).ids
    assert codec.decode(psm) == (
        "<|fim_prefix|> def f ( x ) : <|fim_suffix|> + 1 <|fim_middle|> return x"
    )
    spm = encode_parts(infilling.spm(*cut), codec).ids
    assert codec.decode(spm) == (
        "<|fim_prefix|> <|fim_suffix|> + 1 <|fim_middle|> def f ( x ) : return x"
    )


def apply(infilling, texts):
    return list(infilling.apply(iter([{"text": text} for text in texts]), NOTHING))


@given(text=st.text(max_size=40), seed=st.integers(0, 5))
def test_the_pieces_are_the_text(text, seed):
    for spm_rate in (0.0, 1.0):
        infilling = FillInTheMiddle(rate=1.0, spm_rate=spm_rate, seed=seed)
        parts = parts_of(apply(infilling, [text])[0])
        assert parts is not None and all(part.in_loss for part in parts)
        plain = [part.text for part in parts if not part.is_control]
        if spm_rate:
            suffix, prefix, middle = plain
        else:
            prefix, suffix, middle = plain
        assert prefix + middle + suffix == text


def test_rates_and_cuts_are_those_of_the_settings():
    texts = [f"{n:04}abcdefghijklmnop" for n in range(4000)]
    infilling = FillInTheMiddle(rate=0.5, spm_rate=0.5)
    cut = [parts_of(record) for record in apply(infilling, texts)]
    is_spm = [parts[1].is_control for parts in cut if parts is not None]
    assert abs(len(is_spm) / 4000 - 0.5) < 6 * 0.5 / 4000**0.5
    assert abs(sum(is_spm) / len(is_spm) - 0.5) < 6 * 0.5 / len(is_spm) ** 0.5
    # Two uniform places: the middle holds a third of the text, cut within words as well.
    middles = [len(parts[-1].text) for parts in cut if parts is not None]
    assert abs(sum(middles) / len(middles) / 20 - 1 / 3) < 0.03
    inside = [parts for parts in cut if parts and re.fullmatch(r"\d{1,3}", parts[1].text)]
    assert inside


def test_draws_depend_on_the_document_alone():
    texts = [f"{n} some text" for n in range(50)]
    forwards = apply(FillInTheMiddle(), texts)
    backwards = apply(FillInTheMiddle(), texts[::-1])
    assert forwards == backwards[::-1]
    assert forwards != apply(FillInTheMiddle(seed=1), texts)
