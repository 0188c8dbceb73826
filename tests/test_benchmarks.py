"""The study of tables on a small made-up table."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import table_baselines, table_data, table_report, tables
from benchmarks.__main__ import main

KEY = jax.random.key(0)
STUDY = table_data.Study("clinic", ("pain", "sleep"), (8, 20), 160)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Five clinics of 40 rows: slopes alike, levels far apart."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(5), 40)
    x = rng.normal(size=(200, 4)) * [1, 10, 0.1, 1] + [0, 5, 0, 1]
    slopes = np.array([2.0, 0.2, 0, 1])
    pain = 20 * task + x @ slopes + 0.5 * rng.normal(size=200)
    sleep = -pain + 0.5 * rng.normal(size=200)
    path = tmp_path_factory.mktemp("table") / "clinics.csv"
    header = "clinic,age,dose,pain,gain,sleep,weight"
    rows = np.column_stack([task, x[:, :2], pain, x[:, 2], sleep, x[:, 3]])
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.6g")
    return path


@pytest.fixture(scope="module")
def rows(file):
    return table_data.read_rows(str(file), STUDY)


def test_a_larger_sample_holds_the_smaller_and_the_test_rows_stay(rows):
    small, large = (table_data.make_trial(rows, 2, 0, size, 20, seed=1) for size in STUDY.sizes)
    assert rows.x.shape == (200, 4), "labels and the task are no features"
    assert small.source.names == ("0", "1", "3", "4")
    np.testing.assert_array_equal(small.test_y, large.test_y)
    assert [len(small.x), len(large.x), len(small.test_y)] == [8, 20, 20]

    def labels(trial):
        return trial.offset[0] + trial.scale[0] * trial.y[:, 0]

    np.testing.assert_allclose(labels(small), labels(large)[:8], rtol=1e-5)
    own = rows.y[rows.task == 2, 0]
    seen = np.concatenate([labels(large), large.test_y])
    np.testing.assert_allclose(np.sort(seen), np.sort(own), rtol=1e-4)


def test_inputs_are_standardised_by_training_rows(rows):
    trial = table_data.make_trial(rows, 2, 0, 8, 20, seed=1)
    sources = trial.source.draw(KEY, trial.source.capacity)
    training = np.concatenate([sources.x, trial.x])
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(training.std(axis=0), 1, rtol=1e-4)


def test_pooled_ridge_with_many_intercepts_is_least_squares(rows):
    trial = table_data.make_trial(rows, 2, 0, 8, 20, seed=1)
    every = trial.source.draw(KEY, trial.source.capacity)
    x, y = np.concatenate([every.x, trial.x]), np.concatenate([every.y[:, 0], trial.y[:, 0]])
    own = np.eye(5)[np.concatenate([every.task, np.full(8, 4)])]
    solution = np.linalg.lstsq(np.hstack([x, own]), y)[0]
    expected = trial.test_x @ solution[:4] + solution[-1]
    found = table_baselines.pooled_own_level(trial, every)
    np.testing.assert_allclose(found, expected, atol=0.02)
    # One intercept for levels that are far apart leaves the whole level as an error.
    assert trial.error(table_baselines.pooled(trial, every)) > 50 * trial.error(found)


def test_independent_heads_are_ridges_of_single_sources(rows):
    trial = table_data.make_trial(rows, 2, 0, 8, 20, seed=1)
    bought = trial.source.draw(KEY, np.array([20, 12, 17, 11]))
    heads = table_baselines.independent_heads(trial, bought)
    # Slopes are alike and levels come from the target's sample: both are near the truth.
    assert trial.error(heads["mean"]) < 1.0 < trial.error(table_baselines.sample_mean(trial))
    assert trial.error(heads["best"]) < 1.5


def test_a_sample_that_leaves_no_test_row_is_refused(rows):
    with pytest.raises(ValueError, match="'2' has 40 rows: a sample of 40 leaves no test row"):
        table_data.make_trial(rows, 2, 0, 8, 40, seed=1)


def test_a_file_without_a_column_is_refused(file):
    with pytest.raises(ValueError, match=r"lacks the columns \['ward'\]"):
        table_data.read_rows(str(file), STUDY._replace(task_column="ward"))


def test_the_study_tells_good_methods_from_bad_ones(rows):
    study = STUDY._replace(sizes=(8,))  # its budget is every row: a round compiles once
    errors = tables.run_study(rows, study, num_features=2, every=2)[8]
    assert set(errors) == set(table_report.NAMES)
    assert all(error.shape == (3, 1) for error in errors.values())
    mean = {name: error.mean() for name, error in errors.items()}
    assert mean["uniform"] < 0.5 < 3.0 < min(mean["pooled"], mean["sample_mean"])
    assert mean["uniform"] < mean["target_only"]
    # Whoever buys all rows ends with the same ones.
    assert mean["l1_a_mtrl"] == pytest.approx(mean["uniform"], rel=1e-3)
    assert mean["every_row"] == pytest.approx(mean["uniform"], rel=0.05)


def test_the_report_counts_and_compares_by_target():
    reference = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    change = np.array([[-0.6, -0.4], [0.0, 0.02], [0.3, 0.3]])
    other = reference + change
    assert table_report.record(other.mean(axis=1), reference.mean(axis=1)) == (1, 1, 1)
    found = table_report.interval(change.mean(axis=1))
    assert found == pytest.approx((-0.19 / 3, -0.5, 0.3))
    text = table_report.markdown({"target_only": reference, "uniform": other, "pooled": reference})
    assert "| target-only ridge | 2.00 [1.00, 3.00] |  |  | +0.00 [+0.00, +0.00] |" in text
    assert "−0.06 [−0.50, +0.30] | 1 / 1 / 1 |" in text


def test_the_command_refuses_a_label_and_a_study_it_does_not_know(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="expects a study, one of tables"):
        main()
    with pytest.raises(SystemExit):
        tables.main(["--data", "school", "--path", "none.csv", "--label", "age"])
    assert "--label expects one of score, got age" in capsys.readouterr().err


def test_the_command_prints_tables_and_keeps_errors(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(table_data.STUDIES, "school", STUDY)
    found = {"target_only": np.ones((2, 1)), "pooled": np.ones((2, 1))}
    monkeypatch.setattr(tables, "run_study", lambda *args, **options: {8: found})
    out = tmp_path / "errors.json"
    tables.main(["--data", "school", "--path", str(file), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "### school, `pain`, 8 target rows" in printed
    assert "### school, `sleep`, 8 target rows" in printed
    assert json.loads(out.read_text())["sleep/8"]["pooled"] == [[1.0], [1.0]]
