"""Scalars of a run: what is written, once and for good, and what happens where it cannot be."""

import sys

import pytest
from fake_wandb import FakeWandb
from tiny_runs import assert_same_results
from written_scalars import Notes, assert_events, events_of, expected, written

from amtl_jax.experiment.scalars.run import round_scalars

RECORD = {
    "seed": 0,
    "round": 2,
    "strategy": "uniform",
    "samples_total": 200,
    "num_features": 3,
    "train_loss": 0.5,
    "penalty": 1e-3,
    "target_loo": None,
    "target": {"accuracy": 0.75, "balanced_accuracy": None, "mse": 0.25},
    "answer": {"loo": 0.1, "target": {"accuracy": 0.8}},
    "device": "cpu",
    "seconds": 1.5,
}


class Stopped(Notes):
    """Ctrl-C before the n-th round is heard of by the writers."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def finished(self, slot, record, *, restored):
        super().finished(slot, record, restored=restored)
        if self.rounds == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_scalars_of_a_round():
    assert round_scalars(RECORD) == {
        "samples_total": 200,
        "seconds": 1.5,
        "penalty": 1e-3,
        "num_features": 3,
        "train_loss": 0.5,
        "target/accuracy": 0.75,
        "target/mse": 0.25,
        "answer/accuracy": 0.8,
    }


def test_tensorboard_reads_what_metrics_say(copied):
    """A finished run is written without computing it again, and a second time over the first."""
    pytest.importorskip("tensorboardX")
    foreign = copied / "tensorboard/uniform/seed_0/events.out.tfevents.1.elsewhere"
    written(copied, ["tensorboard"])
    assert_events(copied)
    foreign.write_bytes(b"")  # not ours: it stays
    written(copied, ["tensorboard"])
    assert foreign.exists()
    foreign.unlink()
    assert_events(copied)
    uniform = dict(events_of(copied / "tensorboard")["uniform/seed_1"])
    assert uniform[3]["samples_total"] == 200
    assert {"target/mse", "penalty", "seconds", "answer/mse"} <= uniform[3].keys()


def test_a_stopped_run_is_written_once(whole, copied, wandb):
    """A round that had to be computed again replaces what an event file said of it."""
    pytest.importorskip("tensorboardX")
    with pytest.raises(KeyboardInterrupt):
        written(copied, ["tensorboard", "wandb"], Stopped(17))
    assert [one.exit_code for one in wandb.runs] == [0] * 6 + [1]  # the last was cut off
    before = {name: dict(steps) for name, steps in wandb.history().items()}
    ridge = copied / "checkpoints/seed_0/target_only/round_0.ckpt"
    ridge.unlink()  # computed again, in other seconds
    written(copied, ["tensorboard", "wandb"])
    assert_events(copied)
    assert_same_results(copied, whole[0])
    for name, steps in before.items():  # what the server had is as it was
        assert {step: wandb.history()[name][step] for step in steps} == steps
    assert len(wandb.calls) == len(set(wandb.calls)) == 26
    assert {name: list(steps) for name, steps in wandb.history().items()} == {
        name: list(steps) for name, steps in expected(copied).items()
    }


def test_wandb_gets_a_run_an_arm_and_seed(copied, wandb, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    notes = written(copied, ["wandb"])
    assert wandb.history() == expected(copied)
    options = [one.options for one in wandb.runs]
    assert [one["name"] for one in options] == list(expected(copied))
    assert len({one["id"] for one in options}) == 10
    assert len({one["group"] for one in options}) == 1
    assert {one["project"] for one in options} == {"amtl_jax"}
    last = options[-1]["config"]
    assert (last["arm"], last["seed"], last["budget"]) == ("c_optimal", 1, 200)
    assert last["fit"]["num_steps"] == 20
    assert [one.exit_code for one in wandb.runs] == [0] * 10
    assert notes.texts == ["Weights & Biases: at https://wandb.example/run"]


def test_offline_every_process_writes_whole_runs_of_the_same_ids(copied, monkeypatch):
    names, steps = [], []
    for _ in range(2):
        fake = FakeWandb(offline=True)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        notes = written(copied, ["wandb"])
        names.append([one.options["id"] for one in fake.runs])
        steps.append(fake.history())
    assert names[0] == names[1]
    assert steps[0] == steps[1] == expected(copied)
    assert "wandb sync" in notes.texts[0]


def test_another_workdir_has_other_ids(copied, tmp_path, wandb):
    written(copied, ["wandb"])
    (copied / "wandb/amtl_run.id").write_text("")  # cut off: as if it were not there
    written(copied, ["wandb"])
    assert len({one.options["id"] for one in wandb.runs}) == 20


def test_a_writer_that_fails_is_left_out(whole, copied, wandb):
    """Both fail in the middle; the run ends with its numbers, and the next one writes them."""
    pytest.importorskip("tensorboardX")
    wandb.broken = True
    blocked = copied / "tensorboard"
    blocked.write_text("a file where a folder should be")
    notes = written(copied, ["tensorboard", "wandb"])
    assert_same_results(copied, whole[0])
    assert notes.rounds == 26
    failures = [text for text in notes.texts if "no more numbers" in text]
    assert len(failures) == 2
    assert any("TensorBoard" in text and "tensorboard" in text for text in failures)
    assert any("Weights & Biases" in text and "network is gone" in text for text in failures)
    assert wandb.runs[0].exit_code == 1
    wandb.broken = False
    blocked.unlink()
    written(copied, ["tensorboard", "wandb"])
    assert_events(copied)
    assert wandb.history() == expected(copied)
