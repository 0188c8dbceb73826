"""An order of tasks in which alike ones are neighbours: average linkage, in NumPy."""

import numpy as np


def order_of(profiles: np.ndarray) -> list[int]:
    """Orders rows so that alike ones are neighbours.

    Rows are merged by average linkage on one minus their cosine, and subtrees are turned so that
    the ends that meet are the most alike.

    Args:
      profiles: `[n, D]`; of two rows only what both know counts, NaN is unknown.

    Returns:
      The `n` places of the rows, in the order of the leaves.
    """
    distance = distances(profiles)
    number = len(distance)
    leaves = {index: [index] for index in range(number)}
    between = distance.copy()
    np.fill_diagonal(between, np.inf)
    while len(leaves) > 1:
        first, second = sorted(divmod(int(np.argmin(between)), number))
        sizes = len(leaves[first]), len(leaves[second])
        mean = (sizes[0] * between[first] + sizes[1] * between[second]) / sum(sizes)
        between[first], between[:, first] = mean, mean
        between[second], between[:, second] = np.inf, np.inf
        between[first, first] = np.inf
        leaves[first] = _joined(leaves[first], leaves.pop(second), distance)
    return leaves[next(iter(leaves))] if leaves else []


def distances(profiles: np.ndarray) -> np.ndarray:
    """One minus the cosine of rows, `[n, n]`, over the places that both know; 1 where none is."""
    known = np.isfinite(profiles)
    values = np.where(known, profiles, 0.0).astype(float)
    known = known.astype(float)
    products = values @ values.T
    sizes = (values**2) @ known.T  # of each row, where the other one is known
    norms = np.sqrt(sizes * sizes.T)
    cosine = np.where(norms > 0, products / np.where(norms > 0, norms, 1.0), 0.0)
    found = 1 - np.clip(cosine, -1, 1)
    np.fill_diagonal(found, 0.0)
    return found


def _joined(left: list[int], right: list[int], distance: np.ndarray) -> list[int]:
    """Two orders as one, each turned so that the two leaves that meet are the most alike."""
    turns = [(a, b) for a in (left, left[::-1]) for b in (right, right[::-1])]
    return min(
        (a + b for a, b in turns), key=lambda both: distance[both[len(left) - 1], both[len(left)]]
    )
