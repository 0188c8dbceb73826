"""A study in several processes: the results of one, and what happens when one of them fails."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
from mnist_c_files import write_archive

from amtl_jax.cli import main
from amtl_jax.experiment.config import Config, ConfigError, MnistCConfig, StudyConfig
from amtl_jax.experiment.loading import load
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study import processes
from amtl_jax.experiment.study.driver import study
from amtl_jax.experiment.study.grid import Shard, Unit
from amtl_jax.experiment.study.processes import Crew, Worker, at_work, awaited, crew_size
from amtl_jax.experiment.study.units import unit_path
from amtl_jax.experiment.study_rows import read_rows

CONFIG = """
from amtl_jax.experiment.config import *


def get_config():
    return Config(
        name="tiny_study",
        data=MnistCConfig(root={root!r}, num_source=20, num_pool=20),
        num_target=10,
        budget=600,
        schedule=(0.5, 0.5),
        encoder=EncoderConfig(num_features=3),
        fit=FitConfig(num_steps=5, penalty=1e-2),
        num_resamples=50,
        study=StudyConfig(targets=("fog_3", "scale_1", "scale_8"), arms=("target_only", "uniform")),
    )
"""


@pytest.fixture
def ends():
    """Starts a process that runs some code, as a worker."""
    with contextlib.ExitStack() as stack:

        def start(code):
            errors = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=errors
            )
            stack.callback(process.kill)
            return Worker(process, errors)

        yield start


UNIT = Unit("fog_3", 0, 600, 10)


def first(workdir, workers):
    return next(awaited(workdir, "f", [UNIT], workers))


def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    root = write_archive(tmp_path / "archive")
    path, two = tmp_path / "tiny.py", tmp_path / "two"
    path.write_text(CONFIG.format(root=str(root)))
    alone = study(load(str(path)).config, tmp_path / "one")

    def here(*_):
        raise AssertionError("the process that was called computes nothing")

    monkeypatch.setattr("amtl_jax.experiment.study.driver.prepare", here)

    def run():
        told = io.StringIO()
        words = ["study", str(path), "--workdir", str(two), "--processes", "2"]
        with contextlib.redirect_stdout(told):
            assert main(words) == 0
        assert "3 of 3 units" in told.getvalue()
        rows = read_rows(two / "results.csv")
        assert len(rows) == len(alone.rows)
        for own, other in zip(rows, alone.rows, strict=True):
            assert own.key == other.key
            assert own.mse == pytest.approx(other.mse, rel=1e-3)

    run()
    assert not (two / "contexts").exists()
    names = {one.name for one in two.iterdir()}
    assert names == {one.name for one in (tmp_path / "one").iterdir()}
    # One that is damaged, and one that is missing.
    for corruption, spoil in (("fog", lambda path: path.write_bytes(b"")), ("scale", Path.unlink)):
        spoil(next((two / "units").glob(f"{corruption}*")))
    run()


def test_processes_share_out_a_shard(tmp_path, monkeypatch):
    root = write_archive(tmp_path / "archive")
    path, workdir = tmp_path / "tiny.py", tmp_path / "study"
    path.write_text(CONFIG.format(root=str(root)))
    started = []

    def here(*_):
        raise AssertionError("the process that was called computes nothing")

    def seen(command, shards):
        started.extend(shards)
        return at_work(command, shards)

    monkeypatch.setattr("amtl_jax.experiment.study.driver.prepare", here)
    monkeypatch.setattr("amtl_jax.experiment.study.driver.at_work", seen)
    words = ["study", str(path), "--workdir", str(workdir), "--study.arms", "target_only"]
    words += ["--study.seeds", "0", "1", "--processes", "2", "--shard", "2/2"]
    assert main(words) == 0
    assert started == [Shard(2, 4), Shard(4, 4)]
    # Contexts are scale and fog with seed 0, then both with seed 1.
    rows = read_rows(workdir / "results.csv")
    assert [(row.target, row.seed) for row in rows] == [("fog_3", 0), ("fog_3", 1)]


def test_a_process_that_fails_is_told_in_its_own_words(tmp_path, ends):
    code = "import sys; print('note', file=sys.stderr); sys.exit('amtl: round 2 has gone wrong')"
    workers = [ends("import sys; sys.stdin.read()"), ends(code)]
    with pytest.raises(RunError, match=r"^round 2 has gone wrong$"):
        first(tmp_path, workers)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("SIGKILL", r"was killed, as where memory runs out.*fewer --processes"),
        ("SIGABRT", r"ended with signal 6\.\ngone$"),
    ],
)
def test_a_process_that_is_killed_names_the_signal(tmp_path, ends, number, words):
    code = "import os, signal, sys; print('gone', file=sys.stderr, flush=True)"
    worker = ends(f"{code}; os.kill(os.getpid(), signal.{number})")
    with pytest.raises(RunError, match=words):
        first(tmp_path, [worker])


def test_a_process_may_end_while_it_listens(ends):
    """It waits for the end of its input in a thread that does not keep it."""
    worker = ends(
        "import sys; from amtl_jax.experiment.study.processes import end_with_parent\n"
        "end_with_parent(sys.stdin.buffer)"
    )
    assert worker.process.wait(60) == 0


def test_processes_that_end_without_a_unit_are_no_success(tmp_path, ends):
    with pytest.raises(RunError, match=r"All processes have ended, and fog_3-.* is not there"):
        first(tmp_path, [ends(""), ends("")])


def test_an_unexpected_error_is_told_whole(tmp_path, ends):
    worker = ends("import sys; print('amtl: warning: odd', file=sys.stderr); None.missing")
    with pytest.raises(RunError, match=r"(?s)exit code 1.*warning: odd.*Traceback.*'missing'"):
        first(tmp_path, [worker])


def test_a_damaged_file_of_a_process_is_an_error(tmp_path, ends):
    path = unit_path(tmp_path, UNIT)
    path.parent.mkdir()
    path.write_bytes(b"")
    with pytest.raises(RunError, match="left a damaged file"):
        first(tmp_path, [ends("import sys; sys.stdin.read()")])


_LISTENS = """
import sys, time
from amtl_jax.experiment.study.processes import end_with_parent
end_with_parent(sys.stdin.buffer)
print("amtl: warning: I listen", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_whoever_leaves_ends_the_processes():
    begun, shards = time.monotonic(), Shard(1, 1).split(2)
    with (
        warnings.catch_warnings(record=True) as told,
        at_work([sys.executable, "-c", _LISTENS], shards) as workers,
    ):
        while not all(os.fstat(worker.errors.fileno()).st_size for worker in workers):
            time.sleep(0.1)
            assert [worker.process.poll() for worker in workers] == [None, None]
    assert [worker.process.returncode for worker in workers] == [1, 1]
    assert [str(one.message) for one in told] == ["I listen"]  # which both said
    assert time.monotonic() - begun < 55


def test_a_process_that_does_not_listen_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.2)
    code = "import time; time.sleep(60)"
    with at_work([sys.executable, "-c", code], [Shard(1, 1)]) as workers:
        pass
    assert workers[0].process.returncode == -9


@pytest.mark.parametrize(("index", "size"), [(1, 3), (2, 2)])
def test_a_shard_is_split_further(tmp_path, index, size):
    """Each process has contexts that no other has, and together they have those of the shard."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], sys.argv[3].replace('/', '_')).touch()"
    shard = Shard(index, 2)
    with at_work([sys.executable, "-c", code, str(tmp_path)], shard.split(size)) as workers:
        for worker in workers:
            worker.process.wait()
    found = sorted(one.name.replace("_", "/") for one in tmp_path.iterdir())
    assert found == [f"{index + 2 * place}/{2 * size}" for place in range(size)]
    units = [Unit("fog_3", seed, 600, 10) for seed in range(12)]
    split = [unit for name in found for unit in Shard.parse(name).of(units)]
    assert sorted(split) == shard.of(units)


def test_as_many_threads_as_cores(monkeypatch):
    code = "import os, sys; sys.exit(os.environ['NPROC'])"
    monkeypatch.setenv("NPROC", "8")
    for cpus, expected in ((2, b"1"), (3, b"8")):
        monkeypatch.setattr(processes, "num_cpus", lambda cpus=cpus: cpus)
        with at_work([sys.executable, "-c", code], Shard(1, 1).split(2)) as workers:
            for worker in workers:
                worker.process.wait()
                worker.errors.seek(0)
                assert worker.errors.read().strip() == expected


def test_as_many_processes_as_the_machine_allows(monkeypatch):
    config = Config(name="study", data=MnistCConfig(), study=StudyConfig())
    batched = Config(name="study", data=MnistCConfig(), study=StudyConfig(batch=2))
    monkeypatch.setattr(processes, "num_cpus", lambda: 3)
    monkeypatch.setattr(processes, "_memory", lambda: 100 * 2**30)
    assert crew_size(Crew([]), config) == 3
    assert crew_size(Crew([], 5), config) == 5
    assert crew_size(Crew([], 5), batched) == 5
    assert crew_size(Crew([]), batched) == 1
    assert crew_size(None, config) == 1
    monkeypatch.setattr(processes, "_memory", lambda: 9 * 2**30)
    assert crew_size(Crew([]), config) == 2
    with pytest.raises(ConfigError, match=r"--processes expects a number of 1 or more, got 0"):
        crew_size(Crew([], 0), config)
    monkeypatch.setattr(processes.jax, "default_backend", lambda: "gpu")
    assert crew_size(Crew([]), config) == crew_size(Crew([], 1), config) == 1
    with pytest.raises(ConfigError, match=r"--processes 2 is for a CPU.*on gpu"):
        crew_size(Crew([], 2), config)


def test_memory_is_that_of_the_container_where_it_has_less(tmp_path, monkeypatch):
    whole = processes._memory()
    assert whole > 2**28
    limit, unlimited = tmp_path / "limit", tmp_path / "max"
    limit.write_text("1000\n")
    unlimited.write_text("max\n")
    monkeypatch.setattr(processes, "_LIMITS", (str(unlimited), str(tmp_path / "none"), str(limit)))
    assert processes._memory() == 1000
    monkeypatch.delattr(os, "sysconf")
    assert processes._memory() == 0
