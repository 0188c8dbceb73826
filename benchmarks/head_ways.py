"""Heads of many tasks: ours, and what people write instead, on the same rows to the same answer."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from amtl_jax.cpu_threads import num_cpus
from amtl_jax.packing import default_block_rows
from amtl_jax.scale.mesh import make_mesh, place_batch, place_whole
from benchmarks.timing import Way, compiled

_MOST_PADDED = 2 << 30  # bytes


class HeadRows(NamedTuple):
    """Rows of all tasks, sorted by task.

    Attributes:
      x: `[N, K]` float32 features.
      y: `[N]` float32 labels.
      task: `[N]` task of each row.
      first: `[M + 1]` first row of each task, and N.
      ridge: `[M]` float32 in units of the Gram matrix.
    """

    x: np.ndarray
    y: np.ndarray
    task: np.ndarray
    first: np.ndarray
    ridge: np.ndarray

    def rows_of(self, task: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of a task."""
        own = slice(self.first[task], self.first[task + 1])
        return self.x[own], self.y[own]


def make_rows(
    num_tasks: int, num_features: int, num_rows: int, *, largest: float | None = None, seed: int = 0
) -> HeadRows:
    """Draws Gaussian rows.

    Args:
      num_tasks: M.
      num_features: K.
      num_rows: N.
      largest: share of all rows that are the first task's, the others having as many each; None:
        all tasks have as many.
      seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    counts = np.full(num_tasks, num_rows // num_tasks)
    if largest is not None:
        counts[1:] = round((1 - largest) * num_rows) // (num_tasks - 1)
        counts[0] = 0
    counts[0] += num_rows - counts.sum()
    x = rng.normal(size=(num_rows, num_features)).astype(np.float32)
    task = np.repeat(np.arange(num_tasks), counts)
    heads = rng.normal(size=(num_tasks, num_features)).astype(np.float32)
    y = np.einsum("nk,nk->n", x, heads[task]) + rng.normal(size=num_rows).astype(np.float32)
    first = np.concatenate([[0], np.cumsum(counts)])
    return HeadRows(x, y, task, first, (1e-3 * counts).astype(np.float32))


def in_float64(rows: HeadRows) -> np.ndarray:
    """`[M, K]` heads by `numpy.linalg.solve` in float64: what every way is held to."""
    heads = []
    for task, ridge in enumerate(rows.ridge.astype(float)):
        x, y = (leaf.astype(float) for leaf in rows.rows_of(task))
        centred = x - x.mean(axis=0)
        gram = centred.T @ centred + ridge * np.eye(x.shape[1])
        heads.append(np.linalg.solve(gram, centred.T @ (y - y.mean())))
    return np.stack(heads)


def packed(rows: HeadRows, *, has_padding: bool = True) -> amtl.TaskBatch:
    """The rows in blocks as large as the library chooses.

    Args:
      rows: of all tasks.
      has_padding: as many blocks as any split of the rows over the tasks could need, as the library
        chooses; otherwise as many as these rows need.
    """
    num_tasks = len(rows.ridge)
    size = default_block_rows(len(rows.x), num_tasks)
    least = int(np.sum(-(-np.diff(rows.first) // size)))
    num_blocks = None if has_padding else least
    return amtl.pack(rows.x, rows.y, rows.task, num_tasks=num_tasks, num_blocks=num_blocks)


def statistics_of(batch: amtl.TaskBatch, *, num_tasks: int) -> amtl.HeadStats:
    """Head statistics of rows that are features themselves."""
    return amtl.head_stats(batch.x, batch, num_tasks=num_tasks)


def ours(rows: HeadRows) -> dict[str, Way]:
    """The library: statistics, their solution, and both; `[M, K]` heads and `[M]` intercepts."""
    batch = packed(rows)
    ridge = jnp.asarray(rows.ridge)
    statistics = functools.partial(statistics_of, num_tasks=len(rows.ridge))

    def solution(stats: amtl.HeadStats, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
        heads = amtl.solve_heads(stats, ridge=ridge)
        return heads.weight[..., 0], heads.bias[..., 0]

    stats = jax.jit(statistics)(batch)
    return {
        "amtl_jax": compiled(lambda batch, ridge: solution(statistics(batch), ridge), batch, ridge),
        "amtl_jax, statistics": compiled(statistics, batch),
        "amtl_jax, solution": compiled(solution, stats, ridge),
        "amtl_jax, with residual variances": compiled(
            lambda batch, ridge: amtl.solve_heads(statistics(batch), ridge=ridge), batch, ridge
        ),
    }


def on_devices(rows: HeadRows) -> dict[str, Way]:
    """The library on all devices, which share rows and tasks; nothing where there is one.

    Devices have as many blocks each. Those of padding lie behind the others, and would leave the
    last devices without work.
    """
    devices = len(jax.devices())
    if devices == 1:
        return {}
    mesh = make_mesh(tasks=devices)
    batch = place_batch(packed(rows, has_padding=False), mesh)
    ridge = place_whole(rows.ridge, mesh)

    def heads(batch: amtl.TaskBatch, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
        stats = statistics_of(batch, num_tasks=len(rows.ridge))
        found = amtl.solve_heads(stats, ridge=ridge)
        return found.weight[..., 0], found.bias[..., 0]

    with jax.set_mesh(mesh):
        return {f"amtl_jax, {devices} devices": compiled(heads, batch, ridge)}


class Padded(NamedTuple):
    """Rows of every task, padded to the largest.

    Attributes:
      x: `[M, n_max, K]` float32, zeros behind a task's rows.
      y: `[M, n_max]` float32.
      weight: `[M, n_max]` float32, 1 for rows and 0 behind them.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def pad(rows: HeadRows) -> Padded | None:
    """Pads all tasks to the largest; None where that takes over 2 GiB."""
    counts = np.diff(rows.first)
    shape = (len(counts), int(counts.max()), rows.x.shape[1])
    if 4 * np.prod(shape, dtype=np.int64) > _MOST_PADDED:
        return None
    x, y, weight = np.zeros(shape, np.float32), *np.zeros((2, *shape[:2]), np.float32)
    for task, count in enumerate(counts):
        x[task, :count], y[task, :count] = rows.rows_of(task)
        weight[task, :count] = 1
    return Padded(x, y, weight)


def padded_vmap(rows: Padded, ridge: np.ndarray) -> Way:
    """`jax.vmap` over padded tasks."""

    def one(x, y, weight, ridge):
        count = jnp.sum(weight)
        mean, label_mean = weight @ x / count, weight @ y / count
        centred = weight[:, None] * (x - mean[None])
        gram = jnp.matmul(centred.T, centred, precision="highest") + ridge * jnp.eye(len(mean))
        moment = jnp.matmul(centred.T, y - label_mean, precision="highest")
        head = jax.scipy.linalg.solve(gram, moment, assume_a="pos")
        return head, label_mean - mean @ head

    return compiled(jax.vmap(one), *map(jnp.asarray, (*rows, ridge)))


def padded_torch(rows: Padded, ridge: np.ndarray) -> Way:
    """Batched `torch.linalg` over padded tasks."""
    import torch

    torch.set_num_threads(num_cpus())
    x, y, weight, strength = (torch.from_numpy(leaf) for leaf in (*rows, ridge))
    eye = torch.eye(x.shape[2])

    def solve_all():
        count = weight.sum(1)
        mean = torch.einsum("mn,mnk->mk", weight, x) / count[:, None]
        label_mean = (weight * y).sum(1) / count
        centred = weight[..., None] * (x - mean[:, None])
        gram = centred.mT @ centred + strength[:, None, None] * eye
        moment = centred.mT @ (y - label_mean[:, None])[..., None]
        heads = torch.cholesky_solve(moment, torch.linalg.cholesky(gram))[..., 0]
        return heads, label_mean - (mean * heads).sum(1)

    return Way(solve_all)


def loops(rows: HeadRows) -> dict[str, Way]:
    """A loop over tasks in Python, by what people know."""
    from scipy.linalg.lapack import sposv
    from sklearn.linear_model import Ridge

    def blas(x, y, ridge):
        mean, label_mean = x.mean(axis=0), y.mean()
        gram = x.T @ x
        gram -= len(x) * np.outer(mean, mean)
        gram.flat[:: len(mean) + 1] += ridge
        head = sposv(gram, x.T @ y - len(x) * label_mean * mean, overwrite_a=True)[1]
        return head, label_mean - mean @ head

    def lstsq(x, y, ridge):
        mean, label_mean = x.mean(axis=0), y.mean()
        tall = np.concatenate([x - mean, np.sqrt(ridge) * np.eye(len(mean), dtype=x.dtype)])
        labels = np.concatenate([y - label_mean, np.zeros_like(mean)])
        head = np.linalg.lstsq(tall, labels)[0]
        return head, label_mean - mean @ head

    def sklearn(x, y, ridge):
        model = Ridge(alpha=float(ridge)).fit(x, y)
        return model.coef_, model.intercept_

    return {
        "NumPy and LAPACK normal equations": _loop(rows, blas),
        "numpy.linalg.lstsq": _loop(rows, lstsq),
        "sklearn Ridge": _loop(rows, sklearn),
    }


def torch_loop(rows: HeadRows) -> Way:
    """A loop over tasks by `torch.linalg`."""
    import torch

    torch.set_num_threads(num_cpus())
    eye = torch.eye(rows.x.shape[1])

    def one(x, y, ridge):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        mean, label_mean = x.mean(0), y.mean()
        centred = x - mean
        gram = centred.T @ centred + float(ridge) * eye
        moment = centred.T @ (y - label_mean)
        head = torch.cholesky_solve(moment[:, None], torch.linalg.cholesky(gram))[:, 0]
        return head.numpy(), float(label_mean - mean @ head)

    return _loop(rows, one)


def _loop(rows: HeadRows, one: Callable[..., Any]) -> Way:
    def solve_all():
        heads = np.empty((len(rows.ridge), rows.x.shape[1]), np.float32)
        biases = np.empty(len(rows.ridge), np.float32)
        for task, ridge in enumerate(rows.ridge):
            heads[task], biases[task] = one(*rows.rows_of(task), ridge)
        return heads, biases

    return Way(solve_all)
