"""The options `--tensorboard` and `--wandb`: nothing unless asked for, and errors in one line."""

import sys

import pytest
from fake_wandb import FakeWandb
from tiny_runs import TINY, assert_same_results, files_of
from written_scalars import events_of, expected

from amtl_jax import cli
from amtl_jax.experiment.study_rows import Row


def test_without_the_options_neither_is_imported(whole, copied, monkeypatch, capsys):
    """None in sys.modules makes an import fail, and a plain run does not."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = copied.parent / "tiny.py"
    config.write_text(TINY)
    before = files_of(copied).keys()
    assert cli.main(["run", str(config), "--workdir", str(copied)]) == 0
    assert files_of(copied).keys() == before
    assert_same_results(copied, whole[0])


@pytest.mark.parametrize(
    ("option", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")]
)
@pytest.mark.parametrize("command", ["run", "study"])
def test_a_missing_package_is_one_line_that_names_the_extra(
    command, option, package, tmp_path, monkeypatch, capsys
):
    for name in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    workdir = tmp_path / "new"
    name = "digits_c" if command == "study" else "synthetic"
    assert cli.main([command, name, "--workdir", str(workdir), f"--{option}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"--{option} needs the package {package}" in err
    assert f'pip install "amtl-jax[{option}]"' in err
    assert not workdir.exists()


def test_without_a_key_nothing_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    fake = FakeWandb(has_key=False)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    workdir = tmp_path / "new"
    assert cli.main(["run", "synthetic", "--workdir", str(workdir), "--wandb"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "wandb login" in err
    assert "WANDB_MODE=offline" in err
    assert not workdir.exists()


def test_offline_asks_for_no_key(copied, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    fake = FakeWandb(offline=True, has_key=False)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = copied.parent / "tiny.py"
    config.write_text(TINY)
    assert cli.main(["run", str(config), "--workdir", str(copied), "--wandb"]) == 0
    assert fake.logins == 0
    assert fake.history() == expected(copied)


@pytest.mark.parametrize("command", ["run", "study"])
def test_help_names_the_options(command, capsys):
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--tensorboard" in out
    assert "--wandb" in out
    assert "WORKDIR/tensorboard" in out


def test_a_study_hands_its_units_to_the_writers(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    row = Row("fog_3", "fog", 3, "uniform", 0, 600, 1, 600, 10, 0.9, 0.8, 0.7, 0.1, 1.5)

    def study(config, workdir, *, observer, **_):
        observer.kept([row])
        observer.ended("tables")

    monkeypatch.setattr("amtl_jax.experiment.study.driver.study", study)
    words = ["study", "digits_c", "--shard", "2/3", "--tensorboard", "--workdir", str(tmp_path)]
    assert cli.main(words) == 0
    found = events_of(tmp_path / "tensorboard")
    (((step, values),),) = found.values()
    assert list(found) == ["shard_2_of_3/budget_600-samples_10/uniform"]
    assert step == 1
    assert values["balanced_accuracy"] == pytest.approx(0.8)
