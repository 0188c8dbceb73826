"""Two processes that run one experiment together; one that is killed; options that do not fit."""

import contextlib
import json
import os
import re
import signal
import time

import numpy as np
import pytest
from tiny_runs import TINY, metrics_of
from two_processes import SECONDS, two, words_of

from amtl_jax.cli import main

SHARED = ("--scale.data", "2", "--fit.penalty", "1e-2", "--arms", "uniform", "a_mtrl")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def start():
    """Starts two processes of one command; both are ended with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(two(*arguments))


def test_two_processes_write_one_run(config, start, tmp_path, capsys):
    both, alone = tmp_path / "both", tmp_path / "alone"
    words = (*SHARED, "--seeds", "0")
    first, second = start(config, both, *words)
    # The other one's pipes hold the little that it may say.
    told = [one.communicate(timeout=SECONDS) for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    assert any("round 3/3" in line for line in words_of(told[0][0]))
    assert words_of(told[1][0]) == words_of(told[1][1]) == []
    rounds = [(line["strategy"], line["round"]) for line in metrics_of(both)]
    assert rounds == [(arm, index) for arm in ("uniform", "a_mtrl") for index in range(3)]
    assert main(["run", config, *words[2:], "--workdir", str(alone)]) == 0
    capsys.readouterr()
    found, expected = (
        np.array([line["counts"] for line in metrics_of(workdir)]) for workdir in (both, alone)
    )
    assert len({*expected[-1]}) > 1  # the rule has an opinion
    np.testing.assert_array_equal(found.sum(axis=1), expected.sum(axis=1))
    assert (np.abs(found - expected).sum(axis=1) <= 0.01 * expected.sum(axis=1)).all()
    for name in ("config.json", "summary.json", "model"):
        assert (both / name).exists()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
@pytest.mark.parametrize("number", [1, 0])  # 0: the coordinator, which is the one that writes
def test_a_killed_process_ends_the_other_and_one_process_goes_on(
    number, config, start, tmp_path, capsys
):
    workdir = tmp_path / "run"
    words = (*SHARED, "--seeds", *"012345")
    both = start(config, workdir, *words)
    metrics, most = workdir / "metrics.jsonl", time.monotonic() + SECONDS
    while not (metrics.exists() and metrics.read_bytes().count(b"\n")):
        assert [one.poll() for one in both] == [None, None]
        assert time.monotonic() < most
        time.sleep(0.05)
    both[number].send_signal(signal.SIGKILL)
    killed, other = time.monotonic(), both[1 - number]
    other.communicate(timeout=SECONDS)
    assert time.monotonic() - killed < 60
    assert other.returncode != 0
    # A whole line has its checkpoint; the last one may be half.
    before = [line for line in metrics.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    assert 1 <= len(before) < 6 * 2 * 3
    assert main(["run", config, *words[2:], "--workdir", str(workdir)]) == 0
    capsys.readouterr()
    after = metrics.read_text().splitlines(keepends=True)
    assert len(after) == 6 * 2 * 3
    assert after[: len(before)] == before  # with their seconds: they were not computed again
    slots = {(one["seed"], one["strategy"], one["round"]) for one in map(json.loads, after)}
    assert len(slots) == len(after)


OTHERS = ("--distributed", "--coordinator", "localhost:1", "--num-processes", "2")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run", "synthetic", *OTHERS[1:3]), "are for --distributed: add it."),
        (("run", "synthetic", "--process-id", "0"), "are for --distributed: add it."),
        (("run", "synthetic", *OTHERS, "--process-id", "2"), "from 0 to 1, got 2."),
        (("run", "synthetic", *OTHERS, "--process-id", "-1"), "from 0 to 1, got -1."),
        (("run", "synthetic", *OTHERS), "none of them where the cluster tells, got"),
        (("run", "synthetic", "--dry-run", "--distributed"), "leave --distributed out."),
        (("run", "synthetic", "--scale.data", "64"), "1 x 1 x 64 .* needs 64 devices, got 1"),
        (("run", "synthetic", "--scale.data", "0"), "scale.data must be at least 1, got 0."),
        (
            ("run", "synthetic", "--scale.lengths", "8"),
            "scale.lengths must be 1 on one device, got 8",
        ),
        (("study", "digits_c", "--scale.lengths", "8"), "scale.lengths is for amtl run"),
        (("run", "synthetic", "--scale.targets", "2"), "scale.targets 2 is for amtl study"),
        (("study", "digits_c", "--scale.data", "2"), "scale.data is for amtl run"),
        (("study", "digits_c", "--scale.tasks", "2"), "scale.tasks is for amtl run"),
    ],
)
def test_options_that_do_not_fit_are_one_line(words, part, capsys, tmp_path):
    workdir = tmp_path / "run"
    assert main([*words, "--workdir", str(workdir)]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"amtl: .*{part}.*\n", err)
    assert "paid" not in out
    assert not workdir.exists()


def test_processes_that_find_different_rounds_do_not_start(config, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("amtl_jax.experiment.run.all_equal", lambda numbers: False)
    workdir = tmp_path / "run"
    assert main(["run", config, "--workdir", str(workdir)]) == 1
    assert "give one that all of them share." in capsys.readouterr().err
    assert not workdir.exists()
