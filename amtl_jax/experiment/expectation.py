"""Which arms are expected to pay, by the labels of the target sample alone.

A representation that serves the target better lowers the exact leave-one-out error of the target's
head. That error is noisy, the more so the fewer rows there are, so that a small difference says
nothing. How often a larger one was right on the targets of MNIST-C stands in docs/mnist_c.md.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.checks import Damaged, fields, named, number
from amtl_jax.experiment.page.reading import read_json

_LEAST = 0.04  # of uniform's error, chosen on MNIST-C
_ROWS = 400  # of the target, with which it was
_UNIFORM = "uniform"
_NO_RULES = (_UNIFORM, "target_only", "pooled")


def least_share(num_target: int) -> float:
    """The share of uniform's error that must be saved to count: 4 % with 400 rows, ∝ 1/√n_T."""
    return _LEAST * math.sqrt(_ROWS / num_target)


def expected_to_pay(
    strategies: Mapping[str, Mapping[str, Any]], num_target: int
) -> dict[str, Any] | None:
    """Says by how much leave-one-out errors of the arms are below that of uniform.

    Args:
      strategies: of `summary.json`; only `target_loo` of each arm is used.
      num_target: n_T, rows of the target sample.

    Returns:
      `saved`, the share of uniform's error that each other buying arm saves, negative where it has
      a larger one, and `least`, the share that counts; None where uniform or every other arm is
      missing, or uniform's error is unknown or 0.
    """
    base = strategies.get(_UNIFORM, {}).get("target_loo")
    if not base:
        return None
    saved = {
        arm: 1 - one["target_loo"] / base
        for arm, one in strategies.items()
        if arm not in _NO_RULES and one.get("target_loo") is not None
    }
    return {"saved": saved, "least": least_share(num_target)} if saved else None


def expectation_sentence(summary: Mapping[str, Any]) -> str:
    """Says in one sentence which arms are expected to pay; nothing where that is unknown.

    Args:
      summary: content of `summary.json`; those of earlier versions say nothing.
    """
    found = summary.get("expected")
    if not found:
        return ""
    saved, least = found["saved"], found["least"]
    by = "by leave-one-out error on the target's sample alone"
    paying = sorted((arm for arm in saved if saved[arm] >= least), key=saved.get, reverse=True)
    if paying:
        arms = ", ".join(f"{arm} ({100 * saved[arm]:.1f}% below uniform's)" for arm in paying)
        return f"Expected to pay over uniform, {by}: {arms}."
    best = max(saved, key=saved.get)
    side = "below" if saved[best] >= 0 else "above"
    return (
        f"No rule is expected to pay over uniform, {by}: that of {best} is "
        f"{abs(100 * saved[best]):.1f}% {side} uniform's, and {100 * least:.2g}% below would count."
    )


def expectation_form(value: Any, place: str) -> None:
    """A check of `expected` in a `summary.json`; raises `Damaged`."""
    fields({"saved": named(number), "least": number})(value, place)
    if not value["saved"]:
        raise Damaged(f"{place}.saved: expected an arm at least, got none")


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
    try:
        expectation_form(found, "expected")
        names = list(found["saved"])
        if not all(name.isidentifier() for name in names):  # a terminal obeys control characters
            raise Damaged(f"expected.saved: expected names of arms, got {names!r:.80}")
    except Damaged as error:
        raise ConfigError(f"{path} is damaged: {str(error).rstrip('.')}.") from error
    return expectation_sentence({"expected": found})
