"""Ctrl-C where Python forgets it."""

import contextlib
import signal
import threading

import pytest
from tiny_runs import metrics_of, tiny

from amtl_jax.experiment.interrupts import heeded, stop_if_asked
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.run import run


class Deaf(Observer):
    """Loses an interrupt of the first round, as a callback of a compiler does."""

    def began(self, slot):
        if slot.index == 0:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("is_heeded", [True, False])
def test_a_run_ends_after_the_round_that_lost_it(tmp_path, is_heeded):
    config = tiny(seeds=(0,), arms=("uniform",))
    if is_heeded:
        with heeded(), pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "run", observer=Deaf())
        assert len(metrics_of(tmp_path / "run")) == 1
    run(config, tmp_path / "run", observer=Observer() if is_heeded else Deaf())
    assert len(metrics_of(tmp_path / "run")) == 3


def test_nothing_is_left_behind():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), heeded():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    stop_if_asked()


def test_handlers_of_others_stay():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with heeded():
            signal.raise_signal(signal.SIGINT)
            stop_if_asked()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_a_thread_leaves_signals_alone():
    found = []

    def work():
        with heeded():
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
