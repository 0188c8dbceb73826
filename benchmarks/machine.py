"""What the machine can do at most, measured in the run that is compared with it."""

import os
import platform
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.cpu_threads import num_cpus
from amtl_jax.experiment.versions import package_versions
from benchmarks.timing import compiled, side_by_side

_COPIED = 1 << 26  # numbers of 4 bytes
_MATMUL = 2048


class Ceiling(NamedTuple):
    """What is there to reach.

    Attributes:
      copy: bytes a second read and written by a large copy, both counted.
      matmul: operations a second of a large float32 product at precision HIGHEST.
    """

    copy: float
    matmul: float


def keep_to(cores: int) -> None:
    """Keeps this process to its first cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("--cores needs a system with CPU affinity, such as Linux.")
    own = sorted(os.sched_getaffinity(0))
    if not 0 < cores <= len(own):
        raise SystemExit(f"--cores expects 1 to {len(own)}, got {cores}.")
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), own[:cores])


def measure_ceiling(*, small: bool = False) -> Ceiling:
    """Measures a large copy and a large product on the default device."""
    size = _MATMUL // 4 if small else _MATMUL
    numbers = jnp.zeros(_COPIED // 64 if small else _COPIED, jnp.float32)
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    ways = {
        "copy": compiled(lambda numbers: numbers + 1, numbers).call,
        "matmul": compiled(lambda one: jnp.matmul(one, one, precision="highest"), matrix).call,
    }
    seconds = side_by_side(ways, rounds=7)
    return Ceiling(
        copy=2 * numbers.nbytes / float(np.median(seconds["copy"])),
        matmul=2 * size**3 / float(np.median(seconds["matmul"])),
    )


def describe() -> dict[str, Any]:
    """Device, cores and versions, for the JSON of a benchmark."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "cores": num_cpus(),
        "threads": {name: os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "NPROC")},
        "python": platform.python_version(),
        **package_versions(),
    }
