"""Threads of XLA and of BLAS on a CPU, set before XLA starts. Imports no JAX."""

import os
import re

IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
_THREADS = 8  # of XLA's pool, which it reads from NPROC
_OF_A_DEVICE = 4  # of several on a CPU: it waits in one for the others, and computes in more
_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")


def calm_threads() -> None:
    """Keeps LAPACK calls from waiting for each other; what the user has set stays."""
    # Many small LAPACK calls gain nothing from BLAS threads, and lose much to their waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Two batched LAPACK calls at a time wait for each other for ever where XLA has two threads: put
    # them one after the other, and have more threads than calls that could still meet.
    if num_cpus() < threads_for(num_devices()):
        os.environ.setdefault("NPROC", str(threads_for(num_devices())))
    if "xla_cpu_enable_concurrency" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {IN_ORDER}".strip()


def may_run_two() -> bool:
    """Whether two computations may run at a time on a CPU without waiting for each other for ever.

    They may where `calm_threads` was called before XLA started, as the command does, or where the
    user or the machine gives XLA as many threads; a plain `import amtl_jax` changes no environment.
    """
    return num_threads() >= _THREADS


def threads_for(devices: int) -> int:
    """Threads that so many devices on a CPU need: with fewer they wait for each other for ever."""
    return max(_THREADS, _OF_A_DEVICE * devices if devices > 1 else 0)


def num_devices() -> int:
    """Devices that the environment has XLA make of a CPU."""
    told = _DEVICES.findall(os.environ.get("XLA_FLAGS", ""))
    return int(told[-1]) if told else 1


def num_threads() -> int:
    """Threads that XLA takes for its pool when it starts."""
    told = os.environ.get("NPROC", "")
    return int(told) if told.isdecimal() else num_cpus()


def num_cpus() -> int:
    """CPUs that this process may use: a container or `taskset` may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
