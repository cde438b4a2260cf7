"""Tools that an assistant may ask: a calculator, a translator and a retriever, all pure functions.

A tool maps a query to a text, or to None where it has nothing to say. A toolset asks each of its
tools in order and joins what they say, as LaMDA's does (2201.08239, 6.1).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from jaxgen.data.generated.town import LANGUAGE
from jaxgen.data.generated.translation import lexicon
from jaxgen.domains import NonNegativeFloat, UnitFraction, check_domains
from jaxgen.errors import DataError
from jaxgen.json_values import parse_json

MOST_CHARACTERS = 200
"""Of an expression."""
MOST_BITS = 512
"""Of a number on the way to a result, so that no query takes long."""
WORD = re.compile(r"\w*[^\W\d]\w*")
"""What a retriever searches for: words with a letter, as numbers agree by accident."""
_TOKEN = re.compile(r"\s*(\d+(?:,\d{3})*(?:\.\d+)?|\*\*|[-+*/^()])")


class Tool(Protocol):
    """Answers queries; the same query at the same turn always has the same answer."""

    def __call__(self, query: str, repeat: int = 0, /) -> str | None:
        """Returns what the tool says, None if nothing.

        Args:
          query: the text that it is asked.
          repeat: how often the dialogue has asked this before.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Calculator:
    """Arithmetic: "135+7721" -> "7856". Other texts than expressions are left to other tools."""

    def __call__(self, query: str, repeat: int = 0) -> str | None:
        """Returns the value of an expression with an operator, else None."""
        del repeat
        value = calculate(query.strip().rstrip("=?").strip())
        return None if value is None else number_text(value)


@dataclasses.dataclass(frozen=True)
class Translator:
    """Words between English and another language, one by one: "cook in Tovi" -> "zape".

    Attributes:
      dictionary: English words to those of the language.
      language: its name.
    """

    dictionary: Mapping[str, str] = dataclasses.field(default_factory=lexicon, hash=False)
    language: str = LANGUAGE

    def __call__(self, query: str, repeat: int = 0) -> str | None:
        """Returns the translation where all words are known, else None; articles are left out."""
        del repeat
        pattern = rf"(?:translate\s+)?(.+?)\s+(?:in|into|to)\s+({re.escape(self.language)}|English)"
        match = re.fullmatch(pattern, query.strip().rstrip("?."), re.IGNORECASE)
        if match is None:
            return None
        words = [word for word in WORD.findall(match[1].lower()) if word not in ("the", "a", "an")]
        back = {there: here for here, there in self.dictionary.items()}
        known = back if match[2].lower() == "english" else self.dictionary
        if not words or not all(word in known for word in words):
            return None
        return " ".join(known[word] for word in words)


@dataclasses.dataclass(frozen=True)
class Retriever:
    """The documents that fit a query best, by BM25 (Robertson and Zaragoza, 2009).

    A term counts ln(1 + (N - n + 0.5) / (n + 0.5)) where n of N documents have it, times
    f (k + 1) / (f + k (1 - b + b l / mean l)) of its f times in a document of l words.

    Attributes:
      documents: the texts; each is a snippet.
      saturation: k, how much more often counts more.
      length_share: b, how much longer documents count less.
      least_share: of a query's different words that a document must have; 1: all of them.
    """

    documents: tuple[str, ...]
    saturation: NonNegativeFloat = 1.2
    length_share: UnitFraction = 0.75
    least_share: UnitFraction = 0.0

    def __post_init__(self):
        check_domains(self, "retriever")

    def __call__(self, query: str, repeat: int = 0) -> str | None:
        """Returns the best document; asked again, the next one; None where there is none."""
        found = self.search(query)
        return self.documents[found[repeat][0]] if repeat < len(found) else None

    def search(self, query: str) -> list[tuple[int, float]]:
        """Returns (number of a document, its score), best first; those with no word are absent."""
        frequencies, lengths = self._index
        scores: dict[int, float] = collections.defaultdict(float)
        mean = sum(lengths) / max(len(lengths), 1)
        words = set(_words(query))
        present = collections.Counter(n for word in words for n in frequencies.get(word, ()))
        # In a fixed order, as sums of floats depend on it.
        for word in sorted(words):
            where = frequencies.get(word, {})
            weight = math.log(1 + (len(lengths) - len(where) + 0.5) / (len(where) + 0.5))
            for number, count in where.items():
                share = 1 - self.length_share + self.length_share * lengths[number] / mean
                scores[number] += (
                    weight * count * (self.saturation + 1) / (count + self.saturation * share)
                )
        kept = ((n, s) for n, s in scores.items() if present[n] >= self.least_share * len(words))
        return sorted(kept, key=lambda one: (-one[1], one[0]))

    @functools.cached_property
    def _index(self) -> tuple[dict[str, dict[int, int]], list[int]]:
        """Returns by word the documents that have it and how often, and the documents' lengths."""
        frequencies: dict[str, dict[int, int]] = collections.defaultdict(dict)
        lengths = []
        for number, document in enumerate(self.documents):
            words = _words(document)
            lengths.append(len(words))
            for word, count in collections.Counter(words).items():
                frequencies[word][number] = count
        return dict(frequencies), lengths


@dataclasses.dataclass(frozen=True)
class Toolset:
    """Several tools that are asked in order; what they say is joined by line breaks.

    Attributes:
      tools: in order; LaMDA's are a calculator, a translator and a retriever.
    """

    tools: tuple[Tool, ...]

    def __call__(self, query: str, repeat: int = 0) -> str:
        """Returns what the tools say, "" if nothing."""
        found = (tool(query, repeat) for tool in self.tools)
        return "\n".join(one for one in found if one)


def read_documents(path: str, field: str = "text") -> tuple[str, ...]:
    """Returns the documents of a file: of a .jsonl file a field of each line, else its lines.

    Raises:
      DataError: if it cannot be read, a line lacks the field, or there are none.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as documents: {error}.") from error
    documents = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.endswith(".jsonl"):
            try:
                line = parse_json(line)[field]
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number}: no JSON object with a text in {field!r} ({error!r})."
                ) from error
        documents.append(str(line).strip())
    if not documents:
        raise DataError(f"{path} has no document; a retriever needs one at least.")
    return tuple(documents)


def calculate(expression: str) -> Fraction | None:
    """Returns the exact value of an expression, None if it is none or grows out of bounds.

    It has numbers, + - * / ^ (or **), parentheses, and one operator at least.
    """
    if len(expression) > MOST_CHARACTERS:
        return None
    tokens, end = [], 0
    for match in _TOKEN.finditer(expression):
        if match.start() != end:
            return None
        tokens.append(match[1])
        end = match.end()
    if expression[end:].strip() or not set(tokens) & {"+", "-", "*", "/", "^", "**"}:
        return None
    try:
        parser = _Parser(tokens)
        value = parser.sum()
    except (ValueError, ZeroDivisionError, IndexError, RecursionError):
        return None
    return value if parser.is_done and len(tokens) > 2 else None


class _Parser:
    """Recursive descent over the tokens of an expression."""

    def __init__(self, tokens: Sequence[str]):
        self._tokens, self._place = tokens, 0

    @property
    def is_done(self) -> bool:
        return self._place == len(self._tokens)

    def sum(self) -> Fraction:
        value = self._product()
        while (sign := self._next("+", "-")) is not None:
            other = self._product()
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while (sign := self._next("*", "/")) is not None:
            other = self._signed()
            value = _bounded(value * other if sign == "*" else value / other)
        return value

    def _signed(self) -> Fraction:
        sign = self._next("+", "-")
        if sign is not None:
            return -self._signed() if sign == "-" else self._signed()
        value = self._atom()
        if self._next("^", "**") is None:
            return value
        power = self._signed()
        if power.denominator != 1 or abs(power) > MOST_BITS:
            raise ValueError("a power that is not whole, or too large")
        size = max(value.numerator.bit_length(), value.denominator.bit_length())
        if size * abs(power) > MOST_BITS:
            raise ValueError("too large")
        return _bounded(value ** int(power))

    def _atom(self) -> Fraction:
        if self._next("(") is not None:
            value = self.sum()
            if self._next(")") is None:
                raise ValueError("an open parenthesis")
            return value
        token = self._tokens[self._place]
        self._place += 1
        return Fraction(token.replace(",", ""))

    def _next(self, *expected: str) -> str | None:
        if self.is_done or self._tokens[self._place] not in expected:
            return None
        self._place += 1
        return self._tokens[self._place - 1]


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise ValueError("too large")
    return value


def number_text(value: Fraction) -> str:
    """Returns a number as digits; of one that never ends, twelve."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.12g}"


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]
