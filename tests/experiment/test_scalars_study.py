"""Scalars of a study: final metrics a unit, and what the arms have gained over uniform so far."""

import sys

import numpy as np
import pytest
from fake_wandb import FakeWandb
from mnist_c_files import write_archive

from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    EncoderConfig,
    MnistCConfig,
    StudyConfig,
    SyntheticConfig,
)
from amtl_jax.experiment.scalars.study import MeanDifferences, arm_scalars, written_study
from amtl_jax.experiment.study.driver import study
from amtl_jax.experiment.study.observer import StudyObserver
from amtl_jax.experiment.study.units import UnitResult, save_unit
from amtl_jax.experiment.study_rows import METRICS, Row
from amtl_jax.experiment.study_summary import summarise_study

TARGETS, ARMS, SEEDS, BUDGETS = ("fog_3", "fog_8", "scale_1"), ("uniform", "a_mtrl"), (0, 1), (4, 8)
CONFIG = Config(name="made_up", data=SyntheticConfig())


class Heard(StudyObserver):
    def __init__(self):
        self.units, self.texts = [], []

    def kept(self, rows):
        self.units.append(rows)

    def noted(self, text):
        self.texts.append(text)


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def unit(target, seed, budget, rng, undefined=()):
    """Rows of two rounds of both arms, in the order of a unit."""
    corruption, digit = target.split("_")
    return [
        Row(
            target=target,
            corruption=corruption,
            digit=int(digit),
            arm=arm,
            seed=seed,
            budget=budget,
            round=number,
            samples_total=budget * number // 2,
            target_samples=5,
            seconds=0.5 * number,
            **{m: None if m in undefined else float(rng.uniform(0.1, 0.9)) for m in METRICS},
        )
        for arm in ARMS
        for number in (1, 2)
    ]


@pytest.fixture
def units():
    rng = np.random.default_rng(0)
    return [
        unit(target, seed, budget, rng, undefined=("auc",) if target == "fog_8" else ())
        for budget in BUDGETS
        for seed in SEEDS
        for target in TARGETS
    ]


def told(workdir, units, names, shard=None, stop=False):
    """Tells units as the driver does; `stop` leaves without the end."""
    shown = Heard()
    with written_study(shown, names, workdir, CONFIG, shard) as observer:
        for rows in units:
            observer.kept(rows)
        if not stop:
            observer.ended("tables")
    return shown


def test_golden_differences():
    """Two units, one of which has no AUC: means are over what is there."""
    rng = np.random.default_rng(1)
    base, _, row, _ = unit("fog_3", 0, 4, rng)
    base, row = base._replace(mse=0.5, auc=0.5), row._replace(mse=0.25, auc=0.75)
    means = MeanDifferences()
    first = means.add(row, base)
    assert (first["difference_to_uniform/mse"], first["difference_to_uniform/auc"]) == (-0.25, 0.25)
    second = means.add(row._replace(mse=0.75, auc=None), base)
    assert (second["difference_to_uniform/mse"], second["difference_to_uniform/auc"]) == (0, 0.25)
    assert means.add(base, base) == {}
    assert MeanDifferences().add(row, None) == {}


def test_seconds_are_those_of_all_rounds():
    rows = unit("fog_3", 0, 4, np.random.default_rng(0))[:2]
    found = arm_scalars(rows)
    assert (found["seconds"], found["samples_total"]) == (1.5, 4)
    assert found["mse"] == rows[1].mse
    assert "auc" not in arm_scalars([rows[0]._replace(auc=None)])


def test_the_last_step_says_what_the_summary_says(tmp_path, units, wandb):
    told(tmp_path, units, ["wandb"])
    summary = summarise_study(
        [row for rows in units for row in rows],
        name="made_up",
        targets=TARGETS,
        arms=ARMS,
        budgets=BUDGETS,
        target_samples=(5,),
        seeds=SEEDS,
        num_resamples=20,
    )
    for cell in summary["cells"]:
        steps = wandb.history()[f"budget_{cell['budget']}-samples_5/a_mtrl"]
        assert list(steps) == [1, 2, 3, 4, 5, 6]
        compared = cell["arms"]["a_mtrl"]["difference"]["uniform"]
        for metric in METRICS:
            last = steps[6][f"difference_to_uniform/{metric}"]
            assert last == pytest.approx(compared[metric]["difference"], rel=1e-5)
    options = wandb.runs[-1].options
    assert {"arm": "a_mtrl", "budget": 8, "target_samples": 5}.items() <= options["config"].items()
    assert [one.exit_code for one in wandb.runs] == [0] * 4


def test_a_stopped_study_goes_on_where_it_was(tmp_path, units, wandb):
    told(tmp_path, units[:4], ["wandb"], stop=True)
    assert [one.exit_code for one in wandb.runs] == [1, 1]
    told(tmp_path, units, ["wandb"])
    found = {name: dict(steps) for name, steps in wandb.history().items()}
    assert len(wandb.calls) == len(set(wandb.calls)) == 2 * len(units)
    fresh = FakeWandb()
    sys.modules["wandb"] = fresh
    told(tmp_path / "other", units, ["wandb"])
    assert fresh.history() == found


def test_tensorboard_has_a_folder_an_arm_and_shard(tmp_path, units):
    pytest.importorskip("tensorboardX")
    shown = told(tmp_path, units[:1], ["tensorboard"], shard="2/3")
    assert shown.units == units[:1]
    told(tmp_path, units[:1], ["tensorboard"])
    for path in (tmp_path / "tensorboard/budget_4-samples_5").rglob("events.out.tfevents.*"):
        path.rename(path.with_name("events.out.tfevents.1.before.amtl"))  # in another second
    told(tmp_path, units[:2], ["tensorboard"])  # again: in place of the files before
    files = list((tmp_path / "tensorboard").rglob("events.out.tfevents.*"))
    folders = sorted(path.parent.relative_to(tmp_path / "tensorboard").as_posix() for path in files)
    assert folders == [
        "budget_4-samples_5/a_mtrl",
        "budget_4-samples_5/uniform",
        "shard_2_of_3/budget_4-samples_5/a_mtrl",
        "shard_2_of_3/budget_4-samples_5/uniform",
    ]


def test_without_names_nobody_listens(tmp_path):
    shown = Heard()
    with written_study(shown, (), tmp_path, CONFIG) as observer:
        assert observer is shown
    with (
        pytest.raises(ConfigError, match="--shard expects K/N"),
        written_study(shown, ["tensorboard"], tmp_path, CONFIG, "4/3"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_study_tells_every_unit_once_in_the_same_order(tmp_path, monkeypatch):
    """Computed or restored; what a context computes is made up, which saves half a minute."""

    def computed(stage, units, compiled):
        for one in units:
            rows = unit(one.target, one.seed, one.budget, rng)
            rows = [row._replace(target_samples=one.target_samples) for row in rows]
            result = UnitResult(tuple(rows), dict.fromkeys(ARMS, 0.5), {}, {}, "cpu")
            save_unit(stage.workdir, stage.fingerprint, one, result)  # as what computes it does
            yield one, result

    rng = np.random.default_rng(0)
    monkeypatch.setattr("amtl_jax.experiment.study.driver._run_context", computed)
    root = write_archive(tmp_path / "archive")
    config = Config(
        name="tiny_study",
        data=MnistCConfig(root=str(root), num_source=20, num_pool=20),
        num_target=10,
        budget=300,
        encoder=EncoderConfig(num_features=2),
        num_resamples=20,
        study=StudyConfig(targets=TARGETS, arms=ARMS, seeds=SEEDS),
    )
    first, again = Heard(), Heard()
    result = study(config, tmp_path / "study", observer=first)
    assert [row for rows in first.units for row in rows] == list(result.rows)
    last = first.units[-1][0]
    names = [(rows[0].seed, rows[0].target) for rows in first.units]
    assert sorted(names) == [(seed, target) for seed in SEEDS for target in sorted(TARGETS)]
    (lost,) = (tmp_path / "study/units").glob(f"{last.target}-*-seed_{last.seed}.ckpt")
    lost.unlink()
    study(config, tmp_path / "study", observer=again)
    assert [(rows[0].seed, rows[0].target) for rows in again.units] == names
    assert [*map(tuple, again.units[:-1])] == [*map(tuple, first.units[:-1])]
