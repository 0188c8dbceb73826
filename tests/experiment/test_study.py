"""A study of a tiny archive: whole, resumed, in shards, and what it refuses."""

import dataclasses
import re
import sys
from pathlib import Path

import chex
import numpy as np
import pytest
from mnist_c_files import write_archive

from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    EncoderConfig,
    FitConfig,
    MnistCConfig,
    StudyConfig,
)
from amtl_jax.experiment.loading import load
from amtl_jax.experiment.page.writing import write_report
from amtl_jax.experiment.study import field as field_module
from amtl_jax.experiment.study import outputs, uniform_rounds
from amtl_jax.experiment.study.driver import study
from amtl_jax.experiment.study.grid import Shard
from amtl_jax.experiment.study.observer import StudyObserver
from amtl_jax.experiment.study_rows import read_rows
from amtl_jax.experiment.workdir import claim, refuse_other

ARMS = ("target_only", "uniform", "alignment", "same_digit", "all_data", "clairvoyant")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = write_archive(tmp_path_factory.mktemp("archive"))
    return Config(
        name="tiny_study",
        data=MnistCConfig(root=str(root), num_source=20, num_pool=20),
        num_target=10,
        budget=600,
        schedule=(0.5, 0.5),
        encoder=EncoderConfig(num_features=3),
        fit=FitConfig(num_steps=5, penalties=(1e-2, 1e-3)),
        num_resamples=50,
        study=StudyConfig(targets=("fog_3", "fog_8", "scale_1"), arms=ARMS),
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, study(config, workdir)


def without_seconds(rows):
    return [row._replace(seconds=0.0) for row in rows]


def test_a_study_writes_what_it_found(whole, config):
    workdir, result = whole
    rows = read_rows(workdir / "results.csv")
    assert tuple(rows) == result.rows
    last = {(row.target, row.arm): row for row in rows}
    assert set(last) == {(target, arm) for target in config.study.targets for arm in ARMS}
    spent = {arm: last["fog_3", arm].samples_total for arm in ARMS}
    assert spent == {
        "target_only": 0,
        "uniform": 600,
        "alignment": 600,
        "same_digit": 600,
        "all_data": 15 * 20 * 10,
        "clairvoyant": 600,
    }
    buying = ("uniform", "alignment", "same_digit")
    for target in config.study.targets:  # it has the numbers of one of them, not always the best's
        assert last[target, "clairvoyant"].mse in [last[target, arm].mse for arm in buying]
    assert [row.samples_total for row in rows if (row.target, row.arm) == ("fog_3", "uniform")] == [
        300,
        600,
    ]
    # The first round of a rule that has seen nothing is that of uniform.
    first = {row.arm: row for row in rows if row.target == "fog_3" and row.round == 1}
    assert first["alignment"].mse == pytest.approx(first["uniform"].mse, rel=1e-4)
    assert result.summary["units"] == {"done": 3, "of": 3}
    charged = sum(row.seconds for row in rows if row.arm != "clairvoyant")
    assert result.summary["seconds"] == pytest.approx(charged, abs=0.01)
    counts = result.arrays["counts/alignment"]
    np.testing.assert_array_equal(counts.sum(axis=2), [[300, 300]] * 3)
    own = [name.startswith("fog_") for name in result.arrays["tasks"]]
    fog = result.arrays["targets"].tolist().index("fog_3")
    assert (counts[fog][:, own] == 0).all()


def test_a_resumed_study_ends_with_the_same_numbers(whole, config, tmp_path):
    _, result = whole

    class Stopped(Exception):
        pass

    def stop(done, of):
        if done == 2:
            raise Stopped

    workdir = tmp_path / "stopped"
    observer = StudyObserver()
    observer.finished = stop
    with pytest.raises(Stopped):
        study(config, workdir, observer=observer)
    # The two targets of fog are computed side by side: the other one may be there or not.
    for path in (workdir / "units").glob("fog_8*"):
        path.unlink()
    names = sorted(path.name for path in (workdir / "units").iterdir())
    assert [name[:5] for name in names] == ["fog_3", "scale"]
    assert len(list((workdir / "contexts").glob("fog-budget*"))) == 1
    again = study(config, workdir)
    assert without_seconds(again.rows) == without_seconds(result.rows)
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_a_study_that_stopped_can_be_looked_at(whole, config, tmp_path, monkeypatch):
    _, result = whole

    class Stopped(Exception):
        pass

    def stop(done, of):
        if done == 2:  # the files are written after a unit is told
            raise Stopped

    monkeypatch.setattr(outputs, "_PAUSE", 0.0)
    monkeypatch.setattr(outputs, "_REST", 0.0)
    workdir = tmp_path / "stopped"
    observer = StudyObserver()
    observer.finished = stop
    asked = dataclasses.replace(config.study, budgets=(600, 900))
    with pytest.raises(Stopped):
        study(dataclasses.replace(config, study=asked), workdir, observer=observer)
    rows = without_seconds(read_rows(workdir / "results.csv"))
    assert rows == [row for row in without_seconds(result.rows) if row.target == "scale_1"]
    page = write_report([workdir]).page.read_text()
    assert "1 of 6 units" in page
    # The pictures are of the budget that is there, not of the largest that was asked for.
    assert "No arm of this study chooses" not in page
    assert "holds no predictions" not in page


def test_files_are_written_about_once_a_minute_and_for_a_twentieth_of_the_time(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(outputs.time, "monotonic", lambda: now[0])

    def write(_):
        calls.append(now[0])
        now[0] += 1 if len(calls) == 1 else 10

    monkeypatch.setattr(outputs, "study_result", lambda stage, results: None)
    monkeypatch.setattr(outputs, "write_outputs", write)
    written = outputs.WhileItRuns(None)
    for second in (0, 59, 60, 100, 120, 121, 330, 331, 332):
        now[0] = second
        written({})
    assert calls == [60, 121, 331]


def test_shards_make_up_the_study_and_a_damaged_unit_is_made_anew(whole, config, tmp_path):
    workdir = tmp_path / "shards"
    study(config, workdir, shard="2/2")
    assert len(list((workdir / "units").iterdir())) == 2  # whole contexts: both of fog
    result = study(config, workdir, shard="1/2")
    assert without_seconds(result.rows) == without_seconds(whole[1].rows)
    path = next((workdir / "units").glob("scale_1*"))
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    with pytest.warns(UserWarning, match="computed again"):
        mended = study(config, workdir)
    assert without_seconds(mended.rows) == without_seconds(whole[1].rows)


def test_campaigns_at_once_are_those_of_one_each(whole, config, tmp_path):
    several = dataclasses.replace(config, study=dataclasses.replace(config.study, batch=2))
    result = study(several, tmp_path / "batched")
    for one, other in zip(result.rows, whole[1].rows, strict=True):
        assert one.key == other.key
        assert one.mse == pytest.approx(other.mse, rel=1e-2)


def test_a_shard_with_nothing_to_compute_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"^--shard 3/3 has nothing to compute.*one has 2 of"):
        study(config, tmp_path / "study", shard="3/3")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": StudyConfig(targets=("fog_12",))}, "no task 'fog_12'"),
        ({"study": StudyConfig(target_samples=(21,))}, "at most 20"),
        ({"study": StudyConfig(arms=("no_module:rule",))}, "cannot find 'no_module:rule'"),
        ({"study": StudyConfig(arms=("math:pi",))}, "is float"),
        ({"target_in_final_fit": True}, "share the fits"),
        ({"price": "shared"}, "same_digit cannot favour"),
        ({"rounds": "last", "study": StudyConfig(arms=("c_optimal",))}, "c_optimal plans for all"),
    ],
)
def test_what_a_study_cannot_do_is_said_before_anything_is_written(
    config, tmp_path, changes, message
):
    with pytest.raises(ConfigError, match=message):
        study(dataclasses.replace(config, **changes), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_study_of_last_rounds_charges_them_alone(config, tmp_path):
    asked = StudyConfig(targets=("fog_3",), arms=("uniform", "a_mtrl"))
    changes = {"rounds": "last", "schedule": (0.25, 0.75), "study": asked}
    result = study(dataclasses.replace(config, **changes), tmp_path / "study")
    spent = [(row.arm, row.round, row.samples_total) for row in result.rows]
    assert spent == [(arm, *one) for arm in asked.arms for one in ((1, 150), (2, 450))]
    for arm in asked.arms:  # what was bought is more: exploration is not charged
        np.testing.assert_array_equal(result.arrays[f"counts/{arm}"].sum(axis=2), [[150, 450]])


def test_a_study_of_shared_prices_buys_whole_images(config, tmp_path):
    asked = StudyConfig(targets=("fog_3",), arms=("uniform", "alignment"))
    result = study(
        dataclasses.replace(config, price="shared", budget=200, study=asked), tmp_path / "study"
    )
    assert [row.samples_total for row in result.rows] == [100, 200] * 2
    counts = result.arrays["counts/alignment"][0].reshape(2, 16, 10)
    np.testing.assert_array_equal(counts, np.broadcast_to(counts[:, :, :1], counts.shape))
    np.testing.assert_array_equal(counts[:, :, 0].sum(axis=1), [100, 100])
    names = result.arrays["tasks"].tolist()
    assert (counts.reshape(2, 160)[:, [name.startswith("fog_") for name in names]] == 0).all()


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("penalty", [None, 1e-3])
def test_uniform_has_the_fits_of_a_rule_that_buys_evenly(config, tmp_path, warm_start, penalty):
    """Arms that buy the same end the same, or none is compared fairly."""
    asked = StudyConfig(targets=("fog_3", "scale_1"), arms=("uniform", "amtl_jax:uniform"))
    fit = FitConfig(
        num_steps=30,
        tolerance=1e-2,
        window=3,
        penalty=penalty,
        warm_start=warm_start,
        penalties=(1e-2, 1e-3, 1e-4),
    )
    changed = dataclasses.replace(config, fit=fit, schedule=(0.3, 0.3, 0.4), study=asked)
    rows = study(changed, tmp_path / "study").rows
    even, ruled = ([row for row in rows if row.arm == arm] for arm in asked.arms)
    assert len(even) == len(ruled) == 6
    for one, other in zip(even, ruled, strict=True):
        assert (one.target, one.round) == (other.target, other.round)
        assert other.mse == pytest.approx(one.mse, rel=1e-5)


def test_a_given_penalty_lets_uniform_go_through_its_rounds_in_order(config, tmp_path, monkeypatch):
    begun, ended = [], []

    def fit_sources(field, arm, index, cases):
        (fit,) = field_module.fit_sources(field, arm, index, cases)
        begun.append((index, cases[0][0].params))
        ended.append(fit.fit.params)
        return [fit]

    monkeypatch.setattr(uniform_rounds, "fit_sources", fit_sources)
    changes = {"schedule": (0.3, 0.3, 0.4), "fit": FitConfig(num_steps=2, penalty=1e-4)}
    asked = StudyConfig(targets=("fog_3",), arms=("uniform",))
    study(dataclasses.replace(config, study=asked, **changes), tmp_path / "study")
    assert [index for index, _ in begun] == [0, 1, 2]
    for (_, start), end in zip(begun[1:], ended[:-1], strict=True):
        chex.assert_trees_all_equal(start, end)


def test_the_rule_of_ones_own_in_the_docs_is_an_arm(config, tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "mnist_c.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    changed = dataclasses.replace(
        config,
        num_target=20,
        budget=1800,
        schedule=(0.8, 0.2),
        fit=FitConfig(num_steps=20, penalty=1e-4),
        study=StudyConfig(targets=("fog_3",), arms=("uniform", "mine:best_aligned")),
    )
    first, second = study(changed, tmp_path / "study").arrays["counts/mine:best_aligned"][0]
    assert set(first[first > 0]) == {9, 10}
    assert (first + second == 20).sum() == 15  # all that the chosen ones have


@pytest.mark.parametrize("place", ["mine.py", "rules/mine.py", "rules/deep/mine.py"])
def test_a_study_belongs_to_the_code_of_ones_own_strategy(config, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    path, workdir = tmp_path / place, tmp_path / "study"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import amtl_jax\nrule = amtl_jax.a_mtrl\n")
    arm = f"{place.removesuffix('.py').replace('/', '.')}:rule"
    asked = dataclasses.replace(config, study=StudyConfig(arms=("uniform", arm, "nowhere.at:all")))
    workdir.mkdir()
    claim(workdir, asked)
    refuse_other(workdir, asked, "study")
    assert load(str(workdir / "config.json")).config == asked
    path.write_text(path.read_text().replace("a_mtrl", "l1_a_mtrl"))
    with pytest.raises(ConfigError, match=r"arms_sha256\.\S*mine:rule: there .*, here "):
        refuse_other(workdir, asked, "study")


def test_a_study_and_a_run_have_a_folder_each(whole, config, tmp_path):
    workdir, _ = whole
    with pytest.raises(ConfigError, match=r"holds a study\. A run needs a folder"):
        refuse_other(workdir, config)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"holds a run\. A study needs a folder"):
        study(config, tmp_path)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_shards_that_are_none(text):
    with pytest.raises(ConfigError, match="--shard expects K/N"):
        Shard.parse(text)
    assert Shard.parse(None) == Shard(1, 1)
