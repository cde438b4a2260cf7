"""Filters, scrubbing, duplicates and decontamination: what was planted is found, nothing else."""

import collections
import random

import pytest

from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import TextFiles
from jaxgen.errors import ConfigError
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import (
    CutContamination,
    Decontaminate,
    index_items,
    make_index,
)
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.filters import (
    Characters,
    Language,
    Repetition,
    StopWords,
    Symbols,
    Without,
    Words,
    first_objection,
)
from jaxgen.preparation.ngrams import WordHasher, ngram_hashes, normalised_words
from jaxgen.preparation.scrubbing import Scrub

ENGLISH = (
    "The river had risen in the night, and by morning the meadow below the house was a lake with "
    "hedges for shores. Nobody spoke of it at breakfast. My aunt poured the tea, my uncle read "
    "the letter that had come, and the dog lay across the door as if to keep the water out. When "
    "at last we went to look, the boat that had been chained to the willow was gone."
)
GERMAN = (
    "Der Fluss war in der Nacht gestiegen, und am Morgen war die Wiese unter dem Haus ein See, "
    "dem die Hecken als Ufer dienten. Beim Frühstück sprach niemand davon."
)


@pytest.mark.parametrize(
    ("one", "kept", "left_out"),
    [
        (Characters(10, 20), "just fourteen.", "short"),
        (Characters(10, 20), "just fourteen.", "much too long for twenty characters"),
        (Words(), ENGLISH, "too few words"),
        (Words(least=3), ENGLISH, "a b c d e f g h"),
        (Words(least=3), ENGLISH, "extraordinarily incomprehensible circumlocutions predominate"),
        (Symbols(), ENGLISH, "# a # b # c # d"),
        (Symbols(), ENGLISH, "- one\n- two\n- three\n- four\n"),
        (Symbols(), ENGLISH, "what is more...\nand more...\nthan that"),
        (Symbols(), ENGLISH, "1 2 3 4 5 6 7 8 words here"),
        (StopWords(), ENGLISH, "SELECT id FROM users WHERE name LIKE 'x'"),
        (Repetition(), ENGLISH, "the same line\n" * 10),
        (Repetition(), ENGLISH, "buy now " * 20),
        (Repetition(), ENGLISH, (ENGLISH + " ") * 2),
        (Language(), ENGLISH, GERMAN),
        (Language(("de", "fr")), GERMAN, ENGLISH),
        (Without("(?i)lorem ipsum"), ENGLISH, "Lorem ipsum dolor"),
    ],
)
def test_filters(one, kept, left_out):
    assert one.keeps(kept) and not one.keeps(left_out)
    assert first_objection((Characters(), one), left_out) == f"1:{type(one).__name__}"
    assert first_objection((Characters(), one), kept) is None


def test_gophers_bounds_are_the_papers():
    """2112.11446, table A1."""
    repetition = Repetition()
    bounds = dict(
        zip(repetition.ngrams, repetition.most_top + repetition.most_repeated, strict=True)
    )
    assert bounds == {
        2: 0.20, 3: 0.18, 4: 0.16, 5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10,
    }  # fmt: skip


SECRETS = [
    ("write to jo.do+x@mail.example.org, please", "write to <email>, please", "email"),
    ("call +49 30 901820 today", "call <phone> today", "phone"),
    ("call (212) 555-0147.", "call <phone>.", "phone"),
    ("or 212-555-0147", "or <phone>", "phone"),
    ("from 93.184.216.34 came", "from <ip> came", "ip"),
    ("at 2606:2800:220:1:248:1893:25c8:1946.", "at <ip>.", "ip"),
    ("paid with 4111 1111 1111 1111 once", "paid with <card> once", "card"),
    ("or 5500-0000-0000-0004", "or <card>", "card"),
    ("or 378282246310005", "or <card>", "card"),
]  # Card numbers and telephone numbers are those reserved for examples.
PLAIN = [
    "version 1.2.3.4567 of 10.0.0.1 and 192.168.1.1", "4111 1111 1111 1112 fails the check",
    "pi is 3.14159265358979", "2024-11-21T06:30:00", "x = a[1:2:3]; y = b::c", "user@localhost",
    "ISBN 978-3-16-148410-0", "0000 0000 0000 0000", "0.123.456", "::ffff", "call 911",
]  # fmt: skip


@pytest.mark.parametrize(("text", "scrubbed", "kind"), SECRETS)
def test_personal_data_is_replaced_and_counted(text, scrubbed, kind):
    counts = collections.Counter()
    assert Scrub().apply(text, counts) == scrubbed
    assert counts == {kind: 1}
    left = Scrub(**{kind: None}).apply(text, counts)
    assert left == text or kind in ("card", "phone")


@pytest.mark.parametrize("text", PLAIN)
def test_text_that_only_looks_personal_stays(text):
    assert Scrub().apply(text, collections.Counter()) == text


def words_of(rng, count):
    return [f"w{rng.randrange(20_000)}" for _ in range(count)]


def test_ngram_hashes_are_equal_where_the_words_are():
    hasher, rng = WordHasher(), random.Random(0)
    words = words_of(rng, 300) + ["a", "b", "c"] * 5
    grams = ngram_hashes(hasher.hashes(words), 3)
    texts = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    assert len(set(grams.tolist())) == len(set(texts)) and len(grams) == len(texts)
    assert len(ngram_hashes(hasher.hashes(["a"]), 3)) == 0


def test_twenty_planted_overlaps_of_twenty_and_none_on_other_text():
    rng = random.Random(2)
    items = [" ".join(words_of(rng, 40)) for _ in range(20)]
    records = (*({"text": item} for item in items), {"text": "too short to tell"})
    index = make_index(Decontaminate(sources=(InMemory(records, 0.0),)))
    assert index.too_short == 1 and len(index.names) == 20
    hasher, found = WordHasher(), []
    for number, item in enumerate(items):
        words = item.split()
        start = rng.randrange(40 - 13)
        # Thirteen words in other case and with marks between them, in the middle of a document.
        part = "; ".join(word.upper() for word in words[start : start + 13])
        document = " ".join([*words_of(rng, 200), part, *words_of(rng, 200)])
        (match,) = index.matches(document, hasher)
        assert match["words"] == " ".join(words[start : start + 13])
        found.append(match["item"] == f"source 0:{number}")
        # Twelve words are no overlap.
        less = " ".join([*words_of(rng, 200), *words[start : start + 12], *words_of(rng, 200)])
        assert index.matches(less, hasher) == []
    assert sum(found) == 20
    others = [" ".join(words_of(rng, 500)) for _ in range(500)]
    assert not any(index.matches(text, hasher) for text in others)


def filler(rng, characters):
    """Words of which no item has any."""
    text = ""
    while len(text) < characters:
        text += f"f{rng.randrange(10**6)} "
    return text


def test_a_shared_ngram_goes_with_its_margins_and_short_pieces_too():
    """GPT-3 (2005.14165, appendix C): 200 characters each side, pieces of 200 and more stay."""
    rng = random.Random(4)
    item = " ".join(words_of(rng, 13))
    index = index_items([("item", item)])
    head, middle, short, tail = (filler(rng, n) for n in (1000, 900, 500, 700))
    loud = item.upper().replace(" ", ", ")
    text = f"{head}{item} {middle}{loud} {short}{item} {tail}"
    pieces = CutContamination().pieces(text, index.shared(text, WordHasher()))
    # Of 500 characters between two items 100 or so are left, which are too few.
    assert pieces == [head[:-200], (" " + middle)[200:-200], (" " + tail)[200:]]
    assert CutContamination(shortest=1).pieces(text, index.shared(text, WordHasher()))[2] in short
    assert CutContamination(most_pieces=3).pieces(text, index.shared(text, WordHasher())) == []
    bare = CutContamination(margin=0, shortest=1).pieces(text, index.shared(text, WordHasher()))
    assert bare == [head, f" {middle}", f" {short}", f" {tail}"]


def test_no_piece_holds_an_item_and_nothing_else_is_cut():
    rng = random.Random(5)
    items = [(str(n), " ".join(words_of(rng, rng.randrange(8, 30)))) for n in range(20)]
    index, hasher, cut = index_items(items), WordHasher(), CutContamination(20, 1, 50)
    for _ in range(30):
        text = filler(rng, 50)
        for _, item in rng.sample(items, rng.randrange(4)):
            # The dotted capital I is two letters in lower case.
            text += f"{rng.choice([item, item.upper()])} İI {filler(rng, 300)}"
        shared = index.shared(text, hasher)
        assert bool(shared) == bool(index.matches(text, hasher))
        pieces = cut.pieces(text, shared)
        assert not any(index.matches(piece, hasher) for piece in pieces)
        kept = sum(map(len, pieces))
        assert kept == len(text) - sum(
            any(start - 20 <= place < stop + 20 for start, stop in shared)
            for place in range(len(text))
        )


def test_every_item_that_shares_words_is_named_but_not_for_the_form_of_all():
    rng = random.Random(3)
    form = " ".join(words_of(rng, 20))
    items = [f"{form} {' '.join(words_of(rng, 20))}" for _ in range(15)] + [form]
    twins = [" ".join(words_of(rng, 30))] * 2
    records = tuple({"text": text} for text in items + twins)
    index = make_index(Decontaminate(sources=(InMemory(records, 0.0),)))
    hasher = WordHasher()
    assert index.of_a_form == 1
    assert index.matches(f"before {form} after", hasher) == []
    (match,) = index.matches(items[4], hasher)
    assert match["item"] == "source 0:4"
    named = [match["item"] for match in index.matches(twins[0], hasher)]
    assert named == ["source 0:16", "source 0:17"]


def test_characters_are_words_where_there_are_no_spaces():
    chinese = "河水在夜里涨了起来到了早晨房子下面的草地成了湖"
    assert normalised_words(f"The {chinese[:4]} River") == ["the", *chinese[:4], "river"]
    index = make_index(Decontaminate(sources=(InMemory(({"text": chinese},), 0.0),)))
    assert index.matches(f"前面的话{chinese[3:18]}后面的话", WordHasher())


def test_held_out_instances_of_tasks_are_looked_for():
    records = tuple(
        {"prompt": f"question number {i} asks which of the many rivers of {i} runs north ",
         "answer": f"the {i}th of them"} for i in range(200)
    )  # fmt: skip
    task = Task("rivers", InMemory(records, 0.1), PromptAnswer())
    index = make_index(Decontaminate(tasks=(task,)))
    heldout = list(task.raw_records("heldout"))
    assert len(index.names) == len(heldout) and index.names[0] == "rivers@1:0"
    text = f"before {heldout[3]['prompt']}{heldout[3]['answer']} after"
    assert [match["item"] for match in index.matches(text, WordHasher())] == ["rivers@1:3"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Preparation((TextFiles("x"),), decontaminate=Decontaminate()), "needs"),
        (lambda: Preparation(()), "sources is empty"),
        (lambda: Decontaminate(tasks=(Task("a", Addition(2), PromptAnswer()),)), "on the spot"),
        (lambda: Decontaminate(most_items=0), "most_items=0"),
        (lambda: CutContamination(shortest=0), "shortest=0"),
        (lambda: NearDuplicates(threshold=1.5), "threshold=1.5"),
        (lambda: NearDuplicates(bands=7), "bands=7"),
        (lambda: Repetition(ngrams=(2,)), "as many bounds"),
        (lambda: Without("("), "without.pattern"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
