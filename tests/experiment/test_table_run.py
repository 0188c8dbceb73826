"""From a table file to a model: what `amtl run table` does, and what it refuses."""

import dataclasses
import json

import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.experiment.build import build_problem, pack_campaign
from amtl_jax.experiment.config import Config, EncoderConfig, FitConfig, TableConfig, from_plain
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.preview import preview
from amtl_jax.experiment.progress import Printer
from amtl_jax.experiment.run import run

ROWS, SITES, INPUTS = 40, 6, 4
ARMS = ("target_only", "pooled", "l1_a_mtrl")


def columns(*, seed=0):
    """Sites that share one direction of the inputs, and a colour that matters a little."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(SITES), ROWS)
    x = rng.normal(size=(len(site), INPUTS))
    colour = rng.integers(0, 2, size=len(site))
    slope = 10 * (1 + 0.3 * rng.normal(size=SITES))
    score = 50 + slope[site] * x[:, 0] + 3 * colour + rng.normal(size=len(site))
    table = {f"x{index}": x[:, index] for index in range(INPUTS)}
    table["colour"] = np.array(["blue", "red"])[colour]
    table["site"] = np.char.add("s", site.astype(str))
    return table | {"score": score}


def write_csv(path, table):
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values()))]
    path.write_text("\n".join(lines) + "\n")
    return path


def config_of(path, **data):
    data = {"task_column": "site", "target_task": "s2", "label": ("score",)} | data
    return Config(
        name="sites",
        data=TableConfig(path=str(path), **data),
        num_target=None,
        budget=None,
        schedule=(0.5, 0.5),
        arms=ARMS,
        encoder=EncoderConfig(num_features=2),
        fit=FitConfig(num_steps=20, penalties=(1e-1, 1e-2)),
        num_resamples=50,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    path, lines = write_csv(folder / "sites.csv", columns()), []
    run(config_of(path), folder / "run", observer=Printer(lines.append))
    return folder, path, lines


def test_a_run_on_a_table_ends_with_an_answer_in_its_units(finished):
    folder, _, lines = finished
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert list(summary["strategies"]) == list(ARMS)
    assert summary["strategies"]["pooled"]["samples_total"] == 5 * ROWS
    assert summary["strategies"]["l1_a_mtrl"]["samples_total"] == 5 * ROWS / 2
    answer = summary["answer"]
    assert answer["target"]["r2"] > 0.9
    assert answer["target"]["mse"] < 5  # of labels with a variance of 100
    assert set(answer["difference"]) == {"target_only", "pooled"}
    last = lines[-1].splitlines()
    assert last[-1].startswith(("The sources", "Whether"))  # without uniform nothing is expected
    assert summary["expected"] is None
    assert "effective rank" in last[-2]
    assert any(line.startswith("answer ") for line in last)
    assert not any("R² vs" in line for line in last)


def test_its_model_reads_new_rows_in_any_order(finished, tmp_path):
    folder, *_ = finished
    model = amtl.load(folder / "run")
    fresh = columns(seed=1)
    del fresh["score"], fresh["site"]
    predicted = model.predict(fresh)
    truth = 50 + 10 * fresh["x0"] + 3 * (fresh["colour"] == "red")
    assert np.corrcoef(predicted, truth)[0, 1] > 0.95
    assert np.abs(predicted - truth).mean() < 6
    turned = write_csv(tmp_path / "turned.csv", dict(reversed(fresh.items())) | {"more": truth})
    np.testing.assert_array_equal(model.predict(turned), predicted)
    assert amtl.predict_file(folder / "run", turned, tmp_path / "out.npz") == len(truth)
    with np.load(tmp_path / "out.npz") as written:
        np.testing.assert_array_equal(written["prediction"], predicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": None}, "no column 'colour'"),
        ({"x1": np.full(SITES * ROWS, np.inf)}, "row 1.*'?x1'?|'x1'.*row 1"),
        ({"x1": np.full(SITES * ROWS, "high")}, "x1"),
        ({"colour": np.full(SITES * ROWS, "green")}, "green"),
    ],
)
def test_rows_that_do_not_fit_the_model(finished, change, message):
    model = amtl.load(finished[0] / "run")
    table = {name: value for name, value in (columns() | change).items() if value is not None}
    with pytest.raises(amtl.TableError, match=message):
        model.predict(table)


def test_predicting_into_a_file_of_another_kind_writes_nothing(finished, tmp_path):
    with pytest.raises(amtl.ConfigError, match=r"must end in \.csv, \.parquet, \.npz"):
        amtl.predict_file(finished[0] / "run", finished[1], tmp_path / "out.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_as_a_table(finished, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    amtl.predict_file(finished[0] / "run", finished[1], out)
    found = amtl.read_table(out).columns["prediction"].values
    np.testing.assert_allclose(
        found, amtl.load(finished[0] / "run").predict(finished[1]), rtol=1e-6
    )


def test_a_workdir_knows_the_table_that_it_was_made_from(finished, tmp_path):
    folder, path, _ = finished
    config = config_of(path)
    found = load_config(str(folder / "run" / "config.json"))
    assert found == config
    changed = write_csv(tmp_path / "sites.csv", columns(seed=2))
    body = path.read_bytes()
    try:
        path.write_bytes(changed.read_bytes())
        with pytest.raises(amtl.ConfigError, match="data_sha256"):
            run(config, folder / "run")
    finally:
        path.write_bytes(body)


def test_a_dry_run_counts_what_a_table_leaves_open(finished):
    found = preview(config_of(finished[1]))
    assert (found.num_target, found.num_test) == (28, 12)
    assert sum(found.budgets) == 5 * ROWS / 2


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ({"path": "missing.csv"}, {}, "missing.csv' does not exist"),
        ({"path": None}, {}, "one of data.path"),
        ({"shipped": "auto_mpg"}, {}, "got both"),
        ({"target_task": None}, {}, "data.target_task must name"),
        ({"target_task": "s22"}, {}, "s22"),
        ({"task_column": None}, {}, "data.task_column must name"),
        ({"task_column": "sites"}, {}, "sites"),
        ({"label": ("score", "score")}, {}, "must be distinct"),
        ({"label": ("x0",), "features": ("x0",)}, {}, "cannot be label and feature"),
        ({"test_share": 1.5}, {}, "data.test_share must be between 0 and 1"),
        ({"test_share": 0.99}, {}, "2 .*are needed|rows"),
        ({"paid": "row"}, {}, "data.paid row is for several labels"),
        ({"kind": "binary"}, {}, "score"),
        ({}, {"num_target": 29}, "num_target is 29, but the target has 28 rows"),
        ({"label_scale": "task"}, {"num_target": 20}, "data.label_scale task takes"),
        ({}, {"budget": 10**6}, "budget"),
        ({}, {"encoder": EncoderConfig(kind="conv")}, "conv is for images"),
        ({}, {"encoder": EncoderConfig(num_features=9)}, "at most 5 features|at most 6 features"),
    ],
)
def test_configs_that_do_not_fit_the_table(finished, tmp_path, data, changes, message):
    config = dataclasses.replace(config_of(finished[1]), **changes)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_table_config_goes_through_json(finished):
    from amtl_jax.experiment.config import to_plain

    config = config_of(finished[1], prices="prices.csv")
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config


def test_prices_from_a_file(finished, tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("task,price\n" + "".join(f"s{site},{site + 1}\n" for site in range(SITES)))
    problem = build_problem(config_of(finished[1], prices=str(prices)))
    assert dict(zip(problem.source.names, problem.source.price)) == {
        "s0": 1, "s1": 2, "s3": 4, "s4": 5, "s5": 6,
    }  # fmt: skip
    assert problem.budget == ROWS * (1 + 2 + 4 + 5 + 6) / 2
    for text, message in [
        ("task,cost\ns0,1\n", "columns task and price"),
        ("task,price\ns0,1\ns0,1\n", "twice"),
        ("task,price\ns0,0\n", "above 0"),
        ("task,price\ns0,1\n", "s1"),
    ]:
        prices.write_text(text)
        with pytest.raises(amtl.TableError, match=message):
            build_problem(config_of(finished[1], prices=str(prices)))


def test_labels_of_a_row_that_are_paid_once(tmp_path):
    """Two labels a row, some missing: counts are equal in a group, and a row is paid once."""
    table = columns()
    table["other"] = np.round(table["score"] / 2, 3).astype(str)
    table["other"][np.arange(0, SITES * ROWS, 7)] = ""
    path = write_csv(tmp_path / "wide.csv", table)
    config = config_of(path, label=("score", "other"), target_task="s2/score", paid="row")
    config = dataclasses.replace(config, num_target=20, budget=60)
    problem = build_problem(config)
    assert len(problem.source.names) == 2 * (SITES - 1)
    assert len(np.unique(problem.source.group)) == SITES - 1
    result = run(config, tmp_path / "run")
    totals = {}
    for row in result.counts_table("l1_a_mtrl"):
        totals[row["source"]] = totals.get(row["source"], 0) + row["samples"]
    groups = {site: (totals[f"{site}/score"], totals[f"{site}/other"]) for site in ("s0", "s5")}
    assert all(first == second for first, second in groups.values())
    assert sum(count for name, count in totals.items() if name.endswith("score")) == 60
    import jax

    counts = np.full(len(problem.source.names), 7)
    rows = problem.source.draw(jax.random.key(0), counts)
    assert 0 < (rows.weight == 0).sum() < len(rows.weight) / 4
    batch = pack_campaign(config, rows, problem.draw_target(jax.random.key(1)), problem.source)
    assert int((batch.weight > 0).sum()) == int((rows.weight > 0).sum()) + 20


def test_classes_of_text(tmp_path):
    table = columns()
    table["score"] = np.array(["low", "middle", "high"])[np.digitize(table["score"], (45, 57))]
    path = write_csv(tmp_path / "classes.csv", table)
    result = run(config_of(path), tmp_path / "run")
    assert result.summary["answer"]["target"]["accuracy"] > 0.6
    model = result.load_model()
    assert model.classes == ("high", "low", "middle")
    assert model.scores(path).shape == (SITES * ROWS, 3)
    right = model.predict(path) == table["score"]
    assert right.mean() > 0.6
    amtl.predict_file(tmp_path / "run", path, tmp_path / "out.csv")
    head = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert head == "prediction,score_high,score_low,score_middle"


def test_large_offsets_keep_their_digits(tmp_path):
    """Seconds since 1970: float32 holds steps of 128, and errors must not feel them."""
    table = columns()
    table["score"] = 1.7e9 + 10 * table["score"]
    path = write_csv(tmp_path / "seconds.csv", table)
    result = run(config_of(path), tmp_path / "run")
    target = result.summary["answer"]["target"]
    assert 50 < target["mse"] < 500  # noise of 10 seconds
    assert target["r2"] > 0.9
    predicted = result.load_model().predict(path)
    mine = table["site"] == "s2"
    assert np.std(predicted[mine] - table["score"][mine]) < 20
