"""Reference truths of the linear Gaussian family, on which allocations are compared."""

from typing import NamedTuple

import numpy as np

SCENARIOS = ("gauss", "one", "spread", "dup", "dup2", "noise", "mis")
_DUPLICATE_NOISE = 0.02
_NUM_UNMODELLED = 2
_UNMODELLED_LOADING = 0.3
_OUTSIDE_SHARE = 0.04  # of the target's squared norm


class SyntheticTruth(NamedTuple):
    """The truth of M source tasks and a target; arrays without O are of one output.

    Attributes:
      encoder: `[D, K]` orthonormal columns.
      source_heads: `[K, M]` or `[K, M, O]`.
      target_head: `[K]` or `[K, O]`.
      noise: standard deviation of the label noise of the sources, one number or `[M]`.
      target_noise: of the target.
      price: `[M]` price of a source's sample; None: 1 each.
      source_outside: `[D, M]` or `[D, M, O]` part of the sources that no encoder of K features
        was meant to hold; None: nothing.
      target_outside: `[D]` or `[D, O]` the same of the target.
      input_factor: `[M + 1, D, D]` with inputs `x = factor z`, z ~ N(0, I), the target last;
        None: isotropic inputs.
    """

    encoder: np.ndarray
    source_heads: np.ndarray
    target_head: np.ndarray
    noise: float | np.ndarray
    target_noise: float
    price: np.ndarray | None = None
    source_outside: np.ndarray | None = None
    target_outside: np.ndarray | None = None
    input_factor: np.ndarray | None = None

    def source_theta(self) -> np.ndarray:
        """The sources' predictors on the inputs, `[M, D, O]`."""
        theta = np.einsum("dk,km...->md...", self.encoder, self.source_heads)
        if self.source_outside is not None:
            theta = theta + np.moveaxis(self.source_outside, 1, 0)
        return theta[..., None] if theta.ndim == 2 else theta

    def target_theta(self) -> np.ndarray:
        """The target's predictor on the inputs, `[D, O]`."""
        theta = np.einsum("dk,k...->d...", self.encoder, self.target_head)
        if self.target_outside is not None:
            theta = theta + self.target_outside
        return theta[..., None] if theta.ndim == 1 else theta

    def target_covariance(self) -> np.ndarray | None:
        """Covariance of the target's inputs, `[D, D]`; None where they are isotropic."""
        if self.input_factor is None:
            return None
        return self.input_factor[-1] @ self.input_factor[-1].T


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
    """Draws the truth of a reference scenario; predictors have unit norm for every output.

    - `gauss`: Gaussian heads and target.
    - `one`: the target is the first source.
    - `spread`: the target is the normalised sum of all sources with random signs.
    - `dup`: sources are near-copies of e_1 … e_{K−1} in turn, only the last is near e_K, and the
      target is e_K. `dup2`: the same sources, target (e_1 + ½ e_K)/√1.25.
    - `noise`: `gauss` with noise and price of every source log-uniform in [1/3, 3], the noise in
      units of `noise`.
    - `mis`: `gauss` with two further directions that K features do not hold, loadings .3 in
      sources and target; a fifth of the target's norm outside every source's span; and inputs of
      every task with a random eigenbasis and eigenvalues log-uniform in [.4, 2.5], mean 1.

    Args:
      scenario: one of `SCENARIOS`.
      seed: of NumPy's generator.
      num_tasks: M.
      input_dim: D.
      num_features: K, at most D (D − 3 for `mis`) and, for `dup` and `dup2`, at least 2.
      num_outputs: O.
      noise: standard deviation of the label noise.

    Raises:
      ValueError: on an unknown scenario or sizes that do not fit.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"Unknown scenario {scenario!r}; expected one of {SCENARIOS}.")
    least = 2 if scenario.startswith("dup") else 1
    most = input_dim - _NUM_UNMODELLED - 1 if scenario == "mis" else input_dim
    if not least <= num_features <= most or num_tasks < 1 or num_outputs < 1 or noise < 0:
        raise ValueError(
            f"synthetic_truth({scenario!r}) expects {least} <= num_features <= {most}, at "
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
    truth = SyntheticTruth(encoder, heads, target, noise, noise)
    if scenario == "noise":
        spread = np.exp(generator.uniform(-np.log(3), np.log(3), size=(2, num_tasks)))
        truth = truth._replace(noise=noise * spread[0], price=spread[1])
    elif scenario == "mis":
        truth = _misspecified(truth, generator)
    return _of_one_output(truth) if num_outputs == 1 else truth


def _misspecified(truth: SyntheticTruth, generator: np.random.Generator) -> SyntheticTruth:
    """Adds unmodelled directions, a target outside the span, and unequal input covariances."""
    input_dim, num_features = truth.encoder.shape
    _, num_tasks, num_outputs = truth.source_heads.shape
    drawn = generator.normal(size=(input_dim, _NUM_UNMODELLED + 1))
    drawn, _ = np.linalg.qr(np.concatenate([truth.encoder, drawn], axis=1))
    hidden, outside = drawn[:, num_features:-1], drawn[:, -1:]
    loadings = generator.normal(size=(_NUM_UNMODELLED, num_tasks + 1, num_outputs))
    loadings *= _UNMODELLED_LOADING
    theta = np.einsum("dj,jmo->dmo", hidden, loadings)
    heads = np.concatenate([truth.source_heads, truth.target_head[:, None]], axis=1)
    size = np.sqrt(np.sum(heads**2, axis=0) + np.sum(theta**2, axis=0))  # [M + 1, O]
    heads, theta = heads / size, theta / size

    eigenvalues = np.exp(
        generator.uniform(np.log(0.4), np.log(2.5), size=(num_tasks + 1, input_dim))
    )
    eigenvalues /= eigenvalues.mean(axis=1, keepdims=True)
    bases, _ = np.linalg.qr(generator.normal(size=(num_tasks + 1, input_dim, input_dim)))
    inside = np.sqrt(1 - _OUTSIDE_SHARE)
    return truth._replace(
        source_heads=heads[:, :-1],
        target_head=inside * heads[:, -1],
        source_outside=theta[:, :-1],
        target_outside=inside * theta[:, -1] + np.sqrt(_OUTSIDE_SHARE) * outside,
        input_factor=bases * np.sqrt(eigenvalues)[:, None, :],
    )


def _of_one_output(truth: SyntheticTruth) -> SyntheticTruth:
    """Drops the output axis."""
    names = ("source_heads", "target_head", "source_outside", "target_outside")
    arrays = {name: getattr(truth, name) for name in names}
    return truth._replace(
        **{name: None if array is None else array[..., 0] for name, array in arrays.items()}
    )
