"""Whether a config makes sense, told before anything is computed. Imports no JAX."""

import dataclasses
import re
import sys
import types
import typing
from typing import Literal

from amtl_jax.experiment.config import Config, ConfigError, EncoderConfig, FitConfig, shown
from amtl_jax.experiment.data_checks import check_data
from amtl_jax.experiment.study_checks import check_study
from amtl_jax.experiment.value_checks import LARGEST, LARGEST_FLOAT, MOST_DRAWS, WIDEST, Checks

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check(config: Config) -> None:
    """Checks types and values of a config.

    Raises:
      ConfigError: one line that names every value in question, and what is expected.
    """
    check_types(config)
    problems = _value_problems(config)
    if problems:
        raise ConfigError("; ".join(problems) + ".")


def check_types(config: Config) -> None:
    """Checks types alone: what a config leaves open may still be given.

    Raises:
      ConfigError: as `check`.
    """
    problems = _type_problems(config)
    if problems:
        raise ConfigError("; ".join(problems) + ".")


def _type_problems(part, prefix: str = "") -> list[str]:
    """Compares every field with its annotation: a config file is code that nobody checked."""
    problems, hints = [], typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value, kind = getattr(part, field.name), hints[field.name]
        name = prefix + field.name
        if not _fits(value, kind):
            problems.append(f"{name} must be {_kind_text(kind)}, got {shown(value)}")
        elif dataclasses.is_dataclass(value):
            problems += _type_problems(value, name + ".")
    return problems


def _fits(value, kind) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _kind_text(kind) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(inner)}" if len(inner) > 1 else inner[0]
    if origin is tuple:
        return f"a tuple, each item {_kind_text(inner[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind_text(one) for one in inner)
    return {float: "a finite float", type(None): "None"}.get(kind, kind.__name__)


def _value_problems(config: Config) -> list[str]:
    checks = Checks(config)
    expect, within, distinct = checks.expect, checks.within, checks.distinct
    fit = config.fit
    expect(bool(_NAME.fullmatch(config.name)), "name", "letters, digits, '_', '.' and '-'")
    distinct("arms")
    distinct("seeds")
    is_seeds = all(0 <= seed <= LARGEST for seed in config.seeds)
    expect(is_seeds, "seeds", f"between 0 and {LARGEST}")
    if config.num_target is not None:
        expect(2 <= config.num_target <= LARGEST, "num_target", "at least 2, to leave one out")
    if config.budget is not None:
        most = LARGEST - (config.num_target or 0)
        expect(1 <= config.budget <= most, "budget", "at least 1, and int32")
    within("until", 0, LARGEST_FLOAT)
    positive = len(config.schedule) > 0 and min(config.schedule) > 0
    expect(positive, "schedule", "positive shares, one a round")
    within("schedule", -LARGEST_FLOAT, LARGEST_FLOAT)
    within("num_resamples", 1, MOST_DRAWS)
    within("block_rows", 1, WIDEST)
    expect(0 < config.level < 1, "level", "between 0 and 1")
    within("fit.num_steps", 1, LARGEST)
    within("fit.batch_rows", 1, LARGEST)
    within("fit.patience", 1, LARGEST)
    within("fit.tolerance", 0, LARGEST_FLOAT)
    within("fit.window", 2, LARGEST)
    within("fit.penalty", 0, LARGEST_FLOAT)
    expect(0 < fit.learning_rate <= LARGEST_FLOAT, "fit.learning_rate", "positive, and float32")
    expect(0 < fit.decay <= 1, "fit.decay", "above 0 and at most 1")
    within("fit.decay_steps", 1, LARGEST)
    falling = list(fit.penalties) == sorted(fit.penalties, reverse=True)
    positive = len(fit.penalties) > 0 and min(fit.penalties) > 0
    expect(positive and falling, "fit.penalties", "positive, strongest first")
    within("fit.penalties", -LARGEST_FLOAT, LARGEST_FLOAT)
    expect(0 <= fit.stop_share <= 0.5, "fit.stop_share", "between 0 and 0.5")
    within("floor.count", 0, LARGEST)
    within("floor.share", 0, 1)
    if config.encoder.num_features != "aic":
        within("encoder.num_features", 1, WIDEST)
    within("encoder.widths", 1, WIDEST)
    scale = config.encoder.input_scale
    expect(0 < scale <= LARGEST_FLOAT, "encoder.input_scale", "positive, and float32")
    for name in ("tasks", "data", "lengths", "targets"):
        within(f"scale.{name}", 1, WIDEST)
    is_shared = config.scale.tasks * config.scale.data > 1
    expect(is_shared or config.scale.lengths == 1, "scale.lengths", "1 on one device")
    expect(config.scale.compilation_cache != "", "scale.compilation_cache", "a folder or None")
    check_data(checks, config)
    check_study(checks, config)
    return checks.problems + _floor_problems(config) + _encoder_problems(config)


def _floor_problems(config: Config) -> list[str]:
    """The learner would tell, but where no arm buys there is none."""
    floor = config.floor
    if (floor.count is not None) + (floor.share is not None) + floor.root > 1:
        return [
            "at most one of floor.count, floor.share and floor.root can be set, got count "
            f"{floor.count}, share {floor.share} and root {floor.root}"
        ]
    return []


def _encoder_problems(config: Config) -> list[str]:
    """What does not go together in the encoder and its fit.

    A setting that is None unless set must have an effect. Those of `fit` with another default,
    such as `fit.optimizer`, are taken as they are: whether somebody set them cannot be seen.
    """
    encoder, fit, problems = config.encoder, config.fit, []
    kind = encoder.kind
    if encoder.widths == ():
        problems.append("encoder.widths must be positive, one a layer, got ()")
    if encoder.widths is not None and kind not in ("mlp", "conv"):
        problems.append(f"encoder.widths is for the kinds mlp and conv, got kind {kind!r}")
    if encoder.pool_each and kind != "conv":
        problems.append(f"encoder.pool_each is for the kind conv, got kind {kind!r}")
    if encoder.module is not None and kind != "module":
        problems.append(f"encoder.module is filled in by run: leave it out, got kind {kind!r}")
    if encoder.num_features == "aic" and (kind, fit.method) not in (
        ("linear", None),
        ("linear", "lbfgs"),
    ):
        problems.append(
            "encoder.num_features aic is for the linear encoder, fitted by lbfgs: give a number "
            f"for encoder.kind {kind!r} and fit.method {fit.method!r}"
        )
    return problems + _fit_problems(encoder, fit)


def _fit_problems(encoder: EncoderConfig, fit: FitConfig) -> list[str]:
    """What does not go together in a fit, and with the encoder that it is for."""
    kind, problems = encoder.kind, []
    is_lbfgs = fit.method == "lbfgs" or (fit.method is None and kind == "linear")
    if kind == "identity":
        for name in ("method", "batch_rows"):
            if getattr(fit, name) is not None:
                problems.append(f"fit.{name} is without effect: nothing is trained for identity")
    elif fit.method == "joint":
        if fit.batch_rows is not None:
            problems.append("fit.batch_rows is for variable projection; joint takes all rows")
        if fit.weigh_noise:
            problems.append(
                "fit.weigh_noise is for fits that solve their heads: set fit.method lbfgs or "
                "variable_projection"
            )
    elif is_lbfgs and kind != "linear":
        problems.append(
            f"fit.method lbfgs is for the linear encoder, got encoder.kind {kind!r}: set "
            "fit.method variable_projection"
        )
    elif is_lbfgs and encoder.input_scale != 1:
        problems.append(
            "encoder.input_scale is for fit.method joint and variable_projection; the linear "
            "encoder is fitted by lbfgs, which reads inputs as they are"
        )
    elif is_lbfgs and fit.batch_rows is not None:
        problems.append(
            "fit.batch_rows is for variable projection; the linear encoder is fitted by lbfgs: "
            "set fit.method variable_projection"
        )
    return problems
