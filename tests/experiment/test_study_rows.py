"""results.csv of a study: what is written comes back, what is damaged is refused by line."""

import re

import numpy as np
import pytest

from amtl_jax.experiment import study_rows
from amtl_jax.experiment.study_rows import HEADER, Row, RowsError, read_rows, write_rows

ROW = Row(
    "glass_blur_3", "glass_blur", 3, "a_mtrl", 0, 15000, 1, 4500, 400, 0.5, 1.0, 0.0, 2.5, 1.25
)
LINE = "glass_blur_3,glass_blur,3,a_mtrl,0,15000,1,4500,400,0.5,1.0,0.0,2.5,1.25"


def test_the_file_reads_as_the_specification_says(tmp_path):
    path = tmp_path / "new" / "results.csv"
    write_rows(path, [ROW, ROW._replace(round=2, auc=None, mse=1e-7)])
    assert path.read_text() == (
        "target,corruption,digit,arm,seed,budget,round,samples_total,target_samples,"
        "accuracy,balanced_accuracy,auc,mse,seconds\n"
        f"{LINE}\n"
        "glass_blur_3,glass_blur,3,a_mtrl,0,15000,2,4500,400,0.5,1.0,,0.0000001,1.25\n"
    )
    assert [child.name for child in path.parent.iterdir()] == ["results.csv"]


def test_rows_come_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        ROW._replace(
            seed=seed,
            arm=arm,
            accuracy=float(np.float32(rng.random())),
            mse=float(rng.random() * 10.0 ** rng.integers(-30, 30)),
            seconds=float(rng.random()),
        )
        for seed in range(50)
        for arm in ("target_only", 'my, "own".rules:best')
    ]
    write_rows(tmp_path / "results.csv", rows)
    assert read_rows(tmp_path / "results.csv") == rows


def test_numpy_numbers_are_written_as_numbers(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, [ROW._replace(seed=np.int32(0), budget=np.int64(15000), mse=np.float64(2.5))])
    assert read_rows(path) == [ROW]


@pytest.mark.parametrize("value", [np.nan, np.float32("nan"), np.inf, None])
def test_what_is_not_finite_is_an_empty_cell(tmp_path, value):
    path = tmp_path / "results.csv"
    write_rows(path, [ROW._replace(auc=value)])
    assert "nan" not in path.read_text()
    assert read_rows(path) == [ROW._replace(auc=None)]


def test_rows_of_other_programs_are_read(tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(f"{','.join(HEADER)}\r\n{LINE.replace('2.5', '2.5e-05')}\r\n".encode())
    assert read_rows(path) == [ROW._replace(mse=2.5e-5)]


def test_no_rows_are_a_study_that_has_not_begun(tmp_path):
    write_rows(tmp_path / "results.csv", [])
    assert read_rows(tmp_path / "results.csv") == []


def changed(name, cell):
    cells = LINE.split(",")
    cells[HEADER.index(name)] = cell
    return ",".join(cells)


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        ("digit", "3.0", "digit: expected a whole number from 0, got '3.0'"),
        ("digit", "٣", "digit: expected a whole number from 0"),
        ("seed", "-1", "seed: expected a whole number from 0, got '-1'"),
        ("seed", "1_000", "seed: expected a whole number"),
        ("seed", "9" * 5000, "seed: expected a whole number from 0, got '999"),
        ("budget", "0", "budget: expected a whole number from 1"),
        ("round", "0", "round: expected a whole number from 1"),
        ("target_samples", "", "target_samples: expected a whole number from 1, got ''"),
        ("accuracy", "nan", "accuracy: expected a share from 0 to 1 or nothing, got 'nan'"),
        ("accuracy", "93.5", "accuracy: expected a share from 0 to 1 or nothing, got '93.5'"),
        ("auc", "-0.1", "auc: expected a share"),
        ("mse", "1e999", "mse: expected a number from 0 or nothing, got '1e999'"),
        ("mse", " 1", "mse: expected a number from 0 or nothing, got ' 1'"),
        ("mse", "0x1p3", "mse: expected a number"),
        ("seconds", "", "seconds: expected a number from 0, got ''"),
        ("arm", "", "arm: expected a name of 1 to 200 printable characters"),
        ("arm", "a" * 201, "arm: expected a name"),
        ("arm", "\x1b[2J", "arm: expected a name"),
        ("arm", '"a\nb"', r"arm: expected a name .* got 'a\\nb'"),
        ("target", "fog_3", "expected target 'glass_blur_3' from its corruption and digit"),
        ("digit", "4", "expected target 'glass_blur_4' from its corruption and digit"),
        ("mse", "1,2", "expected 14 cells, got 15"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(tmp_path, name, cell, message):
    path = tmp_path / "results.csv"
    path.write_text(f"{','.join(HEADER)}\n{changed('arm', 'first')}\n{changed(name, cell)}\n")
    line = 3 + cell.count("\n")
    with pytest.raises(RowsError, match=f"{re.escape(str(path))}, line {line}.*{message}"):
        read_rows(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected a line end as the last byte"),
        (b"\n", "line 1: expected the header target,corruption.*got ''"),
        (b"round,target\n", "line 1: expected the header target,corruption.*got 'round,target'"),
        (",".join(HEADER[:-1]).encode() + b"\n", "line 1: expected the header"),
        (b"\xef\xbb\xbf" + ",".join(HEADER).encode() + b"\n", r"expected the header .*ufeff"),
        (f"{','.join(HEADER)}\n{LINE}".encode(), "the file was cut off"),
        (f"{','.join(HEADER)}\n{LINE}\n\n".encode(), "line 3: expected 14 cells, got 0"),
        (f'{",".join(HEADER)}\n"{LINE}\n'.encode(), "line 2: expected CSV"),
        (f"{','.join(HEADER)}\n{'a' * 200_000}\n".encode(), "line 2: expected CSV.*field limit"),
        (b"\xff\xfe\n", "expected UTF-8, got other bytes at byte 0"),
        (
            f"{','.join(HEADER)}\n{LINE}\n{changed('mse', '7')}\n".encode(),
            "line 3: expected each target, arm, .* once, got 'glass_blur_3, a_mtrl, 0, 15000, 400, "
            "1' again, which is on line 2",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, body, message):
    path = tmp_path / "results.csv"
    path.write_bytes(body)
    with pytest.raises(RowsError, match=message):
        read_rows(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(RowsError, match=r"results\.csv does not exist; expected the results"):
        read_rows(tmp_path / "results.csv")
    with pytest.raises(RowsError, match="is a folder; expected the results"):
        read_rows(tmp_path)


def test_a_file_beyond_the_limit_is_neither_read_nor_written(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    write_rows(path, [ROW])
    before = path.read_bytes()
    monkeypatch.setattr(study_rows, "_MAX_BYTES", len(before))
    assert read_rows(path) == [ROW]
    with pytest.raises(RowsError, match=f"expected at most {len(before)} bytes of rows, got"):
        write_rows(path, [ROW, ROW._replace(round=2)])
    assert path.read_bytes() == before
    monkeypatch.setattr(study_rows, "_MAX_BYTES", len(before) - 1)
    with pytest.raises(RowsError, match=f"expected a file of at most {len(before) - 1} bytes"):
        read_rows(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, ROW], "line 3: expected each target.*on line 2"),
        ([ROW._replace(target="fog_3")], "line 2: expected target 'glass_blur_3'"),
        ([ROW._replace(seconds=np.nan)], "line 2, seconds: expected a number from 0, got ''"),
        ([ROW._replace(arm="a\nb")], "line 2, arm: expected a name"),
        ([ROW._replace(accuracy=94.1)], "line 2, accuracy: expected a share"),
    ],
)
def test_what_would_not_be_read_is_not_written(tmp_path, rows, message):
    with pytest.raises(RowsError, match=message):
        write_rows(tmp_path / "results.csv", rows)
    assert not list(tmp_path.iterdir())


def test_a_fractional_round_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(TypeError):
        write_rows(tmp_path / "results.csv", [ROW._replace(round=1.5)])
