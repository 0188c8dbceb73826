"""A study in several processes of a machine: each computes a shard with its share of the cores.

One fit cannot keep many cores busy, and the threads of two fits in a process hold each other up.
The process that was called computes nothing. It waits for the files of the units, and tells them in
the order of the grid as if it had.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import jax

from amtl_jax.cpu_threads import num_cpus
from amtl_jax.experiment.checkpoint import CheckpointError
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.grid import Shard, Unit
from amtl_jax.experiment.study.units import UnitResult, load_unit, unit_path

_MEMORY = 4 * 2**30  # bytes for each process, which takes about two
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PAUSE = 0.1  # seconds between looks
_PATIENCE = 10.0  # seconds until processes that were told to end are killed
_TOLD, _WARNED = "amtl: ", "amtl: warning: "  # how a process begins a line on stderr


class Crew(NamedTuple):
    """Who may compute the shards of a study.

    Attributes:
      command: what computes a shard in a process of its own, to which `--shard K/N` is added. It
        ends when its standard input does.
      size: how many processes; None: as the machine allows.
    """

    command: Sequence[str]
    size: int | None = None


class Worker(NamedTuple):
    """A process, and the file that it tells its errors to."""

    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]


def crew_size(crew: Crew | None, config: Config) -> int:
    """Processes at most: as many as told, or as cores and memory allow.

    One, which is the process that was called, where an accelerator computes, and unless more are
    told where campaigns are batched.

    Raises:
      ConfigError: if the number told is below 1, or above it beside an accelerator.
    """
    if crew is None:
        return 1
    on_cpu = jax.default_backend() == "cpu"
    if crew.size is None:
        batched = config.study.batch is not None or config.scale.targets > 1
        return max(1, min(num_cpus(), _memory() // _MEMORY)) if on_cpu and not batched else 1
    if crew.size < 1:
        raise ConfigError(f"--processes expects a number of 1 or more, got {crew.size}.")
    if crew.size > 1 and config.scale.targets > 1:
        raise ConfigError(
            f"--processes {crew.size} and --scale.targets {config.scale.targets} both share a "
            "study's targets: leave one of them out."
        )
    if crew.size > 1 and not on_cpu:
        raise ConfigError(
            f"--processes {crew.size} is for a CPU, and JAX computes on {jax.default_backend()}. "
            "Leave it out, or set JAX_PLATFORMS=cpu."
        )
    return crew.size


def _memory() -> int:
    """Bytes of the machine, or of the container where that has less; 0 where nothing tells."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return 0
    for path in map(Path, _LIMITS):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found)


@contextlib.contextmanager
def at_work(command: Sequence[str], shards: Sequence[Shard]) -> Iterator[Sequence[Worker]]:
    """Starts a process for each shard; all of them have ended when it is left.

    What they warned of is warned of once more.
    """
    # A thread each where they are as many as the cores; else those that this process has.
    threads = {"NPROC": "1"} if len(shards) >= num_cpus() else {}
    path = os.pathsep.join(one for one in sys.path if one)
    workers: list[Worker] = []
    with contextlib.ExitStack() as files:
        try:
            for shard in shards:
                errors = files.enter_context(tempfile.TemporaryFile())
                process = subprocess.Popen(
                    [*command, "--shard", f"{shard.index}/{shard.count}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={**os.environ, "PYTHONPATH": path, **threads},
                    # Ctrl-C goes to the process that was called alone, which then ends them all.
                    start_new_session=True,
                )
                workers.append(Worker(process, errors))
            yield workers
        finally:
            _end(workers)
        told = dict.fromkeys(line for worker in workers for line in _lines(worker))
        for line in told:
            if line.startswith(_WARNED):
                warnings.warn(line.removeprefix(_WARNED), stacklevel=3)


def _end(workers: Sequence[Worker]) -> None:
    """Tells all to end, and kills those that do not."""
    for worker in workers:
        if worker.process.stdin is not None:
            worker.process.stdin.close()
    deadline = time.monotonic() + _PATIENCE
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def awaited(
    workdir: Path, fingerprint: str, units: Sequence[Unit], workers: Sequence[Worker]
) -> Iterator[tuple[Unit, UnitResult]]:
    """Gives the results of units in their order, as the workers finish them.

    Raises:
      RunError: if a worker failed, has ended without a unit of its own, or left a damaged one.
    """
    for unit in units:
        path = unit_path(workdir, unit)
        while not path.exists():
            ended = [worker for worker in workers if worker.process.poll() is not None]
            for worker in ended:
                if worker.process.returncode != 0:
                    raise RunError(_why(worker))
            if len(ended) == len(workers) and not path.exists():
                raise RunError(f"All processes have ended, and {unit.name} is not there.")
            time.sleep(_PAUSE)
        try:
            yield unit, load_unit(workdir, fingerprint, unit)
        except CheckpointError as error:
            raise RunError(f"A process of the study left a damaged file. {error}") from error


def _lines(worker: Worker) -> list[str]:
    worker.errors.seek(0)
    return worker.errors.read().decode(errors="replace").strip().splitlines()


def _why(worker: Worker) -> str:
    """The error that a worker told, or all that it told beside what ended it."""
    code, lines = worker.process.returncode, _lines(worker)
    if code == -getattr(signal, "SIGKILL", 0):
        return (
            "A process of the study was killed, as where memory runs out. What is finished is "
            "kept: repeat the command with fewer --processes."
        )
    told = [line for line in lines if line.startswith(_TOLD) and not line.startswith(_WARNED)]
    if told and code > 0:
        return told[-1].removeprefix(_TOLD)
    what = f"signal {-code}" if code < 0 else f"exit code {code}"
    return "\n".join([f"A process of the study ended with {what}.", *lines])


def end_with_parent(stream: IO[bytes]) -> None:
    """Ends this process, whatever it does, when `stream` ends: who reads its files is gone."""

    def wait() -> None:
        # Not by the stream: a thread that waits inside it would hold its lock when Python ends.
        while os.read(stream.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
