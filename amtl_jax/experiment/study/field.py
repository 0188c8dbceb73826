"""Where the campaigns of a context take place: its images, samples, keys and programs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from amtl_jax.experiment import build
from amtl_jax.experiment.rounds import RunError
from amtl_jax.experiment.study.grid import Context
from amtl_jax.experiment.study.pools import Places, Pools, Slots, slots_of, target_rows
from amtl_jax.experiment.study.programs import FitState, Parts, Programs
from amtl_jax.types import Array, Learner


class ArmRound(NamedTuple):
    """One round of an arm for one target.

    Attributes:
      arm: its name.
      index: of the round, from 0.
      samples: source samples charged so far.
      outputs: `[n]` of its predictor on the test rows.
      target_loss: leave-one-out error of the target head.
      seconds: of this round, on the clock. What the targets of a corruption share is divided by
        their number, also where not all of them are computed.
      counts: `[M]` int32 bought in this round, or None where nothing is bought.
      nu: `[M]` relevance behind the next round, or in the last behind this one; None where none
        is estimated.
      other_loss: squared error on the target rows that are not in the sample; NaN where it was not
        measured.
    """

    arm: str
    index: int
    samples: int
    outputs: np.ndarray
    target_loss: float
    seconds: float
    counts: np.ndarray | None = None
    nu: np.ndarray | None = None
    other_loss: float = float("nan")


class Field(NamedTuple):
    """Where campaigns of one context take place.

    Attributes:
      parts: of the study.
      programs: of the context's budget and a number of target samples.
      pools: all images.
      places: of the context's corruption.
      context: seed and budget.
      target_samples: n_T.
    """

    parts: Parts
    programs: Programs
    pools: Pools
    places: Places
    context: Context
    target_samples: int

    @property
    def is_pooled(self) -> bool:
        """Whether a round's fit sees the samples of the rounds before."""
        return self.parts.config.rounds == "pooled"

    @property
    def fits_all_rounds(self) -> bool:
        """Whether uniform needs a fit in every round: later ones see its samples or start there."""
        return self.is_pooled or self.parts.config.fit.warm_start

    @property
    def num_targets(self) -> int:
        """Targets that share the context's fits: one of each class."""
        return len(set(self.places.label.tolist()))

    @property
    def budgets(self) -> tuple[int, ...]:
        """Budget of every round."""
        return tuple(int(one) for one in self.programs.base.budgets)

    def charged(self, index: int, learner: Learner | None = None) -> int:
        """Samples that an arm is charged for after a round; a rule may have rounds of its own."""
        budgets = [int(one) for one in (learner or self.programs.base).budgets]
        return sum(budgets[: index + 1]) if self.is_pooled else budgets[index]

    def key(self, number: int) -> Array:
        """Key of this seed for `build.DATA_KEY` and the others."""
        return jax.random.fold_in(jax.random.key(self.context.seed), number)

    def round_key(self, index: int) -> Array:
        """Key of a round's fit and rule."""
        return jax.random.fold_in(self.key(build.LEARNER_KEY), index)

    def target_split(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the target sample `[n_T]`, and of the target's other rows `[n]`."""
        rows = target_rows(self.places, self.key(build.TARGET_KEY))
        return rows[: self.target_samples], rows[self.target_samples :]

    def slots(
        self,
        index: int,
        counts: np.ndarray,
        spent: np.ndarray,
        target: Sequence[int] | np.ndarray = (),
        label: int = 0,
        *,
        learner: Learner | None = None,
    ) -> Slots:
        """The samples of a round: of all rounds so far, or of this one alone.

        Args:
          index: of the round.
          counts: `[M]` bought in it.
          spent: `[M]` bought before it.
          target: `[n]` places of the target sample, none for the sources alone.
          label: class of the target.
          learner: whose round it is; None: that of uniform.
        """
        config, source = self.parts.config, self.places.source
        members = np.unique(source.group, return_counts=True)[1].max()
        num_rows = self.charged(index, learner) * int(members) + len(target)
        own = (spent + counts, None) if self.is_pooled else (counts, spent)
        return slots_of(
            self.places,
            self.key(build.DATA_KEY),
            *own,
            np.asarray(target, np.int64),
            label,
            num_rows=num_rows,
            block_rows=config.block_rows,
        )


def fit_sources(
    field: Field, arm: str, index: int, cases: list[tuple[FitState, Slots]]
) -> list[Any]:
    """Fits the sources of several campaigns at once.

    Args:
      field: where.
      arm: for the words of an error.
      index: of the round.
      cases: what each fit starts from, and its samples.

    Raises:
      RunError: if a fit gives numbers that are not finite.
    """
    found = field.programs.fit_sources(field.pools, field.round_key(index), cases)
    if not all(bool(one.fit.ok) for one in found):
        raise not_finite(field, arm, index)
    return found


def where(field: Field, arm: str, index: int) -> str:
    """Names a round of an arm in an error."""
    context = field.context
    return (
        f"Round {index + 1} of {arm}, targets of {context.corruption}, seed {context.seed}, "
        f"budget {context.budget:,}"
    )


def not_finite(field: Field, arm: str, index: int) -> RunError:
    """What to raise where a fit gave no numbers."""
    return RunError(
        f"{where(field, arm, index)}: the fit gave numbers that are not finite. Check the scale "
        "of inputs and labels, or set a larger fit.penalty or a smaller fit.learning_rate. What "
        "was finished before is kept."
    )
