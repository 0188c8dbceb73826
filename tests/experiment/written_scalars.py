"""Writes the tiny run's scalars, and says what ought to be in them."""

import json
import struct

import pytest
from tiny_runs import tiny

from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.run import run
from amtl_jax.experiment.scalars.run import round_scalars, written_run


class Notes(Observer):
    def __init__(self):
        self.texts, self.rounds = [], 0

    def noted(self, text):
        self.texts.append(text)

    def finished(self, slot, record, *, restored):
        self.rounds += 1


def written(workdir, names, shown=None):
    """Runs or resumes the tiny run, with writers; returns who heard it."""
    shown = shown or Notes()
    with written_run(shown, names, workdir, tiny()) as observer:
        run(tiny(), workdir, observer=observer)
    return shown


def events_of(folder):
    """`{series: [(step, {tag: value})]}` of event files, read without the library's help."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        body, events = path.read_bytes(), []
        while body:
            (length,) = struct.unpack("<Q", body[:8])
            events.append(event_pb2.Event.FromString(body[12 : 12 + length]))
            body = body[16 + length :]
        assert events[0].file_version == "brain.Event:2"
        own = found.setdefault(path.parent.relative_to(folder).as_posix(), [])
        own += [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events[1:]]
    return found


def expected(workdir):
    """`{series: {step: scalars}}` that a workdir's metrics.jsonl promises."""
    found = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        series = found.setdefault(f"{record['strategy']}/seed_{record['seed']}", {})
        series[record["round"] + 1] = round_scalars(record)
    return found


def assert_events(workdir):
    """Every round of metrics.jsonl is there once, with its numbers and no others."""
    found, wanted = events_of(workdir / "tensorboard"), expected(workdir)
    assert found.keys() == wanted.keys()
    for name, steps in wanted.items():
        assert [step for step, _ in found[name]] == list(steps)
        for step, values in found[name]:
            assert values == pytest.approx(steps[step], rel=1e-6)
