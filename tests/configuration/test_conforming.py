"""Conversions, and agreement with typeguard wherever nothing is converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional, Protocol, Union

import numpy
import pytest
import typeguard
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.configuration.conforming import conform, describe


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        (numpy.float32(0.5), float, 0.5),
        (numpy.int64(3), int, 3),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, [2]], tuple[float, tuple[float, ...]], (1.0, (2.0,))),
        ([1], tuple, (1,)),
        ((), tuple[()], ()),
        ({"a": [1]}, dict[str, tuple[float, ...]], {"a": (1.0,)}),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ([1], list[float] | None, [1.0]),
        ([1], Sequence[float], [1.0]),
        (3, float | int, 3),
        (3, float | str, 3.0),
        (3, Optional[float], 3.0),  # noqa: UP045
        ("x", str | tuple[str, ...] | None, "x"),
        (["x"], str | tuple[str, ...] | None, ("x",)),
        (True, bool | int, True),
        ({1}, Any, {1}),
    ],
)
def test_converted(value, hint, expected):
    conformed = conform(value, hint)
    assert repr(conformed) == repr(expected)
    assert repr(conform(conformed, hint)) == repr(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (True, float),
        (1.0, int),
        ("1", int),
        (None, int),
        (1, str),
        ((1, 2), tuple[int]),
        ("ab", tuple[str, ...]),
        ((1,), list[int]),
        ([1, "x"], list[int]),
        ({"a": "x"}, dict[str, float]),
        ({1: 1.0}, dict[str, float]),
        ([], dict[str, float]),
        ("c", Literal["a", "b"]),
        (True, int | str),
    ],
)
def test_refused(value, hint):
    with pytest.raises(TypeError):
        conform(value, hint)


class HasSize(Protocol):
    size: int


def test_protocols_are_checked():
    class Sized:
        size = 3

    sized = Sized()
    assert conform(sized, HasSize) is sized
    with pytest.raises(TypeError):
        conform(3, HasSize)


hints = st.recursive(
    st.sampled_from([str, type(None), Literal["a", "b"], Any]),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),
        inner.map(lambda hint: dict[str, hint]),
        st.tuples(inner, inner).map(lambda pair: Union[pair]),  # noqa: UP007
    ),
    max_leaves=5,
)
values = st.recursive(
    st.none() | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)


@given(values, hints)
def test_agrees_with_typeguard_where_nothing_is_converted(value, hint):
    every = typeguard.CollectionCheckStrategy.ALL_ITEMS
    try:
        typeguard.check_type(value, hint, collection_check_strategy=every)
    except typeguard.TypeCheckError:
        with pytest.raises(TypeError):
            conform(value, hint)
    else:
        assert conform(value, hint) == value


def test_descriptions():
    assert describe(int | None) == "int | None"
    assert describe(tuple[str, ...]) == "tuple[str, ...]"
    assert describe(dict[str, float] | None) == "dict[str, float] | None"
    assert describe(Literal["a", "b"]) == "'a' or 'b'"
    assert describe(Any) == "Any"
