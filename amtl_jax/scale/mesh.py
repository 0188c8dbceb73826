"""The mesh of a computation, and a batch of samples on it."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from amtl_jax.cpu_threads import num_threads, threads_for
from amtl_jax.sharded import DATA, TARGETS, TASKS, num_parts
from amtl_jax.types import Params, TaskBatch


def make_mesh(*, targets: int = 1, tasks: int = 1, data: int = 1) -> Mesh:
    """Makes a mesh of the first devices; `jax.set_mesh` puts it in force.

    With it in force head statistics, closed-form heads, the linear fit and forward passes of all
    encoders divide their work; everything else is left to XLA. Rows are split over `tasks` and
    `data` together, the solution of the heads over `tasks`.

    Args:
      targets: devices that take targets of a study among them; no collective at all.
      tasks: devices that share the M heads, and rows.
      data: devices that share rows alone: they solve all their share of heads alike.

    Returns:
      A mesh with the axes `targets`, `tasks`, `data`.

    Raises:
      ValueError: if a number is below 1, or there are not so many devices.
    """
    shape = {TARGETS: targets, TASKS: tasks, DATA: data}
    if min(shape.values()) < 1:
        raise ValueError(f"make_mesh expects at least 1 device an axis, got {shape}.")
    devices = jax.devices()
    wanted = targets * tasks * data
    if wanted > len(devices):
        raise ValueError(
            f"A mesh of {targets} x {tasks} x {data} (targets x tasks x data) needs {wanted} "
            f"devices, got {len(devices)} of kind {devices[0].device_kind}. On a CPU, "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted} makes as many."
        )
    if wanted > 1 and devices[0].platform == "cpu" and num_threads() < threads_for(wanted):
        raise ValueError(
            f"{wanted} devices on a CPU need {threads_for(wanted)} threads, or they wait for each "
            f"other for ever, got {num_threads()}. Set NPROC={threads_for(wanted)} before JAX "
            "starts."
        )
    return jax.make_mesh(
        tuple(shape.values()),
        tuple(shape),
        axis_types=(AxisType.Auto,) * len(shape),
        devices=devices[:wanted],
    )


def in_force(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """Has what is compiled in the block divide its work over a mesh, where there is one."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def whole_blocks(num_blocks: int, mesh: Mesh) -> int:
    """The least number of blocks, at least so many, that falls into whole parts of a mesh."""
    parts = num_parts(mesh.shape[TASKS] * mesh.shape[DATA])
    return num_blocks + -num_blocks % parts


def row_sharding(mesh: Mesh) -> NamedSharding:
    """How the blocks of a batch lie on a mesh: neighbours on every device, as few tasks as can be.

    The sums of a task then come from as few devices as can be.
    """
    return NamedSharding(mesh, Spec((TASKS, DATA)))


def place_batch(batch: TaskBatch, mesh: Mesh) -> TaskBatch:
    """Splits the rows of a batch over the devices of a mesh.

    Blocks of padding are added until they divide.

    Args:
      batch: packed samples, on the host or on any device; every process has the same.
      mesh: of `make_mesh`.

    Returns:
      The same samples; `x`, `y` and `weight` split along B over `tasks` and `data`, `task` whole
      everywhere.
    """
    missing = whole_blocks(len(batch.task), mesh) - len(batch.task)

    def widened(leaf: np.ndarray) -> np.ndarray:
        rest = np.zeros((missing, *leaf.shape[1:]), leaf.dtype)
        return np.concatenate([leaf, rest]) if missing else leaf

    host = jax.tree.map(np.asarray, batch)
    last = host.task[-1:] if len(host.task) else np.zeros(1, np.int32)
    task = np.concatenate([host.task, np.repeat(last, missing)])
    split = row_sharding(mesh)
    x, y, weight = (_put(widened(leaf), split) for leaf in (host.x, host.y, host.weight))
    return TaskBatch(x, y, weight, _put(task, NamedSharding(mesh, Spec())))


def place_whole(tree: Params, mesh: Mesh) -> Params:
    """Puts every array of a tree whole on every device of a mesh; every process has the same."""
    whole = NamedSharding(mesh, Spec())
    return jax.tree.map(lambda leaf: _put(leaf, whole), tree)


def _put(leaf, sharding: NamedSharding) -> jax.Array:
    """An array on the devices of this process, each its own share of it."""
    if jnp.issubdtype(getattr(leaf, "dtype", np.dtype(float)), jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
