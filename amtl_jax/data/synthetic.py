"""The linear Gaussian family with known truth: y = (Bᵀx)ᵀ w_m + noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.scenarios import SyntheticTruth
from amtl_jax.data.sources import Rows, checked_range, row_positions
from amtl_jax.types import Array, Numbers

_SMALL, _LARGE = 2**10, 2**16  # rows


class _Family(NamedTuple):
    """What samples are generated from: M source tasks, the target behind them."""

    theta: Array  # [M + 1, D, O]
    noise: Array  # [M + 1]
    factor: Array | None  # [M + 1, D, D]: x = factor z, z ~ N(0, I)


class SyntheticSource:
    """Tasks of a known truth; every sample is generated on device from its task and row number.

    Args:
      truth: the representation, heads, noise, prices and input covariances.
      capacity: samples that each task can give.
    """

    names: tuple[str, ...]
    capacity: np.ndarray
    price: np.ndarray
    group: np.ndarray
    input_shape: tuple[int, ...]
    num_outputs: int

    def __init__(self, truth: SyntheticTruth, *, capacity: int = 2**30):
        theta = np.concatenate([truth.source_theta(), truth.target_theta()[None]])
        num_tasks, input_dim, num_outputs = len(theta) - 1, *theta.shape[1:]
        noise = np.broadcast_to(np.asarray(truth.noise, np.float32), num_tasks)
        factor = truth.input_factor
        self._family = _Family(
            jnp.asarray(theta, jnp.float32),
            jnp.asarray(np.append(noise, truth.target_noise), jnp.float32),
            None if factor is None else jnp.asarray(factor, jnp.float32),
        )
        self.names = tuple(f"source_{task}" for task in range(num_tasks))
        self.capacity = np.full(num_tasks, capacity)
        self.price = np.ones(num_tasks) if truth.price is None else np.asarray(truth.price)
        self.group = np.arange(num_tasks)
        self.input_shape = (input_dim,)
        self.num_outputs = num_outputs

    def draw(self, key: Array, counts: Numbers, *, start: Numbers | None = None) -> Rows:
        """Draws fresh samples; see `TaskSource.draw`."""
        start, stop = checked_range(self, counts, start)
        return self._generate(key, *row_positions(start, stop))

    def draw_target(self, key: Array, count: int) -> Rows:
        """Draws `count` target samples, as task M."""
        task = np.full(count, len(self.names), np.int32)
        return self._generate(key, task, np.arange(count))

    def _generate(self, key: Array, task: np.ndarray, row: np.ndarray) -> Rows:
        padding = 0, _padded(len(row)) - len(row)
        at = np.pad(task, padding), np.pad(row.astype(np.int32), padding)
        x, y = (np.asarray(part)[: len(row)] for part in _samples(key, self._family, *at))
        return Rows(x, y, task)


def _padded(count: int) -> int:
    """Rows that are generated for `count`: few sizes, since each is compiled for seconds."""
    if count > _LARGE:
        return -(-count // _LARGE) * _LARGE
    return max(_SMALL, 1 << (count - 1).bit_length())


@jax.jit
def _samples(key, family: _Family, task, row):
    """Sample `row` of `task` from a key of its own: the same in whatever draw it comes."""
    _, input_dim, num_outputs = family.theta.shape

    def one(task, row):
        own = jax.random.fold_in(jax.random.fold_in(key, task), row)
        drawn = jax.random.normal(own, (input_dim + num_outputs,))
        x, error = jnp.split(drawn, [input_dim])
        if family.factor is not None:
            x = jnp.matmul(family.factor[task], x, precision=jax.lax.Precision.HIGHEST)
        y = jnp.matmul(x, family.theta[task], precision=jax.lax.Precision.HIGHEST)
        return x, y + family.noise[task] * error

    return jax.vmap(one)(task, row)
