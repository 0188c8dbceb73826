"""The published recipe by config: what is built, what is refused, what the presets say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import amtl_jax as amtl
from amtl_jax.experiment.config import Config, ConfigError, EncoderConfig, FitConfig, MnistCConfig
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.representation import build_encoder, build_fitter
from amtl_jax.experiment.validation import check

RECIPE = FitConfig(
    method="joint",
    num_steps=5,
    optimizer="adadelta",
    learning_rate=0.5,
    schedule="step",
    decay=0.7,
    decay_steps=2,
    penalty=0.0,
)


def config_of(fit=RECIPE, **encoder) -> Config:
    encoder = EncoderConfig(**({"num_features": 3} | encoder))
    return Config(name="a", data=MnistCConfig(root="b"), encoder=encoder, fit=fit)


def test_a_config_builds_the_recipe():
    config = config_of(input_scale=255.0)
    check(config)
    encoder = build_encoder(config, (6,))
    fitter = build_fitter(config, encoder, 2, 6)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(40, 6))
    batch = amtl.pack(x, x[:, 0] > 0.5, np.arange(40) % 2, num_tasks=2)
    params = fitter.init(jax.random.key(0), batch, jnp.float32(0))
    np.testing.assert_allclose(
        encoder.apply(params, batch.x[0]),
        amtl.linear_encoder(3).apply(params, 255.0 * batch.x[0]),
        rtol=1e-5,
    )
    # The rate falls after every second step: .5 .5 .35 .35 .245.
    rates = jnp.array([0.5, 0.5, 0.35, 0.35, 0.245])
    same = amtl.joint_descent_fitter(
        encoder, optax.adadelta(lambda step: rates[step]), num_tasks=2, num_steps=5
    )
    found, wanted = (jax.jit(one.fit)(params, batch, jnp.float32(0)) for one in (fitter, same))
    for one, other in zip(jax.tree.leaves(found[:2]), jax.tree.leaves(wanted[:2]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"fit": dataclasses.replace(RECIPE, batch_rows=64)}, "joint takes all rows"),
        ({"fit": dataclasses.replace(RECIPE, weigh_noise=True)}, "fit.weigh_noise is for fits tha"),
        ({"fit": FitConfig(decay=0.0)}, "fit.decay must be above 0 and at most 1, got 0.0"),
        ({"fit": FitConfig(decay=1.5)}, "fit.decay must be above 0 and at most 1, got 1.5"),
        ({"fit": FitConfig(decay_steps=0)}, "fit.decay_steps must be at least 1, got 0"),
        ({"fit": FitConfig(optimizer="adagrad")}, "must be one of adam, sgd, adadelta"),
        ({"fit": FitConfig(), "input_scale": 255.0}, "encoder.input_scale is for fit.method joint"),
        ({"input_scale": 0.0}, "encoder.input_scale must be positive, and float32, got 0.0"),
        ({"input_scale": 1e39}, "encoder.input_scale must be positive, and float32"),
        ({"kind": "identity"}, "fit.method is without effect"),
        ({"num_features": "aic"}, "aic is for the linear encoder, fitted by lbfgs"),
    ],
)
def test_what_does_not_fit_is_refused(changes, part):
    with pytest.raises(ConfigError) as error:
        check(config_of(**changes))
    assert part in str(error.value)


@pytest.mark.parametrize("name", ["mnist_c_published", "mnist_c_conv"])
def test_the_presets_differ_in_the_encoder_alone(name):
    config, linear = load_config(name), load_config("mnist_c_published")
    check(dataclasses.replace(config, data=MnistCConfig(root="b")))
    # A round's own samples alone, the exploration free; no target in any fit; plain least squares.
    assert config.rounds == "last"
    assert (config.target_in_fit, config.target_in_final_fit) == (False, False)
    assert (config.fit.penalty, config.fit.warm_start) == (0.0, False)
    assert sum(config.schedule) == config.budget
    assert config.encoder.input_scale == 255.0
    same = dataclasses.replace(config, name=linear.name, encoder=linear.encoder)
    assert same == linear


def test_the_published_network_has_the_published_shapes():
    encoder = build_encoder(load_config("mnist_c_conv"), (28, 28, 1))
    params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    assert shapes == [(3, 3, 1, 32), (3, 3, 32, 64), (14 * 14 * 64, 50)]
