"""The linear Gaussian family with known truth: y = (Bᵀx)ᵀ w_m + noise, x ~ N(0, I)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.data.sources import Rows, checked_range, row_positions
from amtl_jax.types import Array

SCENARIOS = ("gauss", "one", "spread", "dup", "dup2")
_DUPLICATE_NOISE = 0.02


class SyntheticTruth(NamedTuple):
    """The true representation and heads.

    Attributes:
      encoder: `[D, K]` orthonormal columns.
      source_heads: `[K, M]` for one output, `[K, M, O]` for more.
      target_head: `[K]`, or `[K, O]`.
      noise: standard deviation of the label noise.
    """

    encoder: np.ndarray
    source_heads: np.ndarray
    target_head: np.ndarray
    noise: float


def synthetic_truth(
    scenario: str,
    *,
    seed: int = 0,
    num_tasks: int = 40,
    input_dim: int = 40,
    num_features: int = 4,
    num_outputs: int = 1,
    noise: float = 1.0,
) -> SyntheticTruth:
    """Draws the truth of a reference scenario; heads have unit norm for every output.

    `gauss`: Gaussian heads and target. `one`: the target is the first source. `spread`: the
    target is the normalised sum of all sources with random signs. `dup`: sources are near-copies
    of e_1 … e_{K−1} in turn, only the last is near e_K, and the target is e_K. `dup2`: the same
    sources, target (e_1 + ½ e_K)/√1.25.

    Args:
      scenario: one of `SCENARIOS`.
      seed: of NumPy's generator.
      num_tasks: M.
      input_dim: D.
      num_features: K, at most D and, for `dup` and `dup2`, at least 2.
      num_outputs: O.
      noise: standard deviation of the label noise.

    Raises:
      ValueError: on an unknown scenario or sizes that do not fit.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown scenario {scenario!r}; expected one of {SCENARIOS}.")
    least = 2 if scenario.startswith("dup") else 1
    if not least <= num_features <= input_dim or num_tasks < 1 or num_outputs < 1 or noise < 0:
        raise ValueError(
            f"synthetic_truth({scenario!r}) expects {least} <= num_features <= input_dim, at "
            f"least one task and output, and noise >= 0, got {num_features=}, {input_dim=}, "
            f"{num_tasks=}, {num_outputs=}, {noise=}."
        )
    generator = np.random.default_rng([SCENARIOS.index(scenario), seed])
    encoder, _ = np.linalg.qr(generator.normal(size=(input_dim, num_features)))
    heads = generator.normal(size=(num_features, num_tasks, num_outputs))
    target = generator.normal(size=(num_features, num_outputs))
    basis = np.eye(num_features)
    if scenario.startswith("dup"):
        copied = np.arange(num_tasks) % (num_features - 1)
        copied[-1] = num_features - 1
        heads = basis[copied].T[..., None] + _DUPLICATE_NOISE * heads
        last = basis[-1] if scenario == "dup" else basis[0] + 0.5 * basis[-1]
        target = np.repeat(last[:, None], num_outputs, axis=1)
    heads = heads / np.linalg.norm(heads, axis=0)
    if scenario == "one":
        target = heads[:, 0]
    elif scenario == "spread":
        signs = generator.choice([-1.0, 1.0], num_tasks)
        target = np.einsum("kmo,m->ko", heads, signs)
    target = target / np.linalg.norm(target, axis=0)
    if num_outputs == 1:
        heads, target = heads[..., 0], target[:, 0]
    return SyntheticTruth(encoder, heads, target, noise)


class SyntheticSource:
    """Tasks of a known truth; every sample is generated on device from its task and row number.

    Args:
      truth: the representation, heads and noise.
      capacity: samples that each task can give.
    """

    def __init__(self, truth: SyntheticTruth, *, capacity: int = 2**30):
        heads = np.asarray(truth.source_heads, np.float32)
        heads = heads[..., None] if heads.ndim == 2 else heads
        target = np.asarray(truth.target_head, np.float32).reshape(heads.shape[0], -1)
        every = np.concatenate([heads, target[:, None]], axis=1)  # the target behind the sources
        self._theta = jnp.asarray(np.einsum("dk,kmo->mdo", truth.encoder, every), jnp.float32)
        self._noise = float(truth.noise)
        num_tasks = heads.shape[1]
        self.names = tuple(f"source_{task}" for task in range(num_tasks))
        self.capacity = np.full(num_tasks, capacity)
        self.price = np.ones(num_tasks)
        self.input_shape = (truth.encoder.shape[0],)
        self.num_outputs = heads.shape[2]

    def draw(self, key: Array, counts, *, start=None) -> Rows:
        """Draws fresh samples; see `TaskSource.draw`."""
        start, stop = checked_range(self, counts, start)
        return self._generate(key, *row_positions(start, stop))

    def draw_target(self, key: Array, count: int) -> Rows:
        """Draws `count` target samples, as task M."""
        task = np.full(count, len(self.names), np.int32)
        return self._generate(key, task, np.arange(count))

    def _generate(self, key, task, row) -> Rows:
        x, y = _samples(key, self._theta, self._noise, task, row.astype(np.int32))
        return Rows(np.asarray(x), np.asarray(y), task)


@jax.jit
def _samples(key, theta, noise, task, row):
    """Sample `row` of `task` from a key of its own: the same in whatever draw it comes."""

    def one(task, row):
        own = jax.random.fold_in(jax.random.fold_in(key, task), row)
        drawn = jax.random.normal(own, (theta.shape[1] + theta.shape[2],))
        x, error = jnp.split(drawn, [theta.shape[1]])
        return x, jnp.matmul(x, theta[task], precision=jax.lax.Precision.HIGHEST) + noise * error

    return jax.vmap(one)(task, row)
