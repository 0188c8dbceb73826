"""Which arms are expected to pay, by the labels of the target sample alone.

A representation that serves the target better lowers the exact leave-one-out error of the target's
head. That error is noisy, so a small difference says nothing. How often a larger one was right on
the targets of MNIST-C stands in docs/mnist_c.md.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.reading import read_json

LEAST = 0.04  # of uniform's leave-one-out error; chosen on eight corruptions of MNIST-C
_UNIFORM = "uniform"
_NO_RULES = (_UNIFORM, "target_only", "pooled")


def expected_to_pay(strategies: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    """Says by how much leave-one-out errors of the arms are below that of uniform.

    Args:
      strategies: of `summary.json`; only `target_loo` of each arm is used.

    Returns:
      The share of uniform's error that each other buying arm saves, negative where it has a larger
      one; None where uniform or every other arm is missing, or uniform's error is unknown or 0.
    """
    base = strategies.get(_UNIFORM, {}).get("target_loo")
    if not base:
        return None
    found = {
        arm: 1 - one["target_loo"] / base
        for arm, one in strategies.items()
        if arm not in _NO_RULES and one.get("target_loo") is not None
    }
    return found or None


def expectation_sentence(summary: Mapping[str, Any]) -> str:
    """Says in one sentence which arms are expected to pay; nothing where that is unknown.

    Args:
      summary: content of `summary.json`; those of earlier versions say nothing.
    """
    found = summary.get("expected")
    if not found:
        return ""
    by = "by leave-one-out error on the target's sample alone"
    paying = sorted((arm for arm in found if found[arm] >= LEAST), key=found.get, reverse=True)
    if paying:
        arms = ", ".join(f"{arm} ({100 * found[arm]:.1f}% below uniform's)" for arm in paying)
        return f"Expected to pay over uniform, {by}: {arms}."
    best = max(found, key=found.get)
    side = "below" if found[best] >= 0 else "above"
    return (
        f"No rule is expected to pay over uniform, {by}: that of {best} is "
        f"{abs(100 * found[best]):.1f}% {side} uniform's, and {100 * LEAST:g}% below would count."
    )


def expectation_of(workdir: Path) -> str:
    """Says the same of a finished run or campaign; nothing before its `summary.json` is there.

    Raises:
      ConfigError: if that file is damaged.
      OSError: if it cannot be read.
    """
    path = workdir / "summary.json"
    if not path.is_file():
        return ""
    found = read_json(path).get("expected")
    if found is None:
        return ""
    is_good = isinstance(found, dict) and all(
        arm.isidentifier() and isinstance(share, float | int) and math.isfinite(share)
        for arm, share in found.items()
    )
    if not is_good:
        raise ConfigError(
            f"{path} is damaged: expected a finite number for each arm under 'expected', got "
            f"{found!r:.80}."
        )
    return expectation_sentence({"expected": found})
