"""Blocks split over the devices of a mesh, with sums that do not depend on how many there are.

A mesh that is set by `jax.set_mesh` is found here by the names of its axes; without one nothing is
split. Blocks fall into eight parts, or as many more as a mesh needs, and a device has whole parts.
A task's blocks are neighbours, so at most one task goes on from a part to the next: what a part
adds to the task of the part before goes to an edge of its own. So every sum and every edge comes
from one device, the others add zeros to it, and one all-reduce is exact in whatever order it adds.
The edges then join their tasks in the order of the parts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as Spec

from amtl_jax.types import Array

TARGETS, TASKS, DATA = "targets", "tasks", "data"
PARTS = 8


class Edges(NamedTuple):
    """Where the sum of every block goes.

    Attributes:
      slot: `[B]` int32 task of the block; M + p − 1 where part p > 0 goes on with a task.
      owner: `[P − 1]` int32 the task that each edge belongs to.
    """

    slot: Array
    owner: Array


class Sums(NamedTuple):
    """Sums by slot, on the way to sums by task; the leaves' axis of tasks is the caller's.

    Attributes:
      total: tree of `[M, ...]` leaves.
      edges: tree of `[P − 1, ...]` leaves.
    """

    total: Any
    edges: Any


def num_parts(num_devices: int) -> int:
    """Parts for so many devices: their smallest multiple that is at least 8."""
    return num_devices * -(-PARTS // num_devices)


def row_axes() -> tuple[str, ...]:
    """Axes of the mesh in force that blocks are split over; none within a part."""
    return tuple(name for name in (TASKS, DATA) if _axis_size(name) > 1)


def _axis_size(name: str) -> int:
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return mesh.shape[name] if kinds.get(name) == AxisType.Auto else 1


def _num_devices() -> int:
    return _axis_size(TASKS) * _axis_size(DATA)


def edges_of(task: Array, num_tasks: int) -> Edges:
    """Splits blocks in parts of ⌈B/P⌉; `task` is `[B]`, non-decreasing."""
    parts = num_parts(_num_devices())
    num_blocks = len(task)
    if not num_blocks:
        return Edges(jnp.zeros(0, jnp.int32), jnp.zeros(parts - 1, jnp.int32))
    size = -(-num_blocks // parts)
    part = jnp.arange(num_blocks, dtype=jnp.int32) // size
    first = jnp.minimum(jnp.arange(parts, dtype=jnp.int32) * size, num_blocks - 1)
    goes_on = jnp.arange(parts) > 0
    goes_on &= task[first] == task[jnp.maximum(first - 1, 0)]
    slot = jnp.where(goes_on[part] & (task == task[first][part]), num_tasks - 1 + part, task)
    return Edges(slot.astype(jnp.int32), task[first[1:]].astype(jnp.int32))


def empty_sums(one: Any, num_tasks: int, num_edges: int, *, axis: int = 0) -> Sums:
    """Zeros for sums of blocks.

    Args:
      one: tree of arrays or shapes, the sums of some blocks, blocks along `axis`.
      num_tasks: M.
      num_edges: P − 1.
      axis: of blocks, and of tasks.
    """

    def zeros(count: int) -> Any:
        def like(leaf: Any) -> Array:
            return jnp.zeros((*leaf.shape[:axis], count, *leaf.shape[axis + 1 :]), leaf.dtype)

        return jax.tree.map(like, one)

    return Sums(zeros(num_tasks), zeros(num_edges))


def add_blocks(sums: Sums, slot: Array, blocks: Any, *, axis: int = 0) -> Sums:
    """Adds the sums of blocks to their slots, in the order of the blocks.

    Two scatters, of which each drops what is the other's: one of M + P − 1 slots would have to be
    cut in the end, which is a copy.
    """
    num_tasks = jax.tree.leaves(sums.total)[0].shape[axis]
    edge = jnp.where(slot < num_tasks, jnp.iinfo(slot.dtype).max, slot - num_tasks)
    before = (slice(None),) * axis

    def added(leaves: Any, place: Array) -> Any:
        return jax.tree.map(
            lambda leaf, new: leaf.at[(*before, place)].add(new, mode="drop"), leaves, blocks
        )

    return Sums(added(sums.total, slot), added(sums.edges, edge))


def sum_by_task(
    of_blocks: Callable[..., tuple[Any, Sums]],
    blocks: Any,
    task: Array,
    *,
    num_tasks: int,
    in_axes: Any = 0,
    axis: int = 0,
) -> tuple[Any, Any]:
    """Sums over the blocks of every task, each device over its own.

    Args:
      of_blocks: `(blocks, slot, num_edges) -> (kept, sums)`: what is kept of every block, blocks
        along `axis`, and `Sums` by slot with tasks along `axis`.
      blocks: tree of what is there of every block.
      task: `[B]` task of each block, non-decreasing.
      num_tasks: M.
      in_axes: of the blocks in the leaves, as `jax.vmap` takes it.
      axis: of the blocks in what is kept, and of the tasks in the sums.

    Returns:
      What is kept, and sums by task.
    """
    slot, owner = edges_of(task, num_tasks)
    axes = _axes_for(len(task))
    num_edges = len(owner)
    if not axes:
        kept, sums = of_blocks(blocks, slot, num_edges)
        return kept, _joined(sums, owner, axis)

    def of_device(blocks: Any, slot: Array) -> tuple[Any, Sums]:
        kept, sums = of_blocks(blocks, slot, num_edges)
        return kept, jax.lax.psum(sums, axes)

    def along(place: int) -> Spec:
        return Spec(*(None,) * place, axes)

    specs = (jax.tree.map(along, in_axes), Spec(axes))
    run = jax.shard_map(of_device, in_specs=specs, out_specs=(along(axis), Spec()), check_vma=False)
    kept, sums = run(blocks, slot)
    return kept, _joined(sums, owner, axis)


def _joined(sums: Sums, owner: Array, axis: int) -> Any:
    """Sums by task: the edges join their tasks."""
    place = (*(slice(None),) * axis, owner)
    return jax.tree.map(lambda leaf, edge: leaf.at[place].add(edge), sums.total, sums.edges)


def _axes_for(num_blocks: int) -> tuple[str, ...]:
    """Axes that so many blocks are split over; what does not divide every device does whole."""
    return () if num_blocks % num_parts(_num_devices()) else row_axes()


def map_blocks(function: Callable[..., Any], blocks: Any, *shared: Any) -> Any:
    """Maps `(blocks, *shared)` to what has a leading axis of blocks, each device its own blocks."""
    axes = _axes_for(len(jax.tree.leaves(blocks)[0]))
    if not axes:
        return function(blocks, *shared)
    specs = (Spec(axes), *(Spec() for _ in shared))
    run = jax.shard_map(function, in_specs=specs, out_specs=Spec(axes), check_vma=False)
    return run(blocks, *shared)


def sum_devices(function: Callable[..., Any], blocks: Any, *shared: Any) -> Any:
    """Sums what `(blocks, *shared)` gives on every device for its own blocks, in any order."""
    axes = _axes_for(len(jax.tree.leaves(blocks)[0]))
    if not axes:
        return function(blocks, *shared)
    specs = (Spec(axes), *(Spec() for _ in shared))

    def of_device(blocks: Any, *shared: Any) -> Any:
        return jax.lax.psum(function(blocks, *shared), axes)

    return jax.shard_map(of_device, in_specs=specs, out_specs=Spec(), check_vma=False)(
        blocks, *shared
    )


def map_tasks(function: Callable[..., Any], trees: tuple[Any, ...]) -> Any:
    """Maps `[M, ...]` leaves to such, each device of the axis `tasks` its share; all get all."""
    devices = _axis_size(TASKS)
    if devices == 1:
        return function(*trees)
    num_tasks = len(jax.tree.leaves(trees)[0])
    missing = -num_tasks % devices

    def widened(leaf: Array) -> Array:
        return jnp.pad(leaf, [(0, missing), *((0, 0),) * (leaf.ndim - 1)])

    run = jax.shard_map(function, in_specs=Spec(TASKS), out_specs=Spec(TASKS), check_vma=False)
    found = run(*jax.tree.map(widened, trees))
    return jax.tree.map(lambda leaf: everywhere(leaf)[:num_tasks], found)


def everywhere(array: Array) -> Array:
    """The same array, whole on every device of the mesh in force.

    What is small and summed up later is gathered by this first: then the order of the sum does not
    depend on the mesh.
    """
    # The barrier keeps XLA from making one sum, in another order, of the two before and behind.
    array = jax.lax.optimization_barrier(array)
    return jax.lax.with_sharding_constraint(array, Spec()) if row_axes() else array


def sum_rows_by_task(values: Array, task: Array, num_tasks: int) -> Array:
    """`[M, ...]` sums by task of `[B, R, ...]` numbers of rows, the same on any mesh."""
    return jax.ops.segment_sum(everywhere(_by_halves(values, axis=1)), task, num_tasks)


def sum_rows(values: Array) -> Array:
    """`[]` sum of `[..., B, R]` numbers of rows, the same on any mesh: blocks first."""
    of_blocks = everywhere(_by_halves(values, axis=-1))
    return jnp.sum(_by_halves(of_blocks, axis=-1))


def _by_halves(values: Array, axis: int) -> Array:
    """A sum along an axis in an order that the other axes and zeros behind it do not change."""
    values = jnp.moveaxis(values, axis, 0)
    half = 1 << max(len(values) - 1, 0).bit_length()
    while half > 1:
        half //= 2
        values = jnp.concatenate(
            [values[half:] + values[: len(values) - half], values[len(values) - half : half]]
        )
    return values[0] if len(values) else jnp.zeros(values.shape[1:], values.dtype)
