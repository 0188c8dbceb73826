"""Jobs of the library's parts: heads, relevance and corruptions."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import amtl_jax as amtl
from amtl_jax.data.corruptions import corrupt
from benchmarks import counts, head_ways, relevance_ways
from benchmarks.jobs import Job
from benchmarks.timing import compiled

_CONDITION = 300.0  # of the source heads
_WEAK = 0.01  # of the penalty that makes all coefficients zero


def head_jobs(num_tasks: int, num_features: int, num_rows: int) -> Iterator[Job]:
    """Statistics of evenly split rows, and heads with all that `solve_heads` returns."""
    rows = head_ways.make_rows(num_tasks, num_features, num_rows)
    batch = head_ways.packed(rows)
    yield statistics_job(rows, batch)
    yield solution_job(rows, batch)


def statistics_job(rows: head_ways.HeadRows, batch: amtl.TaskBatch) -> Job:
    """Statistics of rows, packed in a batch."""
    (num_rows, num_features), num_tasks = rows.x.shape, len(rows.ridge)
    return Job(
        "statistics",
        f"M = {num_tasks:,}, K = {num_features}, {num_rows:,} rows",
        compiled(functools.partial(head_ways.statistics_of, num_tasks=num_tasks), batch),
        num_rows,
        "rows",
        counts.statistics(num_rows, num_features, num_tasks),
    )


def solution_job(rows: head_ways.HeadRows, batch: amtl.TaskBatch) -> Job:
    """Heads of the statistics of rows, with all that `solve_heads` returns."""
    num_features, num_tasks = rows.x.shape[1], len(rows.ridge)
    statistics = jax.jit(head_ways.statistics_of, static_argnames="num_tasks")
    stats = statistics(batch, num_tasks=num_tasks)
    return Job(
        "solve_heads",
        f"M = {num_tasks:,}, K = {num_features}",
        compiled(_solution, stats, jnp.asarray(rows.ridge)),
        num_tasks,
        "tasks",
        counts.solution(num_tasks, num_features),
    )


def _solution(stats: amtl.HeadStats, ridge: jax.Array) -> amtl.Heads:
    return amtl.solve_heads(stats, ridge=ridge)


def relevance_jobs(num_sources: int, num_targets: int, num_features: int) -> Iterator[Job]:
    """Every solver of relevance, all targets at once."""
    solvers = {
        "basis_pursuit": amtl.basis_pursuit,
        "lasso": _weak_lasso,
        "min_norm": amtl.min_norm,
    }
    heads = relevance_ways.make_heads(num_sources, num_targets, num_features, condition=_CONDITION)
    for name, solver in solvers.items():
        needed = counts.min_norm(num_sources, num_targets, num_features)
        yield Job(
            name,
            f"M = {num_sources}, K = {num_features}, {num_targets} target{'s' * (num_targets > 1)}",
            relevance_ways.ours(heads, solver),
            num_targets,
            "targets",
            needed if name == "min_norm" else counts.UNKNOWN,
        )


def _weak_lasso(source_heads: jax.Array, target_head: jax.Array) -> amtl.Relevance:
    steepest = jnp.max(jnp.abs(jnp.einsum("mko,ko->m", source_heads, target_head)))
    return amtl.lasso(source_heads, target_head, penalty=_WEAK * steepest)


def corruption_jobs(num_images: int, names: Sequence[str]) -> Iterator[Job]:
    """Each corruption on the device, a key an image."""
    pixels = np.random.default_rng(0).uniform(size=(num_images, 28, 28))
    images, key = jnp.asarray(pixels, jnp.float32), jax.random.key(0)
    for name in names:
        yield Job(
            f"corrupt, {name}",
            f"{num_images:,} images",
            compiled(functools.partial(corrupt, name), key, images),
            num_images,
            "images",
            counts.image_pass(num_images, 28 * 28),
        )
