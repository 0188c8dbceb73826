"""Heads of targets on a representation that is there, and how they do."""

import time
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment.study.field import ArmRound, Field, not_finite


def heads_of(
    field: Field, arm: str, index: int, samples: int, labels: Sequence[int], params: Any = None
) -> list[ArmRound]:
    """Fits and judges every target's own head on one representation.

    Args:
      field: where.
      arm: whose round it is.
      index: of the round.
      samples: source samples charged so far.
      labels: classes of the targets.
      params: of the representation; None: the inputs themselves.

    Returns:
      A round for each target, whose seconds are those of its head.

    Raises:
      RunError: if a head is not finite.
    """
    started = time.monotonic()
    rows, others = map(jnp.asarray, field.target_split())
    program = field.programs.ridges if params is None else field.programs.heads
    own, classes = () if params is None else (params,), jnp.asarray(labels, jnp.int32)
    found = program(*own, field.pools, rows, others, classes, field.places.test_x)
    outputs, losses, other_losses, ok = map(np.asarray, found)
    if not ok:
        raise not_finite(field, arm, index)
    seconds = (time.monotonic() - started) / len(labels)
    return [
        ArmRound(arm, index, samples, output, loss, seconds, other_loss=other_loss)
        for output, loss, other_loss in zip(
            outputs, losses.tolist(), other_losses.tolist(), strict=True
        )
    ]
