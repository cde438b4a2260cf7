"""`jaxgen laws`: a CSV file to a fit, its intervals, warnings, picture and JSON."""

import json

import numpy as np
import pytest

from jaxgen.cli import main
from jaxgen.laws import BESIROGLU, CHINCHILLA


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Seven sizes at each of five budgets, and their losses under Chinchilla's law."""
    path = tmp_path_factory.mktemp("laws") / "runs.csv"
    budgets = np.repeat(np.geomspace(1e18, 1e20, 5), 7)
    sizes = 0.1 * budgets**0.51 * np.tile(np.geomspace(0.3, 3, 7), 5)
    columns = {"parameters": sizes, "tokens": budgets / 6 / sizes}
    loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
    loss = loss * np.exp(1e-3 * np.random.default_rng(0).standard_normal(35))
    rows = zip(sizes / 1e6, columns["tokens"], loss, strict=True)
    path.write_text("size,D,nll\n" + "".join(f"{n},{d},{y}\n" for n, d, y in rows))
    return path


NAMES = "--columns=N=size*1e6,L=nll"


@pytest.mark.parametrize("law", ["chinchilla", "isoflop"])
def test_text_json_and_plot(file, law, tmp_path, capsys):
    files = [f"--json={tmp_path / 'a.json'}", f"--plot={tmp_path / 'a.png'}"]
    few = ["--bootstraps=20", "--flops", "1e21", "1e23"]
    assert main(["laws", str(file), f"--law={law}", NAMES, *few, *files]) == 0
    said = capsys.readouterr().out
    assert "N* = " in said and "at 1e+21 FLOPs" in said and "FLOPs are 6ND" in said
    found = json.loads((tmp_path / "a.json").read_text())
    exponent = BESIROGLU["beta"] / (BESIROGLU["alpha"] + BESIROGLU["beta"])
    assert found["best_models"]["parameters"]["exponent"] == pytest.approx(exponent, abs=0.05)
    low, high = found["best_models"]["parameters"]["interval"]
    assert low < found["best_models"]["parameters"]["exponent"] < high
    assert [one["is_extrapolated"] for one in found["budgets_asked"]] == [False, True]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_kaplan_as_json_alone(file, capsys):
    few = ["--of=flops", "--bootstraps=0", "--json=-"]
    assert main(["laws", str(file), "--law=kaplan", NAMES, *few]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"]["alpha"]["value"] > 0
    assert found["parameters"]["alpha"]["interval"] == [None, None]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no column for"),
        ([NAMES, "--curve=akima"], "--curve means nothing to --law=chinchilla; it is of isoflop"),
        (["--columns=N"], "must be NAME=COLUMN"),
        ([NAMES, "--law=envelope"], "needs Table.runs"),
        ([NAMES, "--law=kaplan", "--of=width"], "of='width' must be one of"),
        ([NAMES, "--law=kaplan", "--bootstraps=0", "--flops", "1e21"], "no best models"),
        ([NAMES, "--bootstraps=0", "--plot=x.nothing"], "cannot write"),
    ],
)
def test_what_cannot_be_is_one_message(file, flags, message, capsys):
    assert main(["laws", str(file), *flags]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_two_columns_are_enough_for_a_law_of_one_scale(tmp_path, capsys):
    x = np.geomspace(1, 4000, 40)
    lines = [f"{a},{b!r}\n" for a, b in zip(x, (0.4 + 2 * x**-0.3).tolist(), strict=True)]
    (tmp_path / "curve.csv").write_text("step,error\n" + "".join(lines))
    names = ["--columns=N=step,D=step,L=error", "--of=parameters"]
    law = ["--law=broken", "--breaks=0", "--bootstraps=0", "--json=-"]
    assert main(["laws", str(tmp_path / "curve.csv"), *law, *names]) == 0
    found = json.loads(capsys.readouterr().out)["parameters"]
    assert found["a"]["value"] == pytest.approx(0.4, rel=1e-4)
    assert found["c0"]["value"] == pytest.approx(0.3, rel=1e-4)
