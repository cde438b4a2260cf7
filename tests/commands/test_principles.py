"""`jaxgen revise` and `jaxgen feedback` with a tiny run: what they write, and going on."""

import pytest

from jaxgen.cli import main
from jaxgen.files import read_rows

SMALL = [
    "--gin_file=runs/quickstart.gin", "--gin_file=tasks/spells.gin",
    "--gin.mixture.tasks=(@spells/task(),)", "--gin.mixture.weights={'spells': 1.0}",
    "--gin.model.num_layers=1", "--gin.model.embed_dim=8", "--gin.model.num_heads=1",
    "--gin.model.mlp_dim=8", "--gin.train.steps=2", "--gin.train.batch_size=8",
    "--gin.train.length=512", "--gin.evaluation.num_batches=1", "--gin.evaluation.num_examples=4",
    "--gin.evaluation.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "spells"
    assert main(["train", *SMALL, f"--run_dir={folder}"]) == 0
    return folder


@pytest.mark.slow
def test_a_run_revises_and_judges(run_dir, tmp_path, capsys):
    common = [f"--run_dir={run_dir}", "--task=spells_red_team", "--batch_size=2"]
    revised = tmp_path / "revised.jsonl"
    revise = ["revise", *common, f"--output={revised}", "--max_tokens=6", "--stop=|"]
    assert main([*revise, "--num_examples=4"]) == 0
    assert "4 new rows" in capsys.readouterr().out
    rows = read_rows(revised)
    assert len(rows) == 4 and all(row["rounds"][0]["critique"] != "" for row in rows)
    # The same command has nothing left to do; another number of tokens is another file.
    assert main([*revise, "--num_examples=4"]) == 0
    assert "0 new rows" in capsys.readouterr().out and read_rows(revised) == rows
    assert main([*revise, "--num_examples=4", "--rounds=2"]) == 1
    assert "begun with other settings: rounds was 1, is 2" in capsys.readouterr().err

    labels = tmp_path / "labels.jsonl"
    feedback = ["feedback", *common, f"--output={labels}", "--max_tokens=6", "--stop=|"]
    assert main([*feedback, "--num_examples=3", "--num_principles=2", "--clamp=0.4"]) == 0
    rows = read_rows(labels)
    for row in rows:
        assert 0.4 <= row["scores"][0] <= 0.6 and len(set(row["principles"])) == 2
        assert {row["chosen"], row["rejected"]} == set(row["completions"])
    # Begun by one command and ended by another, the file is the same.
    parts = tmp_path / "parts.jsonl"
    again = [one if "--output" not in one else f"--output={parts}" for one in feedback]
    settings = ["--num_principles=2", "--clamp=0.4"]
    assert main([*again, "--num_examples=3", *settings]) == 0
    lines = parts.read_text().splitlines(keepends=True)
    parts.write_text("".join(lines[:2]))
    assert main([*again, "--num_examples=3", *settings]) == 0
    assert read_rows(parts) == rows


@pytest.mark.slow
def test_what_makes_no_sense_is_one_message(run_dir, tmp_path, capsys):
    common = [f"--run_dir={run_dir}", f"--output={tmp_path / 'x.jsonl'}"]
    assert main(["revise", *common, "--task=spels"]) == 1
    assert "no task 'spels'" in capsys.readouterr().err
    (tmp_path / "none.txt").write_text("\n")
    one = ["revise", *common, "--task=spells", f"--principles={tmp_path / 'none.txt'}"]
    assert main(one) == 1
    assert "has no principle" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["feedback", *common, "--task=spells", "--clamp=0.7"])
    assert "--clamp: 0.7 must be in [0, 0.5]" in capsys.readouterr().err
