"""`amtl plan` of a config: before anything is bought, from which budget on adaptivity can pay."""

from typing import Any

import numpy as np

from amtl_jax.experiment import build
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.plan_state import is_learnt
from amtl_jax.experiment.records import number
from amtl_jax.experiment.rounds import prepare
from amtl_jax.plan_ahead import adaptivity_pays

_STEPS = tuple(2.0**power for power in range(-4, 5))  # budgets, of the config's


def plan_config(
    config: Config,
    *,
    noise: float = 1.0,
    encoder: Any = None,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Predicts whether adaptive sampling beats uniform for the sizes of a config.

    Noise and relevance are not known yet: heads are drawn from a Gaussian, of norm 1, and `noise`
    is the standard deviation of the labels' noise beside it.

    Args:
      config: what would run; its numbers of sources, inputs and features, its target sample,
        budget, schedule and prices count.
      noise: standard deviation of the label noise, in units of what a task's labels have to say.
      encoder: a linen module, where `config.encoder.kind` is `module`.
      observer: hears notes about the data; None: nobody.

    Returns:
      Plain data, as `plan.json` has it: `curve` with the ratio to uniform by budget, `smallest`
      budget at which adaptivity pays, and what was assumed.

    Raises:
      ConfigError: if the config does not fit together, or has nothing to learn.
    """
    if not (np.isfinite(noise) and noise > 0):
        raise ConfigError(f"noise must be a positive number, got {noise}.")
    setting = prepare(config, observer or Observer(), encoder)
    config, source = setting.config, setting.problem.source
    num_inputs, num_features = int(np.prod(source.input_shape)), setting.encoder.num_features
    if not is_learnt(setting):
        raise ConfigError(
            "The representation is given: a plan predicts what source samples teach it, and "
            "there is nothing to learn."
        )
    if config.encoder.num_features == "aic":
        raise ConfigError(
            "encoder.num_features is aic: how many features the samples will show is not known "
            "beforehand. Plan with a number, for instance --encoder.num-features 5."
        )
    _, group = np.unique(source.group, return_inverse=True)
    share = source.price / np.bincount(group)[group]
    worth = float((share * source.capacity).sum())
    budgets = sorted({min(config.budget * step, worth) for step in _STEPS})
    budgets = [budget for budget in budgets if budget >= share.sum()] or [float(config.budget)]
    found = adaptivity_pays(
        len(source.names),
        num_features,
        num_inputs,
        budgets=budgets,
        num_target=config.num_target,
        noise_variance=noise**2,
        price=share,
        schedule=config.schedule,
    )
    curve = [
        {
            "budget": budget,
            "ratio": number(found.ratio[place]),
            "low": number(found.low[place]),
            "high": number(found.high[place]),
            "worse_than_uniform": number(found.worse[place]),
            "pays": bool(found.pays[place]),
        }
        for place, budget in enumerate(budgets)
    ]
    return {
        "plan": "config",
        "name": config.name,
        "target": setting.problem.target_name,
        "unit": "samples" if build.prices_of(source) is None else "money",
        "num_sources": len(source.names),
        "num_inputs": num_inputs,
        "num_features": num_features,
        "num_target": config.num_target,
        "budget": config.budget,
        "noise": noise,
        "curve": curve,
        "smallest": number(found.smallest),
        "pays_at_budget": curve[budgets.index(min(config.budget, worth))]["pays"],
    }
