"""The driver on tiny synthetic tasks: what it computes and what it writes."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_runs import (
    ARMS,
    BUDGETS,
    NUM_ROUNDS,
    files_of,
    metrics_of,
    tiny,
    without_seconds,
)

from amtl_jax.experiment import build, rounds
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.expectation import expectation_sentence
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.progress import Printer
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.run import run
from amtl_jax.experiment.versions import package_versions


def test_files(whole):
    workdir, summary, _ = whole
    names = {str(path.relative_to(workdir)) for path in files_of(workdir)}
    expected = {"config.json", "metrics.jsonl", "summary.json"}
    expected |= {"model/card.json", "model/arrays.npz"}
    for seed in (0, 1):
        for arm, number in NUM_ROUNDS.items():
            expected |= {f"checkpoints/seed_{seed}/{arm}/round_{i}.ckpt" for i in range(number)}
    assert names == expected
    config = json.loads((workdir / "config.json").read_text())
    assert (config["name"], config["budget"], config["fit"]["num_steps"]) == ("tiny", 200, 20)
    assert json.loads((workdir / "summary.json").read_text()) == summary


def test_metrics_lines(whole):
    lines = metrics_of(whole[0])
    places = [(line["seed"], line["strategy"], line["round"]) for line in lines]
    assert places == [(s, arm, i) for s in (0, 1) for arm in ARMS for i in range(NUM_ROUNDS[arm])]
    text = (whole[0] / "metrics.jsonl").read_text()
    for line in map(json.loads, text.splitlines()):
        fields = {"round", "strategy", "counts", "nu", "samples_total", "train_loss", "target"}
        assert fields | {"seconds", "seed"} <= set(line)
        assert line["seconds"] >= 0
        assert line["target"]["mse"] > 0
        assert line["target"]["excess_risk"] >= 0
        if line["strategy"] == "target_only":
            assert (line["counts"], line["nu"], line["samples_total"]) == ([], [], 0)
            assert line["train_loss"] is None
            continue
        assert len(line["counts"]) == len(line["nu"]) == 5
        assert sum(line["counts"]) == BUDGETS[line["round"]]
        assert line["samples_total"] == sum(BUDGETS[: line["round"] + 1])
        assert line["train_loss"] > 0
        assert line["relevance"]["ok"]


def test_arms_share_the_first_round_and_then_differ(whole):
    lines = metrics_of(whole[0])
    for seed in (0, 1):
        firsts = [x for x in lines if x["seed"] == seed and x["round"] == 0 and x["counts"]]
        assert len(firsts) == 4
        assert {tuple(line["counts"]) for line in firsts} == {(20,) * 5}
        assert len({(line["train_loss"], line["target"]["mse"]) for line in firsts}) == 1
        seconds = {tuple(x["counts"]) for x in lines if x["seed"] == seed and x["round"] == 1}
        assert len(seconds) == 4
        # The floor: 0.3 of a round so small, spread evenly.
        assert min(map(min, seconds)) >= 3
    assert lines[1]["train_loss"] != lines[14]["train_loss"]


def test_arms_see_the_same_target_rows(monkeypatch, tmp_path):
    seen, original = [], build.pack_campaign

    def spy(config, rows, target, num_sources):
        seen.append((len(rows.x), target))
        return original(config, rows, target, num_sources)

    monkeypatch.setattr(build, "pack_campaign", spy)
    run(tiny(seeds=(0,)), tmp_path, observer=Observer())
    targets = [target for number, target in seen if number]
    # And one that looks at the rank.
    assert len(targets) == 1 + 4 * 2 + 1
    for target in targets:
        np.testing.assert_array_equal(target.x, targets[0].x)
        np.testing.assert_array_equal(target.y, targets[0].y)


def test_summary(whole):
    _, summary, _ = whole
    assert list(summary["strategies"]) == list(ARMS)
    assert summary["seeds"] == [0, 1]
    assert summary["device"] == jax.devices()[0].device_kind
    assert summary["versions"] == package_versions()
    packages = {"amtl_jax", "jax", "jaxlib", "flax", "optax", "numpy"}
    assert set(summary["versions"]) - {"git revision"} == packages
    lines = metrics_of(whole[0])
    for arm, found in summary["strategies"].items():
        assert found["samples_total"] == (0 if arm == "target_only" else 200)
        ends = [x for x in lines if x["strategy"] == arm and x["round"] == NUM_ROUNDS[arm] - 1]
        assert found["target"]["mse"] == np.mean([end["target"]["mse"] for end in ends])
        bases = {"uniform", "target_only"} - {arm}
        assert set(found["difference"]) == bases
        for base in bases:
            interval = found["difference"][base]["mse"]
            assert interval["low"] <= interval["difference"] <= interval["high"]
            gap = found["target"]["mse"] - summary["strategies"][base]["target"]["mse"]
            assert interval["difference"] == pytest.approx(gap, abs=1e-5)
        tops = found["top_sources"]
        assert len(tops) == (0 if arm == "target_only" else 5)
        assert all(set(top) == {"name", "nu", "abs_nu"} for top in tops)
        assert [top["abs_nu"] for top in tops] == sorted((t["abs_nu"] for t in tops), reverse=True)
    errors = {arm: summary["strategies"][arm]["target_loo"] for arm in ARMS[1:]}
    assert summary["chosen_arm"] == min(errors, key=errors.get)


def test_lines_of_progress(whole):
    _, _, lines = whole
    assert "5 sources" in lines[0]
    assert len(lines) == 1 + 2 * 13 + 1
    assert all("top: source_" in line for line in lines[2:5])
    *tables, paid, last = lines[-1].splitlines()
    assert any("vs uniform" in line for line in tables)
    assert "target_only" in paid
    expected = whole[1]["expected"]
    assert set(expected["saved"]) == {"a_mtrl", "l1_a_mtrl", "c_optimal"}
    assert expected["least"] == pytest.approx(0.04 * 20**0.5)  # 20 rows of the target
    errors = {arm: found["target_loo"] for arm, found in whole[1]["strategies"].items()}
    for arm, share in expected["saved"].items():
        assert share == pytest.approx(1 - errors[arm] / errors["uniform"])
    assert last == expectation_sentence({"expected": expected})


@pytest.mark.parametrize(
    "bad", [Slot(0, "uniform", 0), Slot(0, "a_mtrl", 1), Slot(1, "uniform", 2)]
)
def test_round_that_is_not_finite(whole, tmp_path, monkeypatch, bad):
    original = rounds.teller

    def teller(setting, root, target):
        tell = original(setting, root, target)
        seed = 0 if (root == jax.random.key(0)) else 1

        def broken(slot, state):
            state, info = tell(slot, state)
            assert slot.seed == seed
            return state, info._replace(is_finite=info.is_finite & (slot != bad))

        return broken

    monkeypatch.setattr("amtl_jax.experiment.run.teller", teller)
    with pytest.raises(RunError) as error:
        run(tiny(), tmp_path, observer=Observer())
    message = str(error.value)
    assert f"Round {bad.index + 1} of {bad.arm}, seed {bad.seed}" in message
    assert "fit.penalty" in message
    assert "Earlier rounds are kept" in message
    assert "\n" not in message
    kept = len(list(tmp_path.rglob("*.ckpt")))
    assert (
        kept
        == len(metrics_of(tmp_path))
        == metrics_of(whole[0]).index(
            next(
                line
                for line in metrics_of(whole[0])
                if (line["seed"], line["strategy"], line["round"]) == bad
            )
        )
    )
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.undo()


def test_labels_beyond_float32_stop_the_run(tmp_path):
    config = tiny(data=dataclasses.replace(tiny().data, noise=1e30))
    with pytest.raises(RunError, match=r"Round 1 of .*not finite"):
        run(config, tmp_path, observer=Observer())


def test_only_target_only(tmp_path, whole):
    lines = []
    config = tiny(arms=("target_only",), num_resamples=7)
    summary = run(config, tmp_path, observer=Printer(lines.append)).summary
    assert summary["chosen_arm"] is None
    assert summary["strategies"]["target_only"]["difference"] == {}
    assert lines[-1].splitlines()[-1].startswith("Run the arms target_only and one that buys")
    assert metrics_of(tmp_path) == [x for x in metrics_of(whole[0]) if not x["counts"]]


def test_seeds_can_be_run_apart(whole, tmp_path):
    """A seed's numbers do not depend on which seeds run beside it."""
    run(tiny(seeds=(1,)), tmp_path, observer=Observer())
    assert metrics_of(tmp_path) == [line for line in metrics_of(whole[0]) if line["seed"] == 1]


def test_order_of_arms_does_not_matter(whole, tmp_path):
    run(tiny(seeds=(0,), arms=(ARMS[1], ARMS[0], *ARMS[2:])), tmp_path)
    wanted = [line for line in metrics_of(whole[0]) if line["seed"] == 0]
    assert sorted(metrics_of(tmp_path), key=str) == sorted(wanted, key=str)


def test_one_arm_alone_by_variable_projection(tmp_path):
    fit = dataclasses.replace(tiny().fit, method="variable_projection")
    config = tiny(fit=fit, arms=("uniform",), seeds=(5,))
    lines = []
    first = run(config, tmp_path, observer=Printer(lines.append)).summary
    assert np.isfinite(first["strategies"]["uniform"]["target"]["mse"])
    assert first["strategies"]["uniform"]["difference"] == {}
    assert first["chosen_arm"] == "uniform"
    assert lines[-1].splitlines()[-1].startswith("Run the arms target_only and one that buys")
    (tmp_path / "checkpoints/seed_5/uniform/round_1.ckpt").unlink()
    again = run(config, tmp_path, observer=Observer()).summary
    assert without_seconds(again) == without_seconds(first)


def test_budget_that_goes_beyond_the_capacity(monkeypatch, tmp_path):
    class Small(build.SyntheticSource):
        def __init__(self, truth):
            super().__init__(truth, capacity=30)

    monkeypatch.setattr(build, "SyntheticSource", Small)
    with pytest.raises(ConfigError, match="beyond the sources' capacity of 150"):
        run(tiny(budget=160), tmp_path / "new", observer=Observer())
    assert not (tmp_path / "new").exists()
