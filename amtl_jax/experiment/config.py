"""Experiment configs: nested frozen dataclasses. Imports no JAX, so the command line is quick."""

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from amtl_jax.experiment.data_config import AnyData
from amtl_jax.experiment.data_config import DigitsConfig as DigitsConfig
from amtl_jax.experiment.data_config import MnistCConfig as MnistCConfig
from amtl_jax.experiment.data_config import SyntheticConfig as SyntheticConfig
from amtl_jax.experiment.data_config import TableConfig as TableConfig
from amtl_jax.experiment.data_config import chunk_blocks_of as chunk_blocks_of
from amtl_jax.experiment.fit_config import EncoderConfig as EncoderConfig
from amtl_jax.experiment.fit_config import FitConfig as FitConfig

ArmName = Literal[
    "target_only", "pooled", "uniform", "a_mtrl", "l1_a_mtrl", "c_optimal", "alignment"
]


class ConfigError(ValueError):
    """A config that does not exist, does not fit together, or belongs to another workdir."""


@dataclass(frozen=True)
class FloorConfig:
    """What every source gets in every round whatever its score; at most one is set.

    Where none is set: 10 samples, 20 from 160 sources on, or as many as 0.3 of the round's budget
    give where that is less; none in the last of several rounds.

    Attributes:
      count: samples per source.
      share: share of the round's budget, spread evenly.
      root: the papers' √(round budget) samples per source.
    """

    count: int | None = None
    share: float | None = None
    root: bool = False


@dataclass(frozen=True)
class StudyConfig:
    """What `amtl study` runs: every target × arm × seed × budget × number of target samples.

    Attributes:
      targets: tasks that are the target in turn; none given: all.
      arms: what is compared: those of a run but `pooled`; `same_digit`, 0.8 of the budget for the
        sources of the target's digit and 0.2 even; `all_data`, every source row there is, whatever
        it costs; `clairvoyant`, for each target the best of the other arms of one budget by its
        error on the target rows that are not in the sample, which no arm sees: a ceiling of
        choosing; or `package.module:function`, a strategy of your own.
      budgets: each like `budget`; none given: that.
      target_samples: each like `num_target`; none given: that.
      seeds: none given: `seeds`.
      batch: campaigns that are computed at once by one program, on each of several devices; None:
        on a CPU two programs with one each, elsewhere as many as fit into the device's memory.
    """

    targets: tuple[str, ...] = ()
    arms: tuple[str, ...] = ("target_only", "uniform", "a_mtrl", "c_optimal", "alignment")
    budgets: tuple[int, ...] = ()
    target_samples: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    batch: int | None = None


@dataclass(frozen=True)
class ScaleConfig:
    """Devices that share the work: how a result is computed, not which.

    A workdir does not ask for it: what eight devices began one may go on with. Fits agree up to
    rounding.

    Attributes:
      tasks: devices that share the rows of a fit and, unlike `data`, the solution of its heads; in
        all `tasks` times `data` devices.
      data: devices that share the rows of a fit.
      lengths: how many lengths the batches of a run on several devices have at most. With 1 they
        have room for all rounds, so that no later round compiles, and in early rounds the last
        devices have nothing to do. With 8 they are rounded up to an eighth of that room, and each
        length is compiled when it first comes: for rounds that take longer than a compilation.
      targets: devices that take campaigns of a study among them.
      compilation_cache: folder that keeps compiled programs for the next start; made if missing.
    """

    tasks: int = 1
    data: int = 1
    lengths: int = 1
    targets: int = 1
    compilation_cache: str | None = None


@dataclass(frozen=True)
class Config:
    """One experiment.

    Attributes:
      name: of the experiment; the default workdir is `runs/<name>`, that of a study
        `studies/<name>`.
      data: the tasks.
      num_target: rows of the target sample, the same for every arm; at least 2. None, for tables:
        all of the target's rows that are not kept for the test.
      budget: source samples that each arm may buy, all rounds together; where samples have
        prices, the money it may spend. None, for tables: half of what all samples cost.
      until: the error at which an arm stops before its budget is spent: a share of wrong classes,
        or a squared error in the units of the data. It is measured after every round on half of
        the test rows, which then no longer count as test rows. None: the budget alone decides.
      price: what a sample of the budget is, for images: `each` label of each image; or `shared`, an
        image with its labels for all tasks of its corruption, which are then bought together.
      schedule: shares of the budget per round.
      rounds: the samples that a round's fit sees: `pooled`, all that were bought so far; `last`,
        those of the round alone, the exploration before it not charged (as published; studies).
      floor: what every source gets in every round.
      arms: what is compared; `target_only` uses no source, `pooled` is one ridge on all rows of
        all sources and the target's, whatever they would cost.
      target_in_fit: whether the fit from which every arm estimates relevance has the target as one
        more task.
      target_in_final_fit: whether the representation that an arm returns is fitted to the target's
        sample too, in all arms alike. It pays where there are no features to spare and the target
        has five rows an input or more. Leave-one-out errors on its sample are then too small: the
        answer leans on features that fit its noise, and on sources that do not help.
      seeds: replicates; each draws samples and the target sample anew.
      encoder: the representation.
      fit: how it is fitted.
      block_rows: rows of a packed block; None: chosen from the budget.
      num_resamples: bootstrap resamples behind an interval.
      level: coverage of the intervals.
      study: what `amtl study` runs; `amtl run` does not look at it.
      scale: devices that share the work.
    """

    name: str
    data: AnyData
    num_target: int | None = 400
    budget: int | None = 15_000
    until: float | None = None
    price: Literal["each", "shared"] = "each"
    schedule: tuple[float, ...] = (0.300, 0.147, 0.221, 0.332)
    rounds: Literal["pooled", "last"] = "pooled"
    floor: FloorConfig = field(default_factory=FloorConfig)
    arms: tuple[ArmName, ...] = ("target_only", "uniform", "a_mtrl", "l1_a_mtrl", "c_optimal")
    target_in_fit: bool = True
    target_in_final_fit: bool = False
    seeds: tuple[int, ...] = (0,)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    block_rows: int | None = None
    num_resamples: int = 2000
    level: float = 0.95
    study: StudyConfig = field(default_factory=StudyConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)


def shown(value: Any) -> str:
    """Returns how a value prints, in at most about a hundred characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, or too deep a nesting
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]} …"


def to_plain(config: Config) -> dict[str, Any]:
    """Returns a config as plain data for JSON; the kind of data is kept by name."""
    plain = dataclasses.asdict(config)
    plain["data"]["kind"] = type(config.data).__name__
    return plain


def from_plain(plain: dict[str, Any]) -> Config:
    """Builds the config that `to_plain` described; what it leaves out has its default.

    Types are not checked here: `validation.check` does that for every config.

    Raises:
      ConfigError: names an unknown or missing field, or an unknown kind of data.
    """
    plain = dict(plain)
    if isinstance(plain.get("data"), dict):
        kinds = {
            kind.__name__: kind for kind in typing.get_args(typing.get_type_hints(Config)["data"])
        }
        data = dict(plain["data"])
        kind = data.pop("kind", None)
        if not isinstance(kind, str) or kind not in kinds:
            raise ConfigError(f"data.kind must be one of {', '.join(kinds)}, got {kind!r:.80}.")
        plain["data"] = _build(kinds[kind], data, "data.")
    return _build(Config, plain)


def _build(kind: type, plain: dict[str, Any], prefix: str = ""):
    """Builds a dataclass from fields by name, and the dataclasses in it."""
    known = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(plain.keys() - known)
    if unknown:
        raise ConfigError(
            f"Unknown field {prefix}{unknown[0]!s:.80}; known: {', '.join(map(str, known))}."
        )
    needed = [name for name, field in known.items() if _is_required(field) and name not in plain]
    if needed:
        raise ConfigError(f"Field {prefix}{needed[0]} is missing.")
    hints, values = typing.get_type_hints(kind), {}
    for name, value in plain.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            value = _build(hints[name], value, f"{prefix}{name}.")
        values[name] = _with_tuples(value)
    return kind(**values)


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _with_tuples(value):
    """JSON has lists where configs have tuples."""
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
