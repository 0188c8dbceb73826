"""A study in several processes of a machine: each computes a shard on cores of its own.

One fit cannot keep many cores busy, and the threads of two fits at a time hold each other up: two
processes with a thread each need a fifth less time. The process that was called computes nothing.
It waits for the files of the units, and tells them in the order of the grid as if it had.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import jax

from amtl_jax.cpu_threads import num_cpus
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.contexts import Stage
from amtl_jax.experiment.study.grid import Shard, Unit
from amtl_jax.experiment.study.units import UnitResult, load_unit, unit_path

_MEMORY = 4 * 2**30  # bytes of the machine for each process; one takes about two
_PAUSE = 0.1  # seconds between looks
_PATIENCE = 10.0  # seconds until a process that was told to stop is killed


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


def crew_size(crew: Crew | None, config: Config, num_contexts: int) -> int:
    """Processes for the contexts that are missing: as many as told, or as cores and memory allow.

    One, which is the process that was called, where an accelerator computes, and where campaigns
    are batched.

    Raises:
      ConfigError: if the number told is below 1.
    """
    if crew is None:
        return 1
    if crew.size is not None and crew.size < 1:
        raise ConfigError(f"--processes expects a number of 1 or more, got {crew.size}.")
    allowed = crew.size
    if allowed is None:
        batched = config.study.batch is not None
        alone = jax.default_backend() != "cpu" or batched
        allowed = 1 if alone else max(1, min(num_cpus(), _memory() // _MEMORY))
    return max(1, min(allowed, num_contexts))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def at_work(crew: Crew, size: int, shard: Shard) -> Iterator[Sequence[Worker]]:
    """Starts the processes; all of them have ended when it is left.

    Args:
      crew: whom to start.
      size: how many.
      shard: of the study, which is split further.
    """
    with contextlib.ExitStack() as stack:
        workers = []
        for index in range(size):
            own = f"{shard.index + index * shard.count}/{shard.count * size}"
            errors = stack.enter_context(tempfile.TemporaryFile())
            # Ctrl-C goes to the process that was called alone, which then ends them all.
            process = subprocess.Popen(
                [*crew.command, "--shard", own],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "NPROC": str(max(1, num_cpus() // size))},
                start_new_session=True,
            )
            stack.callback(_end, process)
            workers.append(Worker(process, errors))
        yield workers


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Tells a process to end, and waits for it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def awaited(
    stage: Stage, units: Sequence[Unit], workers: Sequence[Worker]
) -> Iterator[tuple[Unit, UnitResult]]:
    """Gives the results of units in their order, as the workers finish them.

    Raises:
      RunError: if a worker failed, or has ended without a unit of its own.
      CheckpointError: if what a worker wrote is damaged.
    """
    for unit in units:
        while not unit_path(stage.workdir, unit).exists():
            ended = [worker for worker in workers if worker.process.poll() is not None]
            for worker in ended:
                if worker.process.returncode != 0:
                    raise RunError(_why(worker))
            if len(ended) == len(workers) and not unit_path(stage.workdir, unit).exists():
                raise RunError(f"All processes have ended, and {unit.name} is not there.")
            time.sleep(_PAUSE)
        yield unit, load_unit(stage.workdir, stage.fingerprint, unit)


def _why(worker: Worker) -> str:
    """The last line that a worker told, or what ended it."""
    worker.errors.seek(0)
    lines = worker.errors.read().decode(errors="replace").strip().splitlines()
    code = worker.process.returncode
    if code == -signal.SIGKILL:
        return (
            "A process of the study was killed, as where memory runs out. What is finished is "
            "kept: repeat the command with fewer --processes."
        )
    what = f"signal {-code}" if code < 0 else f"exit code {code}"
    told = lines[-1].removeprefix("amtl: ") if lines else ""
    return (
        told if told and code > 0 else f"A process of the study ended with {what}. {told}".strip()
    )


def end_with_parent(stream: IO[bytes]) -> None:
    """Ends this process, whatever it does, when `stream` ends: who reads its files is gone."""

    def wait() -> None:
        # Not by the stream: a thread that waits inside it would hold its lock when Python ends.
        while os.read(stream.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
