"""Several processes that compute one thing together, on one machine or on several."""

from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 20


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


def wait_for_all(name: str) -> None:
    """Waits until every process has come to the place of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def all_equal(numbers: np.ndarray) -> bool:
    """Whether every process has the same numbers; all of them must ask."""
    if jax.process_count() == 1:
        return True
    found = np.asarray(multihost_utils.process_allgather(numbers))
    return bool((found == found[:1]).all())
