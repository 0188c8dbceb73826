"""From a config to the parts of an experiment: tasks and learner."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from amtl_jax.data.drawn import DrawnRows
from amtl_jax.data.scenarios import synthetic_truth
from amtl_jax.data.sources import Rows, TaskSource
from amtl_jax.data.synthetic import SyntheticSource
from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    DigitsConfig,
    MnistCConfig,
    SyntheticConfig,
    TableConfig,
)
from amtl_jax.experiment.image_problem import image_problem, read_image_tasks
from amtl_jax.experiment.problem import Problem
from amtl_jax.experiment.representation import build_fitter
from amtl_jax.experiment.table_problem import table_problem
from amtl_jax.learner import active_learner
from amtl_jax.packing import default_block_rows, max_blocks, pack
from amtl_jax.round_plan import Floor
from amtl_jax.strategies.a_mtrl import a_mtrl
from amtl_jax.strategies.alignment import alignment_rule
from amtl_jax.strategies.c_optimal import c_optimal
from amtl_jax.strategies.l1_a_mtrl import l1_a_mtrl
from amtl_jax.strategies.one_of import one_of
from amtl_jax.strategies.uniform import uniform
from amtl_jax.types import Encoder, Learner, Strategy, TaskBatch

RULES: dict[str, Callable[..., Strategy]] = {
    "uniform": uniform,
    "a_mtrl": a_mtrl,
    "l1_a_mtrl": l1_a_mtrl,
    "c_optimal": c_optimal,
    "alignment": alignment_rule,
}
DATA_KEY, TARGET_KEY, LEARNER_KEY, _TEST_KEY = 0, 1, 3, 2  # folded into a seed's key


def build_problem(config: Config) -> Problem:
    """Makes or loads the tasks.

    Raises:
      ConfigError: if the config names an unknown target or asks for more rows than there are.
      ValueError: if the sizes of a synthetic problem do not fit together, or files are not as
        expected.
      ImportError: if the package that makes or reads the data is not installed.
      OSError: if a file cannot be read.
    """
    if isinstance(config.data, TableConfig):
        problem = table_problem(config, config.data)
    elif isinstance(config.data, DigitsConfig | MnistCConfig):
        problem = image_problem(config, read_image_tasks(config.data), config.data.target)
    else:
        problem = _synthetic(config, config.data)
    return problem if config.until is None else _with_held_out(problem)


def _with_held_out(problem: Problem) -> Problem:
    """Sets half of the test rows apart: those that tell when to stop must not tell the result."""
    test, number = problem.test, len(problem.test.x)
    if number < 4:
        raise ConfigError(
            f"until needs at least 4 test rows, half of which it holds out: {number}."
        )
    order = np.asarray(jax.random.permutation(jax.random.key(_TEST_KEY), number))
    held, rest = np.sort(order[: number // 2]), np.sort(order[number // 2 :])

    def part(chosen):
        return Rows(test.x[chosen], test.y[chosen], test.task[chosen])

    return problem._replace(test=part(rest), held_out=part(held))


def _synthetic(config: Config, data: SyntheticConfig) -> Problem:
    truth = synthetic_truth(
        data.scenario,
        seed=data.truth_seed,
        num_tasks=data.num_tasks,
        input_dim=data.input_dim,
        num_features=data.num_features,
        noise=data.noise,
    )
    source = SyntheticSource(truth)
    test = source.draw_target(
        jax.random.fold_in(jax.random.key(data.truth_seed), _TEST_KEY), data.num_test
    )

    def draw_target(key):
        return source.draw_target(key, config.num_target)

    return Problem(
        source,
        f"{data.scenario} target",
        draw_target,
        test,
        "regression",
        num_target=config.num_target,
        budget=config.budget,
        truth=truth,
    )


def build_learner(
    config: Config, problem: Problem, encoder: Encoder
) -> tuple[Learner, tuple[str, ...]]:
    """Builds one learner for all arms that buy samples, and their names in order of index.

    Raises:
      ValueError: if budget, schedule, floor and capacity do not fit together.
    """
    arms = tuple(arm for arm in config.arms if arm in RULES)
    num_sources = len(problem.source.names)
    learner = active_learner(
        build_fitter(config, encoder, num_sources + 1, math.prod(problem.source.input_shape)),
        one_of(tuple(RULES[arm](target_in_fit=config.target_in_fit) for arm in arms)),
        num_sources=num_sources,
        num_target=config.num_target,
        budget=config.budget,
        schedule=config.schedule,
        floor=Floor(config.floor.count, config.floor.share, config.floor.root),
        capacity=problem.source.capacity,
        price=prices_of(problem.source),
        group=groups_of(problem.source),
        penalty=config.fit.penalty,
        penalties=config.fit.penalties,
        join_target=config.target_in_final_fit,
        weigh_noise=config.fit.weigh_noise,
        warm_start=config.fit.warm_start,
    )
    return learner, arms


def prices_of(source: TaskSource) -> np.ndarray | None:
    """Prices `[M]`, or None where every sample costs 1 and the budget simply counts."""
    return None if (source.price == 1).all() else source.price


def groups_of(source: TaskSource) -> np.ndarray | None:
    """Groups `[M]` of tasks that are paid together, or None where every task is by itself."""
    alone = len(np.unique(source.group)) == len(source.group)
    return None if alone else source.group


def empty_batch(config: Config, problem: Problem, target: Rows) -> TaskBatch:
    """A packed batch without source rows, of the campaign's shape; for `eval_shape`."""
    nothing = Rows(
        np.zeros((0, *problem.source.input_shape), np.float32),
        np.zeros((0, problem.source.num_outputs), np.float32),
        np.zeros(0, np.int32),
    )
    return pack_campaign(config, nothing, target, problem.source)


class Shape(NamedTuple):
    """Of a campaign's batch: numbers for `pack`."""

    num_tasks: int
    block_rows: int
    num_blocks: int


def campaign_shape(config: Config, source: TaskSource) -> Shape:
    """The shape of every round of every arm and seed, so that one compiled `tell` serves all."""
    num_tasks = len(source.names) + 1
    num_rows = most_rows(config, source) + config.num_target
    block_rows = config.block_rows or default_block_rows(num_rows, num_tasks)
    return Shape(num_tasks, block_rows, max_blocks(num_rows, num_tasks, block_rows))


def pack_campaign(config: Config, rows: Rows, target: Rows, source: TaskSource) -> TaskBatch:
    """Packs what was bought and the target sample into blocks whose shape depends on the config."""
    return pack_rows(rows, target, campaign_shape(config, source))


def pack_rows(rows: Rows, target: Rows, shape: Shape) -> TaskBatch:
    """Packs rows of the sources and of the target."""
    return pack(
        np.concatenate([rows.x, target.x]),
        np.concatenate([rows.y, target.y]),
        np.concatenate([rows.task, target.task]),
        weight=np.concatenate([weights_of(rows), weights_of(target)]),
        **shape._asdict(),
    )


def most_rows(config: Config, source: TaskSource) -> int:
    """Source rows that the budget can buy at most, at their prices."""
    # Where the labels of a row are paid once, a row comes back for every task of its group.
    largest = np.unique(source.group, return_counts=True)[1].max()
    return int(config.budget / source.price.min()) * int(largest)


def weights_of(rows: Rows | DrawnRows) -> np.ndarray:
    """Sample weights `[N]`; 0 where a label is missing."""
    return np.ones(len(rows.x), np.float32) if rows.weight is None else rows.weight
