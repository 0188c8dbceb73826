"""Two processes draw each its own rows of a table on disk; a bad row of one ends both."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from counted_run import counted
from tiny_runs import metrics_of
from two_processes import SECONDS, two, words_of

from amtl_jax.cli import main

ROWS, TASKS, INPUTS = 400, 6, 5
PROGRAM = str(Path(__file__).with_name("counted_run.py"))
CONFIG = """
from amtl_jax.experiment.config import Config, EncoderConfig, FitConfig, TableConfig


def get_config():
    data = TableConfig({path!r}, task_column="task", target_task="task 1", label=("y",))
    return Config(
        name="pool",
        data=data,
        num_target=40,
        budget=960,
        schedule=(0.5, 0.5),
        block_rows=8,
        seeds=(0,),
        arms=("a_mtrl",),
        encoder=EncoderConfig(num_features=2),
        fit=FitConfig(num_steps=20, penalty=1e-2, weigh_noise=True),
        num_resamples=50,
    )
"""


SHARED = ("--scale.data", "2", "--scale.lengths", "8")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(TASKS), ROWS)
    x = rng.normal(size=(TASKS * ROWS, INPUTS)).astype(np.float32)
    # Every task has its own direction in a plane; some are near that of task 1.
    head = np.stack([np.cos(task), np.sin(task)], axis=1)
    y = (head * x[:, :2]).sum(axis=1) + rng.normal(size=len(x))
    np.savez(folder / "pool.npz", task=np.char.add("task ", task.astype(str)), x=x, y=y)
    (folder / "config.py").write_text(CONFIG.format(path=str(folder / "pool.npz")))
    return folder / "config.py"


@pytest.fixture(scope="module")
def drawn(config):
    """Rows of every draw of one process and of each of two, and the workdirs."""
    folder = config.parent
    files = [folder / name for name in ("alone.jsonl", "first.jsonl", "second.jsonl")]
    with pytest.MonkeyPatch.context() as patch:
        counted(files[0], -1, patch.setattr)
        assert main(["run", str(config), "--workdir", str(folder / "alone")]) == 0
    programs = [(PROGRAM, str(file), "-1") for file in files[1:]]
    with two(config, folder / "both", *SHARED, programs=programs) as both:
        told = [one.communicate(timeout=SECONDS) for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files], folder


def test_each_process_draws_its_own_rows(drawn):
    (alone, first, second), _ = drawn
    # Two rounds, and the last one's rows once more to look at the rank.
    assert len(alone) == len(first) == len(second) == 3
    assert [len(rows) for rows in alone] == [480, 960, 960]
    for whole, one, other in zip(alone, first, second, strict=True):
        assert sorted(one + other) == whole
        assert len(set(whole)) == len(whole)
        assert len(whole) / 3 <= len(one) <= 2 * len(whole) / 3


def test_two_processes_find_what_one_finds(drawn):
    folder = drawn[1]
    alone, both = (metrics_of(folder / name) for name in ("alone", "both"))
    assert [line["counts"] for line in both] == [line["counts"] for line in alone]
    assert len({*alone[-1]["counts"]}) > 1  # the rule has an opinion
    for line, other in zip(alone, both, strict=True):
        assert other["target"]["mse"] == pytest.approx(line["target"]["mse"], rel=1e-4)
    assert both[-1]["rank_warning"] == alone[-1]["rank_warning"]


def test_a_bad_row_of_one_process_ends_both(config, drawn, tmp_path):
    (_, first, second), _ = drawn
    bad = min(set(second[1]) - set(second[0]) - set(first[0]))  # of the second round
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    programs = [(PROGRAM, str(file), str(bad)) for file in files]
    started = time.monotonic()
    with two(config, tmp_path / "run", *SHARED, programs=programs) as both:
        told = [one.communicate(timeout=SECONDS) for one in both]
    assert time.monotonic() - started < 60
    assert [one.returncode for one in both] == [1, 1], told
    line = f"pool.npz, column 'x': NaN or Inf in row {bad + 1:,}"
    for start, (_, err) in zip(
        ("Process 1 failed in drawing samples", "Round 2 of a_mtrl, seed 0"), told, strict=True
    ):
        (said,) = words_of(err)
        assert said.startswith(f"amtl: {start}: {line}")
    assert len(metrics_of(tmp_path / "run")) == 1  # the round before is kept


def test_a_file_that_one_process_lacks_ends_both(config, tmp_path):
    """Before anything is written; the number of a process is the last word of its command."""
    text = "import sys\n" + CONFIG.replace("{path!r}", "PATH")
    paths = [str(folder / "pool.npz") for folder in (config.parent, tmp_path)]
    other = tmp_path / "config.py"
    other.write_text(f"{text}\nPATH = {paths!r}[int(sys.argv[-1])]\n")
    started = time.monotonic()
    with two(other, tmp_path / "run", *SHARED) as both:
        told = [one.communicate(timeout=SECONDS) for one in both]
    assert time.monotonic() - started < 60
    assert [one.returncode for one in both] == [1, 2], told
    (first,), (second,) = (words_of(err) for _, err in told)
    line = f"data.path {paths[1]!r} does not exist"
    assert first.startswith(f"amtl: Process 1 failed in preparing the run: {line}")
    assert second.startswith(f"amtl: {line}")
    assert not (tmp_path / "run").exists()
