"""CSV files of runs: what is found by itself, and that each doubt is one clear error."""

import numpy as np
import pytest

from jaxgen.laws import BESIROGLU, CHINCHILLA, Fitting, LawError, Table, fit_chinchilla

SIZES = np.repeat([7e7, 1.6e8, 4.1e8, 1e9], 4)
TOKENS = np.tile([1e9, 4e9, 2e10, 3e11], 4)
LOSS = CHINCHILLA.values({"parameters": SIZES, "tokens": TOKENS}, CHINCHILLA.vector(BESIROGLU))


def write(path, header, *columns, delimiter=",", encoding="utf-8", newline="\n"):
    rows = [delimiter.join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_bytes(newline.join([header, *rows, ""]).encode(encoding))
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs.csv"


@pytest.mark.parametrize(
    ("header", "scales"),
    [
        ("parameters,tokens,loss", (1, 1)),
        ("N,D,L", (1, 1)),
        ("Params (M),Tokens [B],Val Loss", (1e6, 1e9)),
        ("num_params_m,train_tokens_b,final_loss", (1e6, 1e9)),
        ("model size (millions),dataset size (billions),validation loss", (1e6, 1e9)),
    ],
)
def test_usual_names_and_units_are_found(file, header, scales):
    table = Table.read_csv(write(file, header, SIZES / scales[0], TOKENS / scales[1], LOSS))
    np.testing.assert_allclose(table.parameters, SIZES)
    np.testing.assert_allclose(table.tokens, TOKENS)
    np.testing.assert_allclose(table.loss, LOSS)
    assert "FLOPs are 6ND" in " ".join(table.notes)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\r\n"), ("utf-8", "\n")])
def test_other_separators_and_byte_order_marks(file, delimiter, encoding, newline):
    header = delimiter.join(["parameters", "tokens", "loss"])
    write(
        file, header, SIZES, TOKENS, LOSS, delimiter=delimiter, encoding=encoding, newline=newline
    )
    np.testing.assert_allclose(Table.read_csv(file).parameters, SIZES)


def test_a_cell_of_two_lines(file):
    file.write_text('N,D,loss,note\n1e8,1e9,3.1,"two\nlines"\n2e8,1e9,0,x\n')
    with pytest.raises(LawError, match="line 4: 'loss' is 0, and must be positive"):
        Table.read_csv(file)


def test_values_with_units(file):
    file.write_text('params,tokens,loss\n70M,1.4B,3.1\n"1,300,000",2e9,4\n1.3 B,0.3T,2.2\n')
    table = Table.read_csv(file)
    np.testing.assert_allclose(table.parameters, [7e7, 1.3e6, 1.3e9])
    np.testing.assert_allclose(table.tokens, [1.4e9, 2e9, 3e11])
    # A header's unit is that of values without one; a factor that is asked for is of all.
    file.write_text("params (M),tokens_b,loss\n70M,1.4,3.1\n70,2B,4\n")
    table = Table.read_csv(file)
    np.testing.assert_allclose(table.parameters, [7e7, 7e7])
    np.testing.assert_allclose(table.tokens, [1.4e9, 2e9])
    half = Table.read_csv(file, {"N": "params (M)*0.5", "D": "tokens_b*1e9"})
    np.testing.assert_allclose(half.parameters, [3.5e7, 35])
    np.testing.assert_allclose(half.tokens, [1.4e9, 2e9])


def test_few_tokens_are_noted(file):
    write(file, "params,tokens,loss", SIZES, TOKENS / 1e9, LOSS)
    assert "no run has more than 300 tokens" in Table.read_csv(file).notes[-2]


def test_named_columns_with_a_factor(file):
    write(file, "width,n,seen,ppl,nll", SIZES * 0 + 64, SIZES / 1e6, TOKENS, LOSS * 9, LOSS)
    table = Table.read_csv(file, {"N": "n*1e6", "D": "seen", "loss": "nll"})
    np.testing.assert_allclose(table.parameters, SIZES)
    np.testing.assert_allclose(table.loss, LOSS)
    assert set(table.extra) == {"width", "ppl"}
    fit = fit_chinchilla(table, Fitting(bootstraps=0))
    assert fit.parameters["alpha"] == pytest.approx(BESIROGLU["alpha"], rel=1e-3)


@pytest.mark.parametrize("missing", ["parameters", "tokens"])
def test_what_follows_from_flops(file, missing):
    known, name = (TOKENS, "tokens") if missing == "parameters" else (SIZES, "parameters")
    table = Table.read_csv(write(file, f"compute,{name},loss", 6 * SIZES * TOKENS, known, LOSS))
    np.testing.assert_allclose(table.parameters, SIZES)
    np.testing.assert_allclose(table.tokens, TOKENS)
    assert f"{missing} are FLOPs / 6" in " ".join(table.notes)


def test_runs_seeds_and_petaflop_days(file):
    flops = 6 * SIZES * TOKENS / 8.64e19
    write(
        file, "run,seed,N,D,flops (PF-days),loss", range(16), [0] * 16, SIZES, TOKENS, flops, LOSS
    )
    table = Table.read_csv(file)
    np.testing.assert_allclose(table.flops, 6 * SIZES * TOKENS)
    assert table.runs is not None and table.seeds is not None


def test_rows_that_lack_a_value(file):
    loss = [*LOSS[:14], "", "NaN"]
    write(file, "N,D,loss", SIZES, TOKENS, loss)
    with pytest.raises(LawError, match=r"line 16: 'loss' is empty.*skip_incomplete"):
        Table.read_csv(file)
    table = Table.read_csv(file, skip_incomplete=True)
    assert len(table) == 14 and "2 of 16 rows lack a value" in " ".join(table.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N,D,loss\n1e8,1e9\n", "line 2: 2 values for 3 columns"),
        ("N,D,loss\n1e8,x,3\n", "line 2: 'D' is 'x', which is no number"),
        ("N,N,loss\n1e8,1e8,3\n", "two columns 'N'"),
        ("N,D,loss\n", "has a header alone"),
        ("", "has no lines"),
        ("size,steps,acc\n1e8,2,3\n", "no column for tokens and flops and loss|loss"),
        ("N,D,loss\n0.07,1e9,3\n1.3,1e9,2\n", "parameters are 0.07 to 1.3; in which unit"),
        ("N,D,loss\n7e7,1,3\n1e9,30,2\n", "tokens are 1 to 30; in which unit"),
        ("N,D,loss\n7e7,1e9,45\n1e9,2e9,38\n", "Is it a perplexity"),
        ("N,D,C,loss\n7e7,1000,4.2e17,3\n1e9,2000,1.2e19,2\n", "times 6ND, so a unit is missing"),
        ("N,D,val_loss,train_loss\n7e7,1e9,3,3\n1e9,2e9,2,2\n", "loss may be 'val_loss' or 'train"),
        ("N,D,loss\n7e7,1e9,3\n-1e9,2e9,2\n", "line 3: 'N' is -1e9, and must be positive"),
        ('N,D,loss\n"7e7,1e9,3\n', "is not a table of values"),
    ],
)
def test_each_doubt_is_one_error(file, text, message):
    file.write_text(text)
    with pytest.raises(LawError, match=message):
        Table.read_csv(file)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"N": "size"}, "there is no column 'size'; there are N, D, loss"),
        ({"N": "N*x"}, "'x' must be a number"),
        ({"N": "N*-1"}, "factor must be positive"),
    ],
)
def test_columns_that_are_not_there(file, columns, message):
    write(file, "N,D,loss", SIZES, TOKENS, LOSS)
    with pytest.raises(LawError, match=message):
        Table.read_csv(file, columns)


def test_files_that_are_none(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(LawError, match="cannot be read"):
            Table.read_csv(path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfeN,D")
    with pytest.raises(LawError, match="not UTF-8"):
        Table.read_csv(tmp_path / "x.csv")
