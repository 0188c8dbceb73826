"""Ragged per-task samples into fixed-shape blocks, on the host.

Sample counts differ from task to task, and an adaptive allocation makes them differ a lot. A
padded `[M, n_max, ...]` layout costs up to M times the budget; blocks of R rows that belong to
one task each cost at most one partly filled block a task, whatever the allocation.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.types import Numbers, TaskBatch

_ROW_STEP, _MAX_BLOCK_ROWS = 8, 256


def max_blocks(num_rows: int, num_tasks: int, block_rows: int) -> int:
    """Returns how many blocks any split of `num_rows` rows over the tasks can need at most.

    A shape that depends on this bound, not on the allocation, never recompiles.

    Args:
      num_rows: N, rows in all.
      num_tasks: M.
      block_rows: R, rows of a block.

    Returns:
      `M + (N − M) // R`, the worst case of one row more than full blocks in every task; N where
      there are fewer rows than tasks.

    Raises:
      ValueError: if a number is negative, or `num_tasks` or `block_rows` is 0.
    """
    if num_rows < 0 or num_tasks < 1 or block_rows < 1:
        raise ValueError(
            "max_blocks expects num_rows >= 0, num_tasks >= 1 and block_rows >= 1, got "
            f"num_rows={num_rows}, num_tasks={num_tasks}, block_rows={block_rows}."
        )
    if num_rows <= num_tasks:
        return num_rows
    return num_tasks + (num_rows - num_tasks) // block_rows


def default_block_rows(num_rows: int, num_tasks: int) -> int:
    """Returns R: two blocks or more for a task of N/M rows, with few rows of padding.

    Small enough to waste little on partly filled blocks where counts differ, large enough to keep
    the matrix units busy, and a multiple of 8 up to 256. Where all counts are N/M the last block of
    a task is nearly full: of the least number of blocks that these bounds allow and of one more,
    that is taken which has fewer slots.
    """
    mean = max(num_rows, 1) / num_tasks
    least = max(2, math.ceil(mean / _MAX_BLOCK_ROWS))

    def rows_of(blocks: int) -> int:
        return _ROW_STEP * math.ceil(mean / (_ROW_STEP * blocks))

    return rows_of(min((least, least + 1), key=lambda blocks: blocks * rows_of(blocks)))


def pack(
    x: ArrayLike,
    y: ArrayLike,
    task: Numbers,
    weight: Numbers | None = None,
    *,
    num_tasks: int,
    block_rows: int | None = None,
    num_blocks: int | None = None,
) -> TaskBatch:
    """Packs rows of many tasks into blocks, sorted by task.

    A host function: NumPy in, a `TaskBatch` on the default device out. Rows of a task keep their
    order. Blocks behind the last filled one have weight 0 and belong to the last task.

    Args:
      x: `[N, ...]` numbers; they become the default float dtype, integers as they are.
      y: `[N, O]` or `[N]` targets.
      task: `[N]` integer task of each row, in `[0, num_tasks)`, in any order.
      weight: `[N]` non-negative sample weights, 1 unless told. Rows of weight 0 (missing labels)
        may hold any label; it is stored as 0.
      num_tasks: M.
      block_rows: R; `default_block_rows(N, M)` unless told.
      num_blocks: B; `max_blocks(N, M, R)` unless told, so shapes depend on N alone.

    Returns:
      `TaskBatch` with x `[B, R, ...]`, y `[B, R, O]`, weight `[B, R]`, task `[B]`.

    Raises:
      ValueError: on mismatched shapes, task indices out of range, NaN or Inf in the inputs or in
        a label or weight that counts, or more blocks needed than `num_blocks`.
      TypeError: if `task` is not an integer array.
    """
    x = np.asarray(x)
    y, task, weight = checked_labels(x.shape, y, task, num_tasks, weight)
    num_rows = len(x)
    x = checked_inputs(x, task, np.arange(num_rows))
    if block_rows is None:
        block_rows = default_block_rows(num_rows, num_tasks)
    if num_blocks is None:
        num_blocks = max_blocks(num_rows, num_tasks, block_rows)

    row_of, block_task = pack_index(
        task, num_tasks=num_tasks, block_rows=block_rows, num_blocks=num_blocks
    )
    row_of = row_of.ravel()
    is_padding = row_of < 0

    def to_blocks(rows):  # one gather: samples are copied once
        if not num_rows:
            return jnp.zeros((num_blocks, block_rows, *rows.shape[1:]), rows.dtype)
        flat = rows.take(row_of, axis=0, mode="clip")
        flat[is_padding] = 0
        return jnp.asarray(flat.reshape(num_blocks, block_rows, *rows.shape[1:]))

    return TaskBatch(to_blocks(x), to_blocks(y), to_blocks(weight), jnp.asarray(block_task))


def pack_index(
    task: np.ndarray, *, num_tasks: int, block_rows: int, num_blocks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Says which row goes where in the blocks of `pack`, for rows that lie on the device already.

    Args:
      task: `[N]` integer task of each row, in `[0, num_tasks)`, in any order.
      num_tasks: M.
      block_rows: R.
      num_blocks: B.

    Returns:
      `[B, R]` int32 number of the row in each slot, -1 where there is none, and `[B]` int32 task of
      each block.

    Raises:
      ValueError: if more blocks are needed than `num_blocks`.
    """
    order = np.argsort(task, kind="stable")
    counts = np.bincount(task, minlength=num_tasks)
    blocks = -(-counts // block_rows)
    if blocks.sum() > num_blocks:
        raise ValueError(
            f"pack needs {blocks.sum()} blocks of {block_rows} rows for these {len(task)} rows of "
            f"{num_tasks} tasks, got num_blocks={num_blocks}. max_blocks(N, M, R) = "
            f"{max_blocks(len(task), num_tasks, block_rows)} always suffices."
        )
    first_row = np.cumsum(counts) - counts
    first_slot = (np.cumsum(blocks) - blocks) * block_rows
    slot = np.arange(len(task)) + np.repeat(first_slot - first_row, counts)
    row_of = np.full(num_blocks * block_rows, -1, np.int32)
    row_of[slot] = order
    block_task = np.full(num_blocks, num_tasks - 1, np.int32)
    block_task[: blocks.sum()] = np.repeat(np.arange(num_tasks, dtype=np.int32), blocks)
    return row_of.reshape(num_blocks, block_rows), block_task


def checked_labels(
    x_shape: tuple[int, ...],
    y: ArrayLike,
    task: Numbers,
    num_tasks: int,
    weight: Numbers | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validates all of rows but their inputs, and brings it to canonical dtypes; see `pack`."""
    y, task = np.asarray(y), np.asarray(task)
    if y.ndim == 1:
        y = y[:, None]
    if not x_shape or y.ndim != 2 or task.ndim != 1 or not x_shape[0] == len(y) == len(task):
        raise ValueError(
            "pack expects x [N, ...], y [N, O] or [N] and task [N] of the same N, got shapes "
            f"{x_shape}, {y.shape} and {task.shape}."
        )
    if not np.issubdtype(task.dtype, np.integer):
        raise TypeError(f"pack expects integer task indices, got dtype {task.dtype}.")
    if len(task) and not 0 <= task.min() <= task.max() < num_tasks:
        raise ValueError(
            f"pack expects task indices in [0, {num_tasks}), got {task.min()} to {task.max()}."
        )
    float_dtype = jnp.zeros(()).dtype  # float32, or float64 where x64 is enabled
    y = y.astype(float_dtype)
    weight = np.ones(len(y), float_dtype) if weight is None else np.asarray(weight, float_dtype)
    if weight.shape != task.shape:
        raise ValueError(f"pack expects weight {task.shape} like task, got shape {weight.shape}.")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("pack expects finite weights >= 0; give missing labels weight 0.")
    y = np.where(weight[:, None] > 0, y, 0)
    if not np.isfinite(y).all():
        bad = np.flatnonzero(~np.isfinite(y).all(axis=1))
        raise ValueError(
            f"pack found NaN or Inf in y in {len(bad)} of {len(y)} rows (first: row {bad[0]}, task "
            f"{task[bad[0]]}). Give rows with a missing label weight 0."
        )
    return y.astype(float_dtype), task.astype(np.int64), weight


def checked_inputs(x: ArrayLike, task: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Brings inputs `[n, ...]` to the default float dtype; refuses NaN and Inf.

    Args:
      x: the inputs.
      task: `[N]` task of every row that there is.
      rows: `[n]` numbers of these.
    """
    x = np.asarray(x).astype(jnp.zeros(()).dtype)
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
        raise ValueError(
            f"pack found NaN or Inf in x in {len(bad)} of {len(x)} rows (first: row "
            f"{rows[bad[0]]}, task {task[rows[bad[0]]]}). Impute or remove these rows first."
        )
    return x
