"""Whatever the text, the only exception is a ConfigError with a place."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxgen.configuration import load_text
from jaxgen.errors import ConfigError

TABLE = {"a": lambda x=0, y=None: (x, y)}
PIECES = [
    "a",
    "x",
    "y",
    "M",
    ".",
    "/",
    " = ",
    ":",
    "\n",
    "\n  ",
    "@",
    "%",
    "(",
    ")",
    "()",
    "[",
    "]",
]
PIECES += [
    "{",
    "}",
    ",",
    "'",
    '"',
    "'''",
    "3",
    "-",
    "1e5",
    "#",
    "include ",
    "import ",
    "from ",
    "\\",
]
PIECES += ["a.x = ", "a.y = ", "True", "\t", "\x00", "é", "$", "gin.macro", "=", "\r", "\f", "f'{"]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("a.x = \n  3")
@example("include 3")
@example("a:\n  x = 3\n y = 4")
def test_only_config_errors(text):
    try:
        load_text(text, root="a", table=TABLE)
    except ConfigError as error:
        assert re.match(r"text:\d+( \(%|: )", str(error))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_only_config_errors_for_bindings(value):
    try:
        load_text("", [f"a.x={value}"], root="a", table=TABLE)
    except ConfigError as error:
        assert str(error).startswith("binding `a.x=")
