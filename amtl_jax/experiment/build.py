"""From a config to the parts of an experiment: tasks, fitter, learner."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from amtl_jax.campaign import Floor
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.digits import digit_pool, digit_splits
from amtl_jax.data.scenarios import SyntheticTruth, synthetic_truth
from amtl_jax.data.sources import ArraySource, Rows, TaskSource
from amtl_jax.data.synthetic import SyntheticSource
from amtl_jax.encoders.conv import conv_encoder
from amtl_jax.encoders.identity import identity_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.encoders.mlp import mlp_encoder
from amtl_jax.encoders.modules import module_encoder
from amtl_jax.experiment.config import Config, ConfigError, DigitsConfig, SyntheticConfig
from amtl_jax.fitting.frozen import frozen_fitter
from amtl_jax.fitting.lbfgs import lbfgs_fitter
from amtl_jax.fitting.minibatch import minibatch_fitter
from amtl_jax.fitting.variable_projection import variable_projection_fitter
from amtl_jax.learner import active_learner
from amtl_jax.packing import default_block_rows, max_blocks, pack
from amtl_jax.strategies.a_mtrl import a_mtrl
from amtl_jax.strategies.l1_a_mtrl import l1_a_mtrl
from amtl_jax.strategies.one_of import one_of
from amtl_jax.strategies.uniform import uniform
from amtl_jax.types import Array, Encoder, Fitter, Learner, Strategy, TaskBatch

DEFAULT_FEATURES = 50
RULES: dict[str, Callable[..., Strategy]] = {
    "uniform": uniform,
    "a_mtrl": a_mtrl,
    "l1_a_mtrl": l1_a_mtrl,
}
DATA_KEY, TARGET_KEY, LEARNER_KEY, _TEST_KEY = 0, 1, 3, 2  # folded into a seed's key


class Problem(NamedTuple):
    """The tasks of an experiment.

    Attributes:
      source: the M source tasks.
      target_name: for people.
      draw_target: `key -> Rows`, the target sample as task M.
      test: test rows of the target, as task M.
      is_classification: whether labels are 0/1 and outputs above ½ mean 1.
      truth: the known truth of a synthetic problem.
    """

    source: TaskSource
    target_name: str
    draw_target: Callable[[Array], Rows]
    test: Rows
    is_classification: bool
    truth: SyntheticTruth | None


def build_problem(config: Config) -> Problem:
    """Makes or loads the tasks.

    Raises:
      ConfigError: if the config names an unknown target or asks for more rows than there are.
      ValueError: if the sizes of a synthetic problem do not fit together.
      ImportError: if the digits' package is not installed.
    """
    if isinstance(config.data, DigitsConfig):
        return _digits(config, config.data)
    return _synthetic(config, config.data)


def _digits(config: Config, data: DigitsConfig) -> Problem:
    corruption, _, digit = data.target.rpartition("_")
    if corruption not in CORRUPTIONS or digit not in set("0123456789"):
        raise ConfigError(
            f"data.target must be <corruption>_<digit> with a corruption of "
            f"{', '.join(CORRUPTIONS)}, got {data.target!r}."
        )
    pool = digit_pool(seed=data.pool_seed)
    split = digit_splits(pool.labels, seed=data.pool_seed)
    if config.num_target > len(split.target):
        raise ConfigError(
            f"num_target is {config.num_target}, but the target has {len(split.target)} rows."
        )
    # Networks look at images, everything else at their pixels as a vector.
    shape = (28, 28, 1) if config.encoder.kind in ("conv", "module") else (28 * 28,)
    images = pool.images.reshape(len(CORRUPTIONS), len(pool.labels), *shape)
    others = [name for name in CORRUPTIONS if name != corruption]
    inputs = {name: images[CORRUPTIONS.index(name)][split.source] for name in others}
    is_digit = pool.labels[:, None] == np.arange(10)[None]  # [N, 10]
    tasks = [(name, label) for name in others for label in range(10)]
    source = ArraySource(
        inputs,
        {f"{name}_{label}": is_digit[split.source, label] for name, label in tasks},
        pools={f"{name}_{label}": name for name, label in tasks},
    )
    own = images[CORRUPTIONS.index(corruption)].astype(np.float32) / 255.0
    labels = is_digit[:, int(digit)].astype(np.float32)[:, None]

    def rows(chosen):
        return Rows(own[chosen], labels[chosen], np.full(len(chosen), len(tasks), np.int32))

    def draw_target(key):
        order = np.asarray(jax.random.permutation(key, len(split.target)))
        return rows(split.target[order[: config.num_target]])

    return Problem(source, data.target, draw_target, rows(split.test), True, None)


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

    return Problem(source, f"{data.scenario} target", draw_target, test, False, truth)


def module_text(module: Any) -> str:
    """How a module prints, in one line and the same in every process: without addresses."""
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).split())


def build_encoder(config: Config, problem: Problem, module: Any = None) -> Encoder:
    """Builds the representation.

    Args:
      config: of the run.
      problem: its tasks.
      module: a linen module, where `encoder.kind` is `module`.

    Raises:
      ConfigError: if the kind asks for a module and there is none, or the other way round.
      TypeError: if the module is none of linen's or has no `num_features`.
      ValueError: if a setting is out of range, or does not fit the inputs.
    """
    settings = config.encoder
    if (settings.kind == "module") != (module is not None):
        raise ConfigError(
            f"encoder.kind is {settings.kind!r}, but "
            + ("no module was given" if module is None else f"the module {module_text(module)} was given")
            + ": a linen module of your own goes with the kind 'module', from get_encoder() in the "
            "config file or as run(..., encoder=...)."
        )
    num_features = settings.num_features or DEFAULT_FEATURES
    if settings.kind == "mlp":
        return mlp_encoder(num_features, widths=settings.widths or (256,))
    if settings.kind == "conv":
        channels = settings.widths or (32, 64)
        return conv_encoder(num_features, channels=channels, pool_each=settings.pool_each)
    if settings.kind == "identity":
        num_inputs = int(np.prod(problem.source.input_shape))
        return identity_encoder(settings.num_features or num_inputs)
    if settings.kind == "module":
        encoder = module_encoder(module)
        if settings.num_features not in (None, encoder.num_features):
            raise ConfigError(
                f"encoder.num_features is {settings.num_features}, but the module has "
                f"num_features={encoder.num_features}. Set one of them, or both alike."
            )
        return encoder
    return linear_encoder(num_features)


def build_fitter(config: Config, encoder: Encoder, num_tasks: int) -> Fitter:
    """Builds the fit of the representation for M sources and the target.

    Raises:
      ValueError: if a setting is out of range.
    """
    fit, kind = config.fit, config.encoder.kind
    options = {"num_tasks": num_tasks, "intercept": fit.intercept}
    if kind == "identity":
        return frozen_fitter(encoder, **options)
    if fit.method == "lbfgs" or (fit.method is None and kind == "linear"):
        return lbfgs_fitter(encoder, num_steps=fit.num_steps, tolerance=fit.tolerance, **options)
    rate = fit.learning_rate
    if fit.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, fit.num_steps)
    optimizer = optax.adam(rate) if fit.optimizer == "adam" else optax.sgd(rate, momentum=0.9)
    if fit.batch_rows is None:
        return variable_projection_fitter(encoder, optimizer, num_steps=fit.num_steps, **options)
    return minibatch_fitter(
        encoder,
        optimizer,
        num_steps=fit.num_steps,
        batch_rows=fit.batch_rows,
        stop_share=fit.stop_share,
        patience=fit.patience,
        **options,
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
        build_fitter(config, encoder, num_sources + 1),
        one_of(tuple(RULES[arm]() for arm in arms)),
        num_sources=num_sources,
        num_target=config.num_target,
        budget=config.budget,
        schedule=config.schedule,
        floor=Floor(config.floor.count, config.floor.share, config.floor.root),
        capacity=problem.source.capacity,
        price=prices_of(problem.source),
        penalty=config.fit.penalty,
        penalties=config.fit.penalties,
    )
    return learner, arms


def prices_of(source: TaskSource) -> np.ndarray | None:
    """Prices `[M]`, or None where every sample costs 1 and the budget simply counts."""
    return None if (source.price == 1).all() else source.price


def empty_batch(config: Config, problem: Problem, target: Rows) -> TaskBatch:
    """A packed batch without source rows, of the campaign's shape; for `eval_shape`."""
    nothing = Rows(
        np.zeros((0, *problem.source.input_shape), np.float32),
        np.zeros((0, problem.source.num_outputs), np.float32),
        np.zeros(0, np.int32),
    )
    return pack_campaign(config, nothing, target, problem.source)


def pack_campaign(config: Config, rows: Rows, target: Rows, source: TaskSource) -> TaskBatch:
    """Packs what was bought and the target sample into blocks whose shape depends on the config.

    Every round of every arm and seed has the same shape, so one compiled `tell` serves all.
    """
    num_tasks = len(source.names) + 1
    num_rows = int(config.budget / source.price.min()) + config.num_target
    block_rows = config.block_rows or default_block_rows(num_rows, num_tasks)
    return pack(
        np.concatenate([rows.x, target.x]),
        np.concatenate([rows.y, target.y]),
        np.concatenate([rows.task, target.task]),
        num_tasks=num_tasks,
        block_rows=block_rows,
        num_blocks=max_blocks(num_rows, num_tasks, block_rows),
    )
