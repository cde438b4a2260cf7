"""Tasks of data that are no mixture: pictures with captions, and rows of media."""

import pytest

from jaxgen.cli import main
from jaxgen.data.showing import short


@pytest.mark.parametrize("run", ["contrastive", "codecs/kl_sprites"])
def test_records_of_pictures_are_shown_and_listed(run, capsys):
    files = f"--gin_file=runs/{run}.gin"
    assert main(["tasks", "show", "sprites", files, "--examples=1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith('record    {"image": "uint8 [16, 16, 3]", "caption": "a ')
    assert main(["tasks", files]) == 0
    assert "sprites@1" in capsys.readouterr().out


def test_bytes_are_counted_not_printed():
    assert short({"png": b"\x89PNG" * 500}) == '{"png": "2,000 bytes"}'


def test_a_report_of_pictures_is_refused(tmp_path, capsys):
    output = f"--output={tmp_path}/page.html"
    assert main(["data", "report", "runs/contrastive.gin", output]) == 1
    assert "of a mixture of tasks, not of ImageTextPairs" in capsys.readouterr().err


def test_the_fault_of_a_run_is_told_where_its_data_are_no_mixture(capsys):
    wrong = "--gin.vision/stack.num_heads=5"
    assert main(["tasks", "show", "sprites", "--gin_file=runs/contrastive.gin", wrong]) == 1
    told = capsys.readouterr().err
    assert "num_heads" in told and "`mixture` needs" not in told
