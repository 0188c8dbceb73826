"""Several processes that compute one thing together, on one machine or on several."""

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 20
_TOLD_BYTES = 1000  # of an error, for the other processes


class ElsewhereError(RuntimeError):
    """Another process cannot go on; the message says which one, and is its own."""


def start_processes(
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins this process to the others; call it before anything of JAX runs.

    All of them run the same program on the same config, and each has the devices of its machine.
    A process that is killed ends the others within about twice the heartbeat, with an error.

    Args:
      coordinator: `host:port` of the first process; None: from the cluster, such as Slurm or a TPU
        slice.
      num_processes: how many there are; None: from the cluster.
      process_id: this one's number, from 0; None: from the cluster.
      heartbeat_seconds: without a sign of life for so long a process counts as dead.

    Raises:
      ValueError: if some but not all of the three are given, no cluster tells them, or the others
        do not come.
    """
    told = (coordinator, num_processes, process_id)
    if any(one is None for one in told) and any(one is not None for one in told):
        raise ValueError(
            "Several processes need coordinator (host:port), number of processes and this one's "
            f"number, or none of them where the cluster tells, got {told}."
        )
    if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
        raise ValueError(
            f"Of {num_processes} processes expected a number from 0 to {num_processes - 1}, got "
            f"{process_id}."
        )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_seconds,
            initialization_timeout=120,
            shutdown_timeout_seconds=60,
        )
    except (ValueError, RuntimeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    text = " ".join(str(error).split())
    raise ValueError(
        f"The processes did not find each other: {text:.300} Outside of a cluster give the "
        "coordinator, the number of processes and this one's number."
    ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def all_equal(numbers: np.ndarray) -> bool:
    """Whether every process has the same numbers; all of them must ask."""
    if jax.process_count() == 1:
        return True
    found = np.asarray(multihost_utils.process_allgather(numbers))
    return bool((found == found[:1]).all())


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Has a block fail in every process where it fails in one; all of them must come to it.

    Otherwise the others would wait in the next computation for one that is gone. Nothing in the
    block may wait for another process.

    Args:
      what: is done in the block, for the message.

    Raises:
      ElsewhereError: in the processes where the block went well, if it failed in another.
    """
    if jax.process_count() == 1:
        yield
        return
    own = None
    try:
        yield
    except Exception as error:  # whatever went wrong, the others must not wait
        own = error
    text = "" if own is None else f"{own}" or type(own).__name__
    told = np.zeros(_TOLD_BYTES, np.uint8)
    words = np.frombuffer(text.encode()[:_TOLD_BYTES], np.uint8)
    told[: len(words)] = words
    found = np.asarray(multihost_utils.process_allgather(told))
    if own is not None:
        raise own
    failed = np.flatnonzero(found.any(axis=1))
    if len(failed):
        text = found[failed[0]].tobytes().rstrip(b"\0").decode(errors="replace")
        raise ElsewhereError(f"Process {failed[0]} failed in {what}: {text}")
