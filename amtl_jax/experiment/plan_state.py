"""Where an arm of a run stands, and what its rows say of the heads."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amtl_jax.encoding import encode_live
from amtl_jax.experiment import build, checkpoint
from amtl_jax.experiment.campaign import open_campaign
from amtl_jax.experiment.checkpoint import CheckpointError
from amtl_jax.experiment.config import Config, ConfigError, chunk_blocks_of
from amtl_jax.experiment.journal import Journal, Slot
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.records import NOT_BUYING
from amtl_jax.experiment.rounds import Setting, num_rounds, prepare, templates
from amtl_jax.experiment.streamed import stream_head_stats
from amtl_jax.experiment.workdir import BOOK, fingerprint, refuse_other
from amtl_jax.head_calibration import calibrated_draws
from amtl_jax.heads import head_stats
from amtl_jax.knowledge import HeadDraws, draw_knowledge, head_knowledge
from amtl_jax.types import Array, Encoder, HeadStats, LearnerState, TaskBatch

NUM_DRAWS = 200
_KEY = 5  # folded into a seed's key; `build` and `uncertainty` have the others
_CALIBRATION = 1  # folded into the draws' own key
_ORDER = ("c_optimal", "l1_a_mtrl", "a_mtrl", "uniform")


class Stand(NamedTuple):
    """Where an arm of a seed stands, and what its rows say of the heads."""

    setting: Setting
    arm: str
    seed: int
    rounds: int
    state: LearnerState
    record: dict[str, Any]
    draws: HeadDraws


def restore_stand(workdir: Path, arm: str | None, seed: int | None, observer: Observer) -> Stand:
    """Restores the last finished round of an arm, and draws its rows again.

    Raises:
      ConfigError: names what is wrong with the workdir, the arm or the seed.
      OSError: if a file cannot be read.
    """
    if (workdir / BOOK).exists():
        return _campaign_stand(workdir, arm, seed, observer)
    config = _config_of(workdir)
    arms = [name for name in config.arms if name not in NOT_BUYING]
    if not arms:
        raise ConfigError(f"The run in {workdir} has no arm that buys samples: nothing to plan.")
    if arm is not None and arm not in arms:
        raise ConfigError(f"--arm must be one of {', '.join(arms)}, got {arm!r:.40}.")
    if seed is not None and seed not in config.seeds:
        raise ConfigError(f"--seed must be one of {', '.join(map(str, config.seeds))}, got {seed}.")
    seed = config.seeds[0] if seed is None else seed
    setting = prepare(config, observer)
    _refuse_given(setting, workdir)
    journal, wanted = Journal(workdir, fingerprint(config), ()), templates(setting)
    order = sorted(arms, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    for name in order if arm is None else [arm]:
        for index in reversed(range(num_rounds(setting, name))):
            slot = Slot(seed, name, index)
            if not journal.path(slot).exists():
                continue
            try:
                one = checkpoint.load(
                    journal.path(slot), wanted[name], identity=journal.identity(slot)
                )
            except CheckpointError as error:
                raise ConfigError(f"{error} amtl run makes it again.") from error
            draws = _drawn(setting, seed, one.state)
            return Stand(setting, name, seed, index + 1, one.state, one.record, draws)
    whose = f" of {arm}" if arm else ""
    raise ConfigError(
        f"{workdir} has no finished round{whose} of seed {seed}. Run it first; amtl plan "
        f"{workdir / 'config.json'} says beforehand whether adaptivity can pay."
    )


def _campaign_stand(workdir: Path, arm: str | None, seed: int | None, observer: Observer) -> Stand:
    """The last fit of a campaign, on the rows that were delivered for it."""
    found = open_campaign(workdir, observer=observer).last_fit()
    slot, state = found.slot, found.checkpoint.state
    for name, wanted, own in (("--arm", arm, slot.arm), ("--seed", seed, slot.seed)):
        if wanted is not None and wanted != own:
            raise ConfigError(
                f"The campaign in {workdir} has {name} {own} alone, got {wanted!s:.40}."
            )
    _refuse_given(found.setting, workdir)
    key = jax.random.fold_in(jax.random.key(slot.seed), _KEY)
    draws = _draws(found.setting, key, state, found.batch)
    record = found.checkpoint.record
    return Stand(found.setting, slot.arm, slot.seed, slot.index + 1, state, record, draws)


def _config_of(workdir: Path) -> Config:
    """The config of a workdir, whose data must be what it was.

    Raises:
      ConfigError: if it holds no run of this version and this data.
      OSError: if it cannot be read.
    """
    if not (workdir / "config.json").is_file():
        raise ConfigError(f"{workdir} holds no run: it has no config.json.")
    config = load_config(str(workdir / "config.json"))
    try:
        refuse_other(workdir, config)
    except ConfigError as error:
        start = str(error).partition(" Choose another")[0]
        raise ConfigError(f"{start} A plan needs the data and the version of the run.") from error
    return config


def _refuse_given(setting: Setting, workdir: Path) -> None:
    if not is_learnt(setting):
        raise ConfigError(
            f"The representation in {workdir} is given: a plan predicts what source samples teach "
            "it, and there is nothing to learn."
        )


def is_learnt(setting: Setting) -> bool:
    """Whether there is a representation to learn, with directions of the inputs to spare."""
    num_inputs = int(np.prod(setting.problem.source.input_shape))
    has_parameters = setting.config.encoder.kind != "identity"
    return has_parameters and num_inputs > setting.encoder.num_features


def _drawn(setting: Setting, seed: int, state: LearnerState) -> HeadDraws:
    """Posterior draws of the heads given the rows of a round."""
    config, problem, root = setting.config, setting.problem, jax.random.key(seed)
    data_key, bought = jax.random.fold_in(root, build.DATA_KEY), np.asarray(state.spent)
    target = problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
    key = jax.random.fold_in(root, _KEY)
    if chunk_blocks_of(config.data) is None:
        rows = problem.source.draw(data_key, bought)
        batch = build.pack_campaign(config, rows, target, problem.source)
        return _draws(setting, key, state, batch)
    stats = stream_head_stats(
        config, problem, target, data_key, bought, encoder=setting.encoder, params=state.params
    )
    draw = functools.partial(draws_of_stats, intercept=config.fit.intercept)
    num_inputs = float(np.prod(problem.source.input_shape))
    return jax.jit(draw)(key, state, stats, input_dim=num_inputs)


def _draws(setting: Setting, key: Array, state: LearnerState, batch: TaskBatch) -> HeadDraws:
    num_inputs = float(np.prod(setting.problem.source.input_shape))
    draw = functools.partial(
        fitted_draws,
        encoder=setting.encoder,
        num_tasks=len(setting.problem.source.names) + 1,
        intercept=setting.config.fit.intercept,
    )
    return jax.jit(draw)(key, state, batch, input_dim=num_inputs)


def fitted_draws(
    key: Array,
    state: LearnerState,
    batch: TaskBatch,
    *,
    encoder: Encoder,
    num_tasks: int,
    intercept: bool,
    input_dim: ArrayLike,
) -> HeadDraws:
    """What a plan goes by: draws of all heads under a round's representation.

    Args:
      key: PRNG key.
      state: after the round.
      batch: the rows of the round, the target's those of the last task.
      encoder: of the state's parameters.
      num_tasks: M + 1, static.
      intercept: whether heads have an intercept; static.
      input_dim: D.
    """
    features = encode_live(encoder, state.params, batch.x, batch.weight)
    stats = head_stats(features, batch, num_tasks=num_tasks)
    return draws_of_stats(key, state, stats, intercept=intercept, input_dim=input_dim)


def draws_of_stats(
    key: Array, state: LearnerState, stats: HeadStats, *, intercept: bool, input_dim: ArrayLike
) -> HeadDraws:
    """`fitted_draws` from the statistics of all M + 1 heads."""
    sources = jax.tree.map(lambda leaf: leaf[:-1], stats)
    ridge = state.penalty * jnp.sum(sources.count)
    knowledge = head_knowledge(
        sources,
        jax.tree.map(lambda leaf: leaf[-1:], stats),
        ridge=ridge,
        input_dim=input_dim,
        held_out_loss=state.held_out_loss,
        intercept=intercept,
    )
    draws = draw_knowledge(key, knowledge, num_draws=NUM_DRAWS)
    key = jax.random.fold_in(key, _CALIBRATION)
    return calibrated_draws(key, draws, sources, intercept=intercept)
