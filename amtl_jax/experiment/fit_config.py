"""Configs of the representation and of its fit. Imports no JAX."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EncoderConfig:
    """The representation.

    Attributes:
      kind: `linear`; `mlp`, ReLU layers; `conv`, 3×3 ReLU convolutions, max-pool and a dense
        layer, for images; `identity`, for inputs that are frozen embeddings; `module`, a linen
        module of your own, which `get_encoder()` beside `get_config()` returns.
      num_features: features of the representation, K; `aic`, for `linear`: in every fit as many as
        Akaike's criterion finds, up to 50 and one less than there are inputs; None: 50, for
        `linear` at most as many as inputs, for `identity` the inputs.
      widths: hidden widths of `mlp`, channels of `conv`; None: (256,) and (32, 64).
      pool_each: whether `conv` pools after every convolution, not only after the last.
      input_scale: what inputs are multiplied by, wherever they are encoded: 255 for images as they
        were published, which are kept in [0, 1] here.
      module: how a module of your own prints; filled in by `run`.
    """

    kind: Literal["linear", "mlp", "conv", "identity", "module"] = "linear"
    num_features: int | Literal["aic"] | None = None
    widths: tuple[int, ...] | None = None
    pool_each: bool = False
    input_scale: float = 1.0
    module: str | None = None


@dataclass(frozen=True)
class FitConfig:
    """How the representation is fitted.

    Attributes:
      method: `lbfgs` (joint, with a spectral start; linear encoders), `variable_projection`, or
        `joint`, which descends encoder and heads together from heads of zero, over all rows at
        every step (as published); None: lbfgs for linear encoders, variable projection for others.
      num_steps: most steps of one fit: gradient passes of lbfgs, optimiser steps of the others.
      tolerance: lbfgs stops when the objective fell by less than this share over `window` values.
      window: of lbfgs, see `tolerance`; one step fewer is made at least. Fits that choose the rank
        (`encoder.num_features aic`) have a window of their own.
      optimizer: of variable projection and of `joint`; sgd has a momentum of 0.9.
      learning_rate: of the optimiser.
      schedule: of the learning rate: constant; a cosine to 0 over num_steps; or `step`, times
        `decay` after every `decay_steps`.
      decay: of the schedule `step`.
      decay_steps: of the schedule `step`.
      batch_rows: rows of a minibatch of variable projection, in whole blocks; None: all rows.
      stop_share: share of the source rows held out to stop minibatch fits early; 0: no stopping.
      patience: passes over the rows without a better held-out error before a fit stops.
      warm_start: whether a round's fit starts where that of the round before ended.
      intercept: whether heads have an unpenalised intercept.
      weigh_noise: whether every task counts by one over the noise of its labels, as an earlier fit
        estimates it; for sources whose labels differ much in quality.
      penalty: λ of the objective; None: chosen on held-out source rows in the first round.
      penalties: the grid λ is chosen from, strongest first.
    """

    method: Literal["lbfgs", "variable_projection", "joint"] | None = None
    num_steps: int = 100
    tolerance: float = 1e-3
    window: int = 10
    optimizer: Literal["adam", "sgd", "adadelta"] = "adam"
    learning_rate: float = 0.01
    schedule: Literal["constant", "cosine", "step"] = "constant"
    decay: float = 0.9
    decay_steps: int = 100
    batch_rows: int | None = None
    stop_share: float = 0.1
    patience: int = 3
    warm_start: bool = True
    intercept: bool = True
    weigh_noise: bool = False
    penalty: float | None = None
    penalties: tuple[float, ...] = (1e-2, 3.1623e-3, 1e-3, 3.1623e-4, 1e-4, 3.1623e-5, 1e-5)
