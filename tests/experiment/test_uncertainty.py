"""Intervals of the relevance: around the relevance that an arm reports, whatever fit it is of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import ARMS, tiny

from amtl_jax import knowledge, posterior
from amtl_jax.experiment import build, uncertainty
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.rounds import bought_round, prepare, teller


@pytest.fixture
def make_certain(monkeypatch):
    """Makes posterior draws all the posterior's mean, in `draws_of` and for nobody after it."""

    def make():
        for module in (knowledge, posterior):
            monkeypatch.setattr(module, "draw_heads", lambda key, found: found.mean)
        uncertainty.draws_of.clear_cache()

    yield make
    uncertainty.draws_of.clear_cache()


def first_rounds(config):
    """The first round of every buying arm, which is one fit, and what was looked at in it."""
    setting = prepare(config, Observer())
    root = jax.random.key(0)
    target = setting.problem.draw_target(jax.random.fold_in(root, build.TARGET_KEY))
    tell = teller(setting, root, target)
    for arm in ARMS[1:]:
        yield setting, bought_round(setting, Slot(0, arm, 0), tell, None, target)


def drawn(setting, one, evidence, num_draws):
    config = setting.config
    return uncertainty.draws_of(
        jax.random.key(1),
        evidence,
        one.state.proposal.scores,
        uncertainty._factors(config, one.state, evidence),
        solver=uncertainty.SOLVERS[one.record["strategy"]],
        intercept=config.fit.intercept,
        num_draws=num_draws,
    )


@pytest.mark.parametrize(
    ("target_in_fit", "weigh_noise"), [(True, False), (False, True), (True, True)]
)
def test_heads_that_are_certain_have_the_relevance_of_the_record(
    make_certain, target_in_fit, weigh_noise
):
    config = tiny(target_in_fit=target_in_fit)
    if weigh_noise:  # by noises that differ,
        data = dataclasses.replace(config.data, scenario="noise")
        config = dataclasses.replace(config, data=data)
    # and under a strong penalty, for the ridge of each head to count.
    fit = dataclasses.replace(config.fit, weigh_noise=weigh_noise, penalty=0.1)
    config = dataclasses.replace(config, fit=fit)
    rounds = list(first_rounds(config))
    make_certain()
    for setting, (one, evidence) in rounds:
        draws = drawn(setting, one, evidence, num_draws=2)
        nu = np.asarray(one.record["nu"])
        scale = np.abs(nu).max()
        assert scale > 0
        np.testing.assert_allclose(
            draws, [nu, nu], atol=2e-3 * scale, err_msg=one.record["strategy"]
        )


def test_draws_scatter_around_the_relevance_of_the_design():
    for setting, (one, evidence) in first_rounds(tiny()):
        if one.record["strategy"] != "c_optimal":
            continue
        draws = np.asarray(drawn(setting, one, evidence, num_draws=200))
        assert np.isfinite(draws).all()
        low, high = np.quantile(draws, (0.01, 0.99), axis=0)
        nu = np.asarray(one.record["nu"])
        assert (low < high).all()
        assert (low <= nu).all()
        assert (nu <= high).all()


def test_the_evidence_of_a_round_has_no_key():
    _, (_, evidence) = next(first_rounds(tiny()))
    assert evidence.key is None
    assert not any(
        jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(evidence)
    )
