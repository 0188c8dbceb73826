"""Targets side by side: in order, the first alone where it compiles, none begun in vain."""

import threading

import pytest

from amtl_jax.experiment.study.batches import in_order


@pytest.mark.parametrize(("threads", "alone", "together"), [(2, 1, 2), (2, 0, 2), (1, 0, 1)])
def test_results_come_in_order_and_the_first_may_be_alone(threads, alone, together):
    lock, running, most, beside_first = threading.Lock(), set(), [0], [0]
    both = threading.Event()

    def compute(item):
        with lock:
            running.add(item)
            most[0] = max(most[0], len(running))
            if 0 in running:
                beside_first[0] = max(beside_first[0], len(running) - 1)
            if len(running) == together:
                both.set()
        if item >= alone:
            assert both.wait(20)
        with lock:
            running.remove(item)
        return 10 * item

    found = in_order(compute, range(5), threads, alone=alone)
    assert list(found) == [0, 10, 20, 30, 40]
    assert most[0] == together
    assert beside_first[0] == (together - 1 if alone == 0 else 0)


def test_what_is_not_begun_when_one_fails_is_left():
    begun = []

    def compute(item):
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        return item

    results = in_order(compute, range(50), 1, alone=0)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one"):
        next(results)
    assert begun == [0, 1]
