"""Heads of targets on a representation that is there, and how they do."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from amtl_jax.experiment.study.field import ArmRound, Field, not_finite


class Answered(NamedTuple):
    """A target's own head on a representation.

    Attributes:
      outputs: `[n]` on the test rows.
      target_loss: leave-one-out error.
      other_loss: squared error on the target rows that are not in the sample.
      seconds: that it took.
    """

    outputs: np.ndarray
    target_loss: float
    other_loss: float
    seconds: float

    def round(
        self,
        arm: str,
        index: int,
        samples: int,
        seconds: float = 0.0,
        counts: np.ndarray | None = None,
        nu: np.ndarray | None = None,
    ) -> ArmRound:
        """The round of an arm that ends with this head; `seconds` is what came before it."""
        seconds += self.seconds
        return ArmRound(
            arm,
            index,
            samples,
            self.outputs,
            self.target_loss,
            seconds,
            counts,
            nu,
            self.other_loss,
        )


def heads_of(
    field: Field, arm: str, index: int, labels: Sequence[int], params: Any = None
) -> list[Answered]:
    """Fits and judges every target's own head on one representation.

    Args:
      field: where.
      arm: for the words of an error.
      index: of the round, likewise.
      labels: classes of the targets.
      params: of the representation; None: the inputs themselves.

    Raises:
      RunError: if a head is not finite.
    """
    started = time.monotonic()
    rows, classes = jnp.asarray(field.sample()), jnp.asarray(labels, jnp.int32)
    program = field.programs.ridges if params is None else field.programs.heads
    own, others = () if params is None else (params,), jnp.asarray(field.others())
    found = program(*own, field.pools, rows, others, classes, field.places.test_x)
    outputs, losses, other_losses, ok = map(np.asarray, found)
    if not ok:
        raise not_finite(field, arm, index)
    seconds = (time.monotonic() - started) / len(labels)
    found = zip(outputs, losses.tolist(), other_losses.tolist(), strict=True)
    return [Answered(*one, seconds) for one in found]
