"""The learner of a campaign: what to ask for, and a round on the rows that were delivered."""

import dataclasses
from typing import Any

import jax
import numpy as np

from amtl_jax.data.rows import join_rows
from amtl_jax.data.sources import Rows
from amtl_jax.experiment import build
from amtl_jax.experiment.campaign_problem import campaign_problem, data_mark
from amtl_jax.experiment.campaign_types import CampaignError
from amtl_jax.experiment.checkpoint import Checkpoint
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.rank_note import with_rank_warning
from amtl_jax.experiment.rounds import Setting, bought_round, prepare, templates
from amtl_jax.experiment.study_checks import refuse_chunks
from amtl_jax.strategies.one_of import choose
from amtl_jax.types import LearnerState, TaskBatch


class CampaignLearner:
    """One arm of one seed, as `run` has it, on rows that somebody brings.

    The same rows in the same order give the same numbers, bit for bit: keys, packing, fit and
    evaluation are those of `run`.

    Attributes:
      setting: what rounds share; its config has the numbers that were left to the data filled in.
      arm: the arm that buys.
      seed: its seed.
      num_rounds: that the budget is planned for.
      data: a name of the data, which must not change while the campaign goes on.
    """

    arm: str
    seed: int
    setting: Setting
    num_rounds: int
    data: str

    def __init__(self, config: Config, observer: Observer, module: Any = None):
        self.arm, self.seed = campaign_arm(config), config.seeds[0]
        self.setting = prepare(config, observer, module, make_problem=campaign_problem)
        self.num_rounds = len(self.setting.learner.budgets)
        root = jax.random.key(self.seed)
        self._key = jax.random.fold_in(root, build.LEARNER_KEY)
        target_key = jax.random.fold_in(root, build.TARGET_KEY)
        self._target = self.setting.problem.draw_target(target_key)
        self.data = data_mark(self.setting.problem, self._target)
        self._told: set[str] = set()
        self._settings = {len(self._target.x): self.setting}

    @property
    def prices(self) -> np.ndarray | None:
        """Prices `[M]`, or None where the budget counts samples."""
        return build.prices_of(self.setting.problem.source)

    def slot(self, index: int) -> Slot:
        """Returns the place of a round."""
        return Slot(self.seed, self.arm, index)

    def template(self) -> Checkpoint:
        """Returns structure, shapes and dtypes of a round's checkpoint."""
        return templates(self.setting)[self.arm]

    def fresh(self) -> LearnerState:
        """Returns the state before the first round."""
        setting = self.setting

        def empty() -> TaskBatch:
            return build.empty_batch(setting.config, setting.problem, self._target)

        return choose(setting.learner.init(self._key, jax.eval_shape(empty)), 0)

    def own_rows(self) -> set[bytes]:
        """Returns what tells the config's rows of the target, its sample's and the test's, apart.

        Who delivers a table that the config was made of would bring them again.
        """
        problem = self.setting.problem
        known = {row_mark(x, y) for x, y in zip(self._target.x, self._target.y, strict=True)}
        if problem.table is not None:  # in the units of the table
            label = problem.table.label
            y = ((problem.table.test_y - label.offset) / label.scale).astype(np.float32)
            tests = [(problem.table.test_x, y)]
        else:
            tests = [(rows.x, rows.y) for rows in (problem.test, problem.held_out) if rows]
        for x, y in tests:
            known.update(row_mark(*one) for one in zip(x, y, strict=True))
        return known

    def next_counts(self, state: LearnerState) -> tuple[int, np.ndarray] | None:
        """Returns the next round that can buy something, and its counts `[M]`; None: there is none.

        Raises:
          CampaignError: if the budget cannot be split.
        """
        for index in range(int(state.round), self.num_rounds):
            key = jax.random.fold_in(self._key, index)
            counts = np.asarray(self.setting.ask(key, state._replace(round=np.int32(index))))
            if (counts < 0).any():
                raise CampaignError(
                    f"Round {index + 1}: the budget cannot be split over the sources' remaining "
                    "capacity."
                )
            if counts.any():
                return index, counts
        return None

    def fit(
        self,
        index: int,
        state: LearnerState,
        rows: Rows,
        *,
        bought: np.ndarray,
        paid: float | None,
    ) -> Checkpoint:
        """Computes a round on everything that was delivered.

        Args:
          index: the learner's round.
          state: after the round before.
          rows: all accepted rows, in order of arrival; those of task M join the target's sample.
          bought: `[M]` samples paid for.
          paid: what they cost; None: the catalogue price.

        Raises:
          RunError: if its numbers are not finite.
        """
        setting, own, target = self._parted(rows)
        state = state._replace(round=np.int32(index))

        def tell(slot: Slot, before: LearnerState):
            del slot
            key = jax.random.fold_in(self._key, index)
            batch = _packed(setting, own, target)
            counted = np.bincount(own.task[own.weight > 0], minlength=len(bought))
            extra = (bought,) if paid is None else (bought, paid)
            if paid is None and (counted == bought).all():
                extra = ()  # as `run`, which draws rows with their labels
            return jax.block_until_ready(setting.tell(key, before, batch, *extra))

        one, _ = bought_round(setting, self.slot(index), tell, state, target)
        return with_rank_warning(setting, one, _packed(setting, own, target), self._told)

    def packed(self, rows: Rows) -> tuple[Setting, TaskBatch]:
        """Packs what was delivered as `fit` does, with the setting for its target sample."""
        setting, own, target = self._parted(rows)
        return setting, _packed(setting, own, target)

    def _parted(self, rows: Rows) -> tuple[Setting, Rows, Rows]:
        """Rows of the sources and the whole target sample, with the setting for its size."""
        is_target = rows.task == len(self.setting.problem.source.names)
        target = (
            join_rows(self._target, _part(rows, is_target)) if is_target.any() else self._target
        )
        return self.setting_for(len(target.x)), _part(rows, ~is_target), target

    def setting_for(self, num_target: int) -> Setting:
        """Returns the setting with a learner for a target sample of another size."""
        if num_target not in self._settings:
            base = self.setting
            config = dataclasses.replace(base.config, num_target=num_target)
            learner, _ = build.build_learner(config, base.problem, base.encoder)
            self._settings[num_target] = base._replace(
                config=config,
                problem=base.problem._replace(num_target=num_target),
                learner=learner,
                tell=jax.jit(learner.tell),
            )
        return self._settings[num_target]


def row_mark(x: np.ndarray, y: np.ndarray) -> bytes:
    """Returns a row's inputs and label as bytes, by which equal rows are known."""
    return np.asarray(x, np.float32).tobytes() + np.asarray(y, np.float32).tobytes()


def campaign_arm(config: Config) -> str:
    """Returns the arm that a campaign follows.

    Raises:
      ConfigError: unless one arm buys, and there is one seed; where rows were to come in chunks.
    """
    refuse_chunks(config, "the rows of a campaign come by deliveries and are fitted together")
    arms = [arm for arm in config.arms if arm in build.RULES]
    if len(arms) != 1:
        raise ConfigError(
            "A campaign follows one arm that buys samples: set arms to one of "
            f"{', '.join(build.RULES)}, for instance --arms c_optimal; got "
            f"{', '.join(config.arms)}."
        )
    if len(config.seeds) != 1:
        raise ConfigError(
            "A campaign has one seed, as its samples are collected once: set --seeds to one "
            f"number, got {', '.join(map(str, config.seeds))}."
        )
    return arms[0]


def _part(rows: Rows, chosen: np.ndarray) -> Rows:
    return Rows(*(array[chosen] for array in rows))


def _packed(setting: Setting, rows: Rows, target: Rows) -> TaskBatch:
    """Packs as `run` does; rows that were cheaper than planned may be more than `run` can have."""
    config, source = setting.config, setting.problem.source
    more = max(len(rows.x) - build.most_rows(config, source), 0)
    config = dataclasses.replace(config, num_target=config.num_target + more)
    return build.pack_campaign(config, rows, target, source)
