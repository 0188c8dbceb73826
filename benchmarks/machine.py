"""What the machine can do at most, measured in the run that is compared with it."""

import os
import platform
import resource
import sys
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
      copy: bytes a second read and written by a large copy onto itself, both counted. A copy to
        memory that the allocator takes afresh is four times slower, for its page faults.
      matmul: operations a second of a large float32 product at precision HIGHEST.
    """

    copy: float
    matmul: float


def measure_ceiling(*, small: bool = False) -> Ceiling:
    """Measures a large copy and a large product on the default device."""
    size = _MATMUL // 4 if small else _MATMUL
    numbers = jnp.zeros(_COPIED // 64 if small else _COPIED, jnp.float32)
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    size_of_copy = 2 * numbers.nbytes
    add_one = jax.jit(lambda numbers: numbers + 1, donate_argnums=0)

    def copy() -> jax.Array:
        nonlocal numbers
        numbers = add_one(numbers)
        return numbers

    ways = {
        "copy": copy,
        "matmul": compiled(lambda one: jnp.matmul(one, one, precision="highest"), matrix).call,
    }
    seconds = side_by_side(ways, rounds=7)
    return Ceiling(
        copy=size_of_copy / float(np.median(seconds["copy"])),
        matmul=2 * size**3 / float(np.median(seconds["matmul"])),
    )


def describe() -> dict[str, Any]:
    """Device, cores and versions, for the JSON of a benchmark."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "cores": num_cpus(),
        "threads": {name: os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "NPROC")},
        "malloc": os.environ.get("GLIBC_TUNABLES"),
        "python": platform.python_version(),
        **package_versions(),
    }


def peak_memory() -> int:
    """Bytes that this process had resident at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
