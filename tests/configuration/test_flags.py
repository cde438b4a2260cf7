"""The flags of the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.configuration import parse_flags
from jaxgen.configuration.flags import Flags
from jaxgen.errors import ConfigError

words = st.from_regex(r"[a-z][a-z0-9/=.]{0,8}", fullmatch=True)


def test_both_forms_and_the_rest_in_order():
    argv = ["train", "--gin_file=a.gin", "--run_dir=r", "--gin.train.steps=200", "--gin_file"]
    argv += [
        "b.gin",
        "--import=parts.py",
        "--gin.STEPS",
        "3",
        "--import",
        "more",
        "--gin.a/task.x=y=z",
        "-v",
        "--",
        "--gin.no=1",
    ]
    assert parse_flags(argv) == Flags(
        ["a.gin", "b.gin"],
        ["train.steps=200", "STEPS=3", "a/task.x=y=z"],
        ["parts.py", "more"],
        ["train", "--run_dir=r", "-v", "--", "--gin.no=1"],
    )


@given(st.lists(words), st.lists(st.tuples(words.map(lambda w: w.replace("=", "")), words)))
def test_equals_and_space_mean_the_same(files, bindings):
    joined = [f"--gin_file={name}" for name in files]
    joined += [f"--gin.{name}={value}" for name, value in bindings]
    spaced = [part for name in files for part in ("--gin_file", name)]
    spaced += [part for name, value in bindings for part in (f"--gin.{name}", value)]
    assert parse_flags(joined) == parse_flags(spaced)
    assert parse_flags(joined).gin_files == files


def test_negative_numbers_may_follow_a_space():
    assert parse_flags(["--gin.x", "-3"]) == Flags(bindings=["x=-3"])


@pytest.mark.parametrize(
    "argv", [["--gin_file"], ["--import"], ["--gin.x"], ["--gin.x", "--gin.y=3"]]
)
def test_a_flag_without_its_value(argv):
    with pytest.raises(ConfigError, match=f"{argv[0]} has no value; write {argv[0]}=VALUE"):
        parse_flags(argv)
