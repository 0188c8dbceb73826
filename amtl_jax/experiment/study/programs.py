"""What a study compiles: each program once, whatever the target, the arm and the allocation."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from amtl_jax.encoding import encode_rows
from amtl_jax.experiment import build
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.on_mesh import mesh_of
from amtl_jax.experiment.representation import build_encoder, build_fitter
from amtl_jax.experiment.study.arms import strategies_of
from amtl_jax.experiment.study.cases import several
from amtl_jax.experiment.study.pools import Places, Pools, Slots, gather, images_at
from amtl_jax.learner import active_learner
from amtl_jax.round_plan import Floor
from amtl_jax.strategies.uniform import uniform
from amtl_jax.target import loo_ridge
from amtl_jax.types import (
    Array,
    Encoder,
    Fitter,
    Heads,
    Learner,
    LearnerState,
    Params,
    Strategy,
    TaskBatch,
)


class FitState(NamedTuple):
    """The part of a learner's state that a fit looks at; see `LearnerState`."""

    round: Array
    params: Params
    penalty: Array
    held_out_loss: Array
    task_noise: Array

    @classmethod
    def of(cls, state: LearnerState) -> "FitState":
        """Takes it from a state."""
        return cls(*(getattr(state, name) for name in cls._fields))


class Said(NamedTuple):
    """What is kept of a round of one campaign.

    Attributes:
      outputs: `[n]` of its predictor on the test rows.
      target_loss: `[]` leave-one-out error of the target head.
      nu: `[M]` relevance.
      alignment: `[M]`, see `Evidence`.
      penalty: `[]` λ.
      is_finite: `[]` bool.
    """

    outputs: Array
    target_loss: Array
    nu: Array
    alignment: Array
    penalty: Array
    is_finite: Array


class Rule(NamedTuple):
    """An arm that looks at evidence; its programs take lists of cases, one for each campaign.

    Attributes:
      arm: its name.
      learner: of its strategy.
      fit: `(pools, key, chosen, [(fit state, slots)])` to a list of round fits; `chosen` is the fit
        of the sources, or None. Rules whose fits are the same have one `fit`.
      conclude: `(key, test_x, [(state, fits, bought)])` to a list of `(state, Said)`.
    """

    arm: str
    learner: Learner
    fit: Callable[..., list[Any]]
    conclude: Callable[..., list[tuple[LearnerState, Said]]]


class Programs(NamedTuple):
    """The programs of one budget and one number of target samples.

    Attributes:
      base: the learner that samples uniformly; plans the rounds.
      fit_sources: `(pools, key, [(fit state, slots)])` to a list of `PenaltyFit`: of the sources
        alone, whatever the rule.
      heads: `(params, pools, rows [n], others [n'], labels [T], test_x) -> (outputs [T, n_test],
        losses [T], other_losses [T], finite)`, heads of T targets with one sample and one
        representation, judged by leave-one-out and by the other rows.
      ridges: the same without a representation, on the inputs.
      rules: the arms that look at evidence.
    """

    base: Learner
    fit_sources: Callable[..., list[Any]]
    heads: Callable[..., tuple[Array, Array, Array, Array]]
    ridges: Callable[..., tuple[Array, Array, Array, Array]]
    rules: tuple[Rule, ...]


class Parts(NamedTuple):
    """What all programs of a study share."""

    config: Config
    encoder: Encoder
    fitter: Fitter
    strategies: dict[str, Strategy]
    mesh: Mesh | None


def study_parts(
    config: Config, arms: Sequence[str], num_sources: int, shape: Sequence[int], module: Any
) -> Parts:
    """Builds encoder and fitter, and finds the rules.

    Raises:
      ConfigError: if a strategy of one's own cannot be found, or the encoder does not fit.
      ValueError: if a setting is out of range.
    """
    encoder = build_encoder(config, tuple(shape), module)
    fitter = build_fitter(config, encoder, num_sources + 1, math.prod(shape))
    return Parts(config, encoder, fitter, strategies_of(config, arms), mesh_of(config.scale))


def make_programs(parts: Parts, places: Places, budget: int, target_samples: int) -> Programs:
    """Builds the programs; places of any corruption will do.

    Raises:
      ValueError: where budget, schedule, floor and capacity do not fit together.
    """
    encoder, intercept = parts.encoder, parts.config.fit.intercept
    base = _learner(parts, uniform(), places, budget, target_samples)

    def fit_sources(pools: Pools, key: Array, state: FitState, slots: Slots):
        return base.fit_sources(key, state, gather(pools, slots))

    def sample(pools: Pools, rows: Array, labels: Array):
        y = pools.label[rows][None] == labels[:, None]  # [T, n]
        return images_at(pools, rows), y.astype(jnp.float32)

    def heads_on(encode, pools: Pools, rows: Array, others: Array, labels: Array, test_x: Array):
        x, y = sample(pools, rows, labels)
        other_x, other_y = sample(pools, others, labels)
        features, other, test = encode(x), encode(other_x), encode(test_x)

        def one(y: Array, other_y: Array):  # [n], [n']
            found = loo_ridge(features, y[:, None], jnp.ones(len(x)), intercept=intercept)
            error = jnp.square(_outputs(other, found.head) - other_y)
            return _outputs(test, found.head), found.loss, jnp.mean(error)

        outputs, losses, other_losses = jax.vmap(one)(y, other_y)
        judged = losses if len(others) == 0 else losses + other_losses
        finite = jnp.isfinite(outputs).all() & jnp.isfinite(judged).all()
        return outputs, losses, other_losses, finite

    def heads(params: Params, *arguments: Any):
        return heads_on(functools.partial(encode_rows, encoder, params), *arguments)

    def ridges(*arguments: Any):
        return heads_on(lambda x: x.reshape(len(x), -1), *arguments)

    return Programs(
        base=base,
        fit_sources=several(fit_sources, 2, parts.mesh),
        heads=jax.jit(heads),
        ridges=jax.jit(ridges),
        rules=tuple(_rules(parts, places, budget, target_samples)),
    )


def _rules(parts: Parts, places: Places, budget: int, target_samples: int) -> Iterator[Rule]:
    """Builds every rule; one fit serves all that do or do not have the target in it."""
    fits: dict[bool, Callable[..., list[Any]]] = {}
    for arm, strategy in parts.strategies.items():
        learner = _learner(parts, strategy, places, budget, target_samples)
        kind = strategy.target_in_fit
        if kind not in fits:
            fits[kind] = several(_fit_program(learner), 3, parts.mesh)
        conclude = several(_conclude_program(learner, parts.encoder), 2, parts.mesh)
        yield Rule(arm, learner, fits[kind], conclude)


def _fit_program(learner: Learner) -> Callable[..., Any]:
    def fit(pools: Pools, key: Array, chosen: Any, state: FitState, slots: Slots):
        # What the fit of a round looks at is the same for all rules; their own states are not.
        return learner.fit(key, state, gather(pools, slots), chosen)

    return fit


def _conclude_program(learner: Learner, encoder: Encoder) -> Callable[..., Any]:
    def conclude(key: Array, test_x: Array, state: LearnerState, fits: Any, bought: Array):
        state, info = learner.conclude(key, state, fits, bought)
        outputs = _outputs(encode_rows(encoder, state.params, test_x), state.target_head)
        said = Said(
            outputs=outputs,
            target_loss=info.target_loss,
            nu=state.proposal.relevance.nu,
            alignment=info.alignment,
            penalty=info.penalty,
            is_finite=info.is_finite & jnp.isfinite(outputs).all(),
        )
        return state, said

    return conclude


def _learner(
    parts: Parts, strategy: Strategy, places: Places, budget: int, target_samples: int
) -> Learner:
    config, source = parts.config, places.source
    return active_learner(
        parts.fitter,
        strategy,
        num_sources=len(places.label),
        num_target=target_samples,
        budget=budget,
        schedule=config.schedule,
        floor=Floor(config.floor.count, config.floor.share, config.floor.root),
        capacity=source.capacity,
        group=build.groups_of(source),
        penalty=config.fit.penalty,
        penalties=config.fit.penalties,
        warm_start=config.fit.warm_start,
    )


def _outputs(features: Array, head: Heads) -> Array:
    """`[n]` outputs of a target head; default precision would be TF32 on an accelerator."""
    return jnp.matmul(features, head.weight[:, 0], precision="highest") + head.bias[0]


def empty_batch(shape: Sequence[int]) -> TaskBatch:
    """A batch of one empty row; a learner's state depends on no more of it than its shape."""
    return TaskBatch(
        jnp.zeros((1, 1, *shape)), jnp.zeros((1, 1, 1)), jnp.zeros((1, 1)), jnp.zeros(1, np.int32)
    )
