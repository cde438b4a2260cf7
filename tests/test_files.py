"""Small files that are written whole, or not, with one message."""

import pytest

from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.files import check_folder_of, write_atomically


def test_a_file_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*/file/x\.json: Not a directory"):
        write_atomically(tmp_path / "file" / "x.json", "{}")
    for path in (tmp_path / "file" / "x.json", tmp_path / "none" / "x.json"):
        with pytest.raises(ConfigError, match=r"x\.json is in no folder that exists"):
            check_folder_of(path)
    check_folder_of(tmp_path / "x.json")
