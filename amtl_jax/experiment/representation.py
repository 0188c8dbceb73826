"""From a config to the representation and the way it is fitted."""

import math
import re
from typing import Any

import jax
import numpy as np
import optax

from amtl_jax.encoders.conv import conv_encoder
from amtl_jax.encoders.identity import identity_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.encoders.mlp import mlp_encoder
from amtl_jax.encoders.modules import check_rows, module_encoder
from amtl_jax.encoders.scaled import scaled_encoder
from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    EncoderConfig,
    FitConfig,
    chunk_blocks_of,
)
from amtl_jax.fitting.frozen import frozen_fitter
from amtl_jax.fitting.gram import gram_fitter
from amtl_jax.fitting.joint_descent import joint_descent_fitter
from amtl_jax.fitting.lbfgs import lbfgs_fitter
from amtl_jax.fitting.minibatch import minibatch_fitter
from amtl_jax.fitting.variable_projection import variable_projection_fitter
from amtl_jax.rank_choice import rank_fitter
from amtl_jax.types import Encoder, Fitter

DEFAULT_FEATURES = 50
_MOST_SUMS = 2**27  # numbers in the second moments of all tasks; a round holds them several times
_RANK_TOLERANCE = 1e-5  # criteria of two ranks differ by less than a fit that stops early


def module_text(module: Any) -> str:
    """How a module prints, in one line and the same in every process: without addresses.

    Raises:
      ConfigError: if it cannot be printed.
    """
    try:
        text = repr(module)
    except Exception as error:  # whatever a stranger's module may raise
        raise ConfigError(f"The module does not print: {type(error).__name__}: {error}") from error
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", text).split())


def build_encoder(config: Config, input_shape: tuple[int, ...], module: Any = None) -> Encoder:
    """Builds the representation.

    Args:
      config: of the run.
      input_shape: of one input.
      module: a linen module, where `encoder.kind` is `module`.

    Raises:
      ConfigError: if the kind asks for a module and there is none, or the other way round.
      TypeError: if the module is none of linen's or has no `num_features`.
      ValueError: if a setting is out of range, or does not fit the inputs.
    """
    return encoder_from_settings(config.encoder, input_shape, module)


def encoder_from_settings(
    settings: EncoderConfig, input_shape: tuple[int, ...], module: Any = None
) -> Encoder:
    """Builds the representation from its settings alone; see `build_encoder`."""
    if (settings.kind == "module") != (module is not None):
        given = "no module was given"
        if module is not None:
            given = f"the module {module_text(module)} was given"
        raise ConfigError(
            f"encoder.kind is {settings.kind!r}, but {given}: a linen module of your own goes with "
            "the kind 'module', from get_encoder() in the config file or as run(..., encoder=...)."
        )
    encoder = _encoder_of(settings, input_shape, module)
    if settings.input_scale != 1:
        encoder = scaled_encoder(encoder, settings.input_scale)
    # What does not fit the inputs comes up here, before anything is computed or written.
    if settings.kind != "module":
        row = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
        jax.eval_shape(encoder.init, jax.random.key(0), row)
        return encoder
    try:
        check_rows(encoder, input_shape)
    except (ValueError, TypeError):
        raise
    except Exception as error:  # whatever a stranger's module may raise
        raise ConfigError(
            f"The module {type(module).__name__} failed on inputs of shape {list(input_shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return encoder


def _encoder_of(settings: EncoderConfig, input_shape: tuple[int, ...], module) -> Encoder:
    """The encoder of a kind."""
    if settings.num_features == "aic":  # one direction less than there are: all are no choice
        return linear_encoder(max(min(DEFAULT_FEATURES, int(np.prod(input_shape)) - 1), 1))
    num_features = settings.num_features or DEFAULT_FEATURES
    if settings.kind == "mlp":
        return mlp_encoder(num_features, widths=settings.widths or (256,))
    if settings.kind == "conv":
        channels = settings.widths or (32, 64)
        return conv_encoder(num_features, channels=channels, pool_each=settings.pool_each)
    if settings.kind == "identity":
        return identity_encoder(settings.num_features or int(np.prod(input_shape)))
    if settings.kind == "module":
        encoder = module_encoder(module)
        if settings.num_features not in (None, encoder.num_features):
            raise ConfigError(
                f"encoder.num_features is {settings.num_features}, but the module has "
                f"num_features={encoder.num_features}. Set one of them, or both alike."
            )
        return encoder
    num_inputs = int(np.prod(input_shape))
    if settings.num_features is not None and settings.num_features > num_inputs:
        raise ConfigError(
            f"encoder.num_features is {settings.num_features}, but a linear representation of "
            f"{num_inputs} inputs has at most {num_inputs} features."
        )
    return linear_encoder(min(num_features, num_inputs))


def build_fitter(config: Config, encoder: Encoder, num_tasks: int, num_inputs: int) -> Fitter:
    """Builds the fit of the representation for M sources and the target.

    Raises:
      ValueError: if a setting is out of range, or inputs are too many to choose a rank, or for
        sums of rows that come in chunks.
    """
    fit, kind = config.fit, config.encoder.kind
    if chunk_blocks_of(config.data) is not None:
        _check_sums(num_tasks, num_inputs)
    options = {"num_tasks": num_tasks, "intercept": fit.intercept}
    if config.encoder.num_features == "aic":
        return rank_fitter(
            encoder,
            num_inputs=num_inputs,
            num_steps=fit.num_steps,
            tolerance=min(fit.tolerance, _RANK_TOLERANCE),
            **options,
        )
    if kind == "identity":
        return frozen_fitter(encoder, **options)
    if fit.method == "lbfgs" or (fit.method is None and kind == "linear"):
        own = {"num_steps": fit.num_steps, "tolerance": fit.tolerance, "window": fit.window}
        fitter = lbfgs_fitter if chunk_blocks_of(config.data) is None else gram_fitter
        return fitter(encoder, **own, **options)
    optimizer = _optimizer(fit)
    if fit.method == "joint":
        return joint_descent_fitter(encoder, optimizer, num_steps=fit.num_steps, **options)
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


def _check_sums(num_tasks: int, num_inputs: int) -> None:
    """Refuses second moments that are more than what they are to save."""
    if num_tasks * num_inputs**2 > _MOST_SUMS:
        size, most = (4e-6 * one for one in (num_tasks * num_inputs**2, _MOST_SUMS))
        raise ValueError(
            f"data.chunk_blocks works from {num_inputs} × {num_inputs} sums of each of {num_tasks} "
            f"tasks: {size:,.0f} MB, more than the {most:,.0f} MB that it is made for. Leave it "
            f"out, or give at most {math.isqrt(_MOST_SUMS // num_tasks):,} inputs."
        )


def _optimizer(fit: FitConfig) -> optax.GradientTransformation:
    """The optimiser with its schedule."""
    rate = fit.learning_rate
    if fit.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, fit.num_steps)
    elif fit.schedule == "step":
        rate = optax.exponential_decay(rate, fit.decay_steps, fit.decay, staircase=True)
    if fit.optimizer == "adadelta":
        return optax.adadelta(rate)  # rho 0.9 and epsilon 1e-6, those of PyTorch
    return optax.adam(rate) if fit.optimizer == "adam" else optax.sgd(rate, momentum=0.9)
