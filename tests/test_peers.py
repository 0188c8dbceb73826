"""Benchmarks beside peers: every way finds the same heads, and ratios are taken round by round."""

import json
import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import head_ways, machine, options, peers, relevance_ways, timing
from benchmarks.__main__ import main

SIZES = (6, 5, 400)


@pytest.mark.parametrize("skewed", [False, True])
def test_every_way_finds_the_heads_of_float64(skewed):
    rows = peers.head_table(*SIZES, skewed=skewed, rounds=2)
    names = [row.way for row in rows]
    assert names[0] == peers.BASE
    assert {"padded jax.vmap", "numpy.linalg.lstsq", "sklearn Ridge"} <= set(names)
    for row in rows:
        finds_heads = "statistics" not in row.way
        assert np.isfinite(row.error) == finds_heads
        assert not row.error > 1e-5
        assert row.seconds > 0
        assert np.isfinite(row.compile_seconds) == ("amtl_jax" in row.way or "jax" in row.way)


def test_a_wrong_way_shows_in_its_error():
    rows = head_ways.make_rows(*SIZES)
    truth = head_ways.in_float64(rows)
    heads = truth.astype(np.float32)
    heads[3] *= 1.5
    found = peers.timed(
        {peers.BASE: timing.Way(lambda: (truth,)), "wrong": timing.Way(lambda: (heads,))},
        lambda one: peers._head_error(one, truth),
        rounds=2,
    )
    assert [round(row.error, 3) for row in found] == [0, 0.5]


def test_skewed_rows_have_a_fifth_in_the_first_task():
    rows = head_ways.make_rows(10, 3, 1000, largest=0.2)
    counts = np.bincount(rows.task)
    assert counts.sum() == len(rows.x) == 1000
    assert counts[0] == pytest.approx(200, abs=10)
    assert np.ptp(counts[1:]) == 0
    even = np.bincount(head_ways.make_rows(10, 3, 1000).task)
    assert (even == 100).all()


def test_ways_take_turns_and_their_ratio_is_that_of_their_rounds():
    calls = []

    def way(name, seconds):
        def call():
            calls.append(name)
            time.sleep(seconds)
            return jnp.zeros(1)

        return call

    seconds = timing.side_by_side({"a": way("a", 0.01), "b": way("b", 0.03)}, rounds=4)
    assert calls[:2] == ["a", "b"]  # warm
    rounds = [calls[start : start + 2] for start in range(2, 10, 2)]
    assert all(sorted(one) == ["a", "b"] for one in rounds)
    assert {one[0] for one in rounds} == {"a", "b"}
    middle, low, high = timing.ratio_to(seconds, "a")["b"]
    assert 1.5 < low <= middle <= high
    assert timing.ratio_to(seconds, "a")["a"] == (1, 1, 1)


def test_no_way_has_the_same_one_before_it_in_every_round():
    calls = []
    names = ("a", "b", "c")
    ways = {name: lambda name=name: calls.append(name) for name in names}
    timing.side_by_side(ways, rounds=12)
    assert len(calls) == 3 * 13
    for name in names:
        before = {calls[at - 1] for at in range(4, len(calls)) if calls[at] == name}
        assert before - {name} == set(names) - {name}


def test_no_round_begins_after_the_time_is_up():
    seconds = timing.side_by_side({"a": lambda: time.sleep(0.02)}, rounds=50, most_seconds=0.03)
    assert len(seconds["a"]) == 2


def test_the_ceiling_is_measured():
    ceiling = machine.measure_ceiling(small=True)
    assert ceiling.copy > 1e7
    assert ceiling.matmul > 1e7


@pytest.mark.parametrize("condition", [3.0, 100.0])
def test_relevance_of_all_ways_has_the_least_norm(condition):
    heads = relevance_ways.make_heads(12, 4, 5, condition=condition)
    values = np.linalg.svd(heads.source, compute_uv=False)
    assert values[0] / values[-1] == pytest.approx(condition, rel=1e-3)
    found = {name: way.call() for name, way in relevance_ways.peers(heads).items()}
    optimum = np.sum(np.abs(found[relevance_ways.HIGHS]), axis=1)
    found["ours"] = np.asarray(relevance_ways.ours(heads).call().nu, float)
    for name, nu in found.items():
        gaps = relevance_ways.true_gaps(heads, nu, optimum)
        assert (np.abs(gaps) < 1e-4).all(), name
    worse = found["ours"] + np.linalg.svd(heads.source.T.astype(float))[2][-1]  # of the null space
    assert (relevance_ways.true_gaps(heads, worse, optimum) > 1e-3).any()


def test_the_command_prints_tables_and_writes_json(tmp_path, capsys, monkeypatch):
    out = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "peers", "--quick", "--rounds", "2"])
    sys.argv += ["--out", str(out)]
    main()
    printed = capsys.readouterr().out
    assert printed.count("| amtl_jax |") == 5
    assert "GFLOP/s" in printed
    found = json.loads(out.read_text())
    assert found["machine"]["cores"] >= 1
    assert len(found["tables"]) == 5
    for table in found["tables"].values():
        assert table[0]["ratio"] == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cores_are_kept_to():
    code = (
        "import os; from benchmarks.options import keep_to; keep_to(1); "
        "print(len(os.sched_getaffinity(0)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
    with pytest.raises(SystemExit, match="expects 1 to"):
        options.keep_to(10_000)
