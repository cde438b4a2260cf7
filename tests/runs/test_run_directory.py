"""What a run directory refuses and what it lets pass."""

import pytest

from jaxgen.errors import CheckpointError
from jaxgen.runs.run_directory import RunDirectory


def test_texts_that_differ_in_notes_only_are_one_configuration(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.check_config("size = 3  # old note", lambda: [])
    directory.check_config("size = 3  # new note", lambda: [])
    assert directory.config_file.read_text() == "size = 3  # old note"
    with pytest.raises(CheckpointError, match="size: 3 -> 4"):
        directory.check_config("size = 4", lambda: ["size: 3 -> 4"])
