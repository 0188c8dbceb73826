"""Scaling: slopes of known power laws, rows as they were asked for, and the command as a whole."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks import head_ways, scaling, scaling_axes, slopes
from benchmarks.scaling_axes import DEVICES, Axis, Found, Problem, axes
from benchmarks.scaling_plots import write_plot
from benchmarks.slopes import Point, slope_of

ROOT = Path(__file__).parent.parent
VALUES = (10.0, 100.0, 1_000.0, 10_000.0)


def points(seconds, *, stored=(1.0, 1.0, 1.0, 1.0), operation="statistics"):
    return [
        Point("rows", operation, value, one, 1.5 * one, share)
        for value, one, share in zip(VALUES, seconds, stored, strict=True)
    ]


def found(seconds, smallest=1e-9, **changes):
    """An axis of statistics with known times."""
    axis = Axis(
        "rows",
        "rows",
        "M = 2",
        VALUES,
        lambda value: Problem(2, int(value), 3),
        ("statistics",),
        {"statistics": (0.9, 1.1)},
    )
    own = points(seconds)
    return Found(axis._replace(**changes), own, [slope_of(own, smallest)])


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.5])
def test_the_slope_of_a_power_law_is_its_power(power):
    one = slope_of(points([3e-6 * value**power for value in VALUES]), 1e-12)
    assert one.slope == pytest.approx(power, abs=1e-9)
    assert math.exp(one.offset) == pytest.approx(3e-6)
    assert one.of_stored == pytest.approx(power, abs=1e-9)
    assert one.used == VALUES


def test_points_that_the_call_dominates_are_left_out():
    launch = 1e-4
    seconds = [launch + 1e-6 * value for value in VALUES]
    one = slope_of(points(seconds), launch)
    assert one.used == (1_000.0, 10_000.0)
    assert 0.9 < one.slope < 1
    everything = slope_of(points(seconds), 1e-12)
    assert everything.used == VALUES
    assert everything.slope < 0.8
    assert slope_of(points([9.99e-4, 1e-3, 1e-3, 1e-3]), launch).used == VALUES[1:]


def test_too_few_points_have_no_slope():
    one = slope_of(points([1e-6, 1e-6, 1e-6, 1e-2]), 1e-4)
    assert math.isnan(one.slope)
    assert one.used == (10_000.0,)
    assert slopes.slope_text(one) == "too few points"


def test_padding_is_told_apart():
    stored = (4.0, 2.0, 1.5, 1.0)
    seconds = [1e-6 * value * share for value, share in zip(VALUES, stored, strict=True)]
    one = slope_of(points(seconds, stored=stored), 1e-12)
    assert one.of_stored == pytest.approx(1.0)
    assert one.slope == pytest.approx(0.81, abs=0.01)
    assert slopes.slope_text(one) == "0.81 (10 to 10,000, of stored rows 1.00)"


def test_what_is_outside_the_limits_is_said():
    assert scaling_axes.misses(found([1e-6 * value for value in VALUES])) == []
    steep = scaling_axes.misses(found([1e-6 * value**1.2 for value in VALUES]))
    assert steep == ["statistics: expected a slope of 0.9 to 1.1, got 1.20 (10 to 10,000)"]
    unknown = scaling_axes.misses(found([1e-6] * 4, smallest=1.0))
    assert unknown == ["statistics: expected a slope of 0.9 to 1.1, got too few points"]
    uneven = found([1.0, 1.1, 1.2, 1.0], limits={}, most_ratio=1.15)
    assert scaling_axes.misses(uneven) == [
        "statistics: expected at most 1.15 times the first point, got 1.20 at 1,000"
    ]
    assert scaling_axes.ratios(uneven) == [1.0, 1.1, 1.2, 1.0]


def test_a_table_has_a_line_a_value():
    text = scaling.markdown(found([1e-4, 1e-3, 1e-2, 1e-1], smallest=2e-5))
    assert text.splitlines() == [
        "rows: M = 2",
        "",
        "| rows | stored | statistics, ms |",
        "|---:|---:|---:|",
        r"| 10 | 1.00 | 0.100 \* |",
        "| 100 | 1.00 | 1.000 |",
        "| 1,000 | 1.00 | 10.000 |",
        "| 10,000 | 1.00 | 100.000 |",
        "| slope |  | 1.00 (100 to 10,000) |",
    ]
    text = scaling.markdown(found([1.0, 1.0, 1.2, 1.0], limits={}, most_ratio=1.15))
    assert "| 1,000 | 1.00 | 1,200.000 | 1.20 |" in text
    assert "| slope |  | 0.01 (10 to 10,000) |  |" in text
    assert text.endswith(
        "Outside the limits: statistics: expected at most 1.15 times the first point, got 1.20 at "
        "1,000."
    )


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_the_first_task_has_its_share_and_the_others_have_as_many(share):
    rows = head_ways.make_rows(50, 2, 10_000, largest=share)
    counts = np.diff(rows.first)
    assert counts.sum() == len(rows.x) == 10_000
    assert counts[0] == pytest.approx(10_000 * share, abs=50)
    assert np.ptp(counts[1:]) == 0


def test_axes_span_what_they_should():
    full = axes(quick=False)
    assert full["rows"].values[0] <= 10_000
    assert full["rows"].values[-1] == 1_000_000
    assert full["tasks"].values[-1] == 100_000
    assert (full["skew"].values[0], full["skew"].values[-1]) == (0.01, 0.5)
    for axis in full.values():
        assert list(axis.values) == sorted(axis.values)
        assert axis.name in ("skew", DEVICES) or axis.values[-1] >= 100 * axis.values[0]
        assert set(axis.limits) <= set(axis.operations)
    assert list(axes(quick=True)) == list(full)
    problem = full["tasks"].problem(100_000)
    assert (problem.num_tasks, problem.num_rows) == (100_000, 2_000_000)


def test_an_axis_is_measured_with_the_padding_of_its_blocks():
    axis = axes(quick=True)["rows"]._replace(
        values=(100, 2_000), problem=lambda value: Problem(4, int(value), 3), limits={}
    )
    measured = scaling_axes.measure(axis, rounds=2)
    assert [(point.operation, point.value) for point in measured.points] == [
        (operation, value) for operation in axis.operations for value in (100, 2_000)
    ]
    # 100 rows of 4 tasks: blocks of 16, at most 4 + 96 // 16 = 10 of them; and 2,000 rows: blocks
    # of 168, three for 500 of a task, at most 4 + 1,996 // 168 = 15.
    assert [point.stored for point in measured.points] == [1.6, 15 * 168 / 2000] * 3
    assert all(0 < point.seconds <= point.median for point in measured.points)
    assert [slope.operation for slope in measured.slopes] == list(axis.operations)


@pytest.mark.parametrize("most_ratio", [None, 1.15])
def test_a_figure_shows_the_points(tmp_path, most_ratio):
    path = write_plot(found([1e-4, 1e-3, 1e-2, 1e-1], 2e-5, most_ratio=most_ratio), tmp_path)
    assert path.name == "scaling_rows.png"
    pixels = imread(path)[..., :3]
    assert pixels.shape[0] > 400
    blue = np.asarray([0, 0x72, 0xB2]) / 255
    near = np.linalg.norm(pixels - blue, axis=-1) < 0.1
    rows, columns = np.nonzero(near)
    assert near.sum() > 300
    assert np.ptp(columns) > 0.5 * pixels.shape[1]
    assert np.ptp(rows) > 0.3 * pixels.shape[0]
    # Nothing is cut off: the margin is white.
    margin = np.concatenate([pixels[:, :3].ravel(), pixels[:, -3:].ravel(), pixels[-3:].ravel()])
    assert (margin == 1).all()


def test_the_command_prints_tables_draws_and_writes_json(tmp_path):
    out, plots = tmp_path / "scaling.json", tmp_path / "plots"
    command = ["-m", "benchmarks", "scaling", "--quick", "--rounds", "2", "--out", str(out)]
    command += ["--plots", str(plots)]
    told = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    result = json.loads(out.read_text(), parse_constant=pytest.fail)
    every = {name: axis for name, axis in axes(quick=True).items() if name != DEVICES}
    assert [one["axis"] for one in result["axes"]] == list(every)
    assert told.stdout.count("\n| slope |") == len(every)
    assert {path.name for path in plots.iterdir()} == {f"scaling_{name}.png" for name in every}
    for one in result["axes"]:
        axis = every[one["axis"]]
        assert len(one["points"]) == len(axis.values) * len(axis.operations)
        assert all(point["seconds"] > 0 for point in one["points"])
        assert one["outside"] == []
    assert result["machine"]["cores"] >= 1
    assert result["peak_bytes"] > 1e8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--axes", "colours"], "invalid choice: 'colours'"),
        (["--rounds", "0"], "--rounds expects at least 2, got 0."),
        (["--plots", __file__], "--plots expects a folder, got the file"),
    ],
)
def test_wrong_options_are_refused_in_a_line(words, message, capsys):
    with pytest.raises(SystemExit) as error:
        scaling.main(words)
    text = capsys.readouterr().err
    assert message in text
    assert len(text.splitlines()) == 1
    assert error.value.code == 2


def test_devices_share_the_rows_where_there_are_several(tmp_path):
    out = tmp_path / "devices.json"
    command = ["-m", "benchmarks", "scaling", "--quick", "--rounds", "2", "--axes", DEVICES]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, *command, "--out", str(out)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=300,
        env=os.environ | {"XLA_FLAGS": flags},
    )
    (axis,) = json.loads(out.read_text())["axes"]
    assert [point["value"] for point in axis["points"]] == [1, 2] * 3
    assert all(point["seconds"] > 0 for point in axis["points"])
