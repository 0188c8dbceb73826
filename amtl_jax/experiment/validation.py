"""Whether a config makes sense, told before anything is computed. Imports no JAX."""

import dataclasses
import math
import re
import types
import typing
from typing import Literal

from amtl_jax.experiment.config import Config, ConfigError, DigitsConfig

_LARGEST = 2**31 - 1  # counts and seeds are int32
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check(config: Config) -> None:
    """Checks types and values of a config.

    Raises:
      ConfigError: one line that names every value in question, and what is expected.
    """
    problems = _type_problems(config) or _value_problems(config)
    if problems:
        raise ConfigError("; ".join(problems) + ".")


def _type_problems(part, prefix: str = "") -> list[str]:
    """Compares every field with its annotation: a config file is code that nobody checked."""
    problems, hints = [], typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        value, kind = getattr(part, field.name), hints[field.name]
        name = prefix + field.name
        if not _fits(value, kind):
            problems.append(f"{name} must be {_kind_text(kind)}, got {value!r}")
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
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)


def _kind_text(kind) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(inner)
    if origin is tuple:
        return f"a tuple, each item {_kind_text(inner[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind_text(one) for one in inner)
    return {float: "a finite float", type(None): "None"}.get(kind, kind.__name__)


def _value_problems(config: Config) -> list[str]:
    problems = []

    def expect(holds: bool, name: str, what: str):
        if not holds:
            value = config
            for step in name.split("."):
                value = getattr(value, step)
            problems.append(f"{name} must be {what}, got {value!r}")

    def is_seed(value):
        return 0 <= value <= _LARGEST

    data, fit, distinct = config.data, config.fit, "distinct and at least one"
    expect(bool(_NAME.fullmatch(config.name)), "name", "letters, digits, '_', '.' and '-'")
    expect(0 < len(set(config.arms)) == len(config.arms), "arms", distinct)
    expect(0 < len(set(config.seeds)) == len(config.seeds), "seeds", distinct)
    expect(all(map(is_seed, config.seeds)), "seeds", f"between 0 and {_LARGEST}")
    expect(2 <= config.num_target <= _LARGEST, "num_target", "at least 2, to leave one out")
    expect(1 <= config.budget <= _LARGEST - config.num_target, "budget", "at least 1, and int32")
    positive = len(config.schedule) > 0 and min(config.schedule) > 0
    expect(positive, "schedule", "positive shares, one a round")
    expect(config.num_resamples >= 1, "num_resamples", "at least 1")
    expect(config.block_rows is None or config.block_rows >= 1, "block_rows", "at least 1 or None")
    expect(0 < config.level < 1, "level", "between 0 and 1")
    expect(fit.num_steps >= 1, "fit.num_steps", "at least 1")
    expect(fit.tolerance >= 0, "fit.tolerance", "at least 0")
    expect(fit.learning_rate > 0, "fit.learning_rate", "positive")
    expect(fit.penalty is None or fit.penalty >= 0, "fit.penalty", "at least 0 or None")
    falling = list(fit.penalties) == sorted(fit.penalties, reverse=True)
    positive = len(fit.penalties) > 0 and min(fit.penalties) > 0
    expect(positive and falling, "fit.penalties", "positive, strongest first")
    expect(fit.batch_rows is None or fit.batch_rows >= 1, "fit.batch_rows", "at least 1 or None")
    expect(0 <= fit.stop_share <= 0.5, "fit.stop_share", "between 0 and 0.5")
    expect(fit.patience >= 1, "fit.patience", "at least 1")
    problems += _encoder_problems(config)
    if isinstance(data, DigitsConfig):
        expect(is_seed(data.pool_seed), "data.pool_seed", f"between 0 and {_LARGEST}")
    else:
        expect(is_seed(data.truth_seed), "data.truth_seed", f"between 0 and {_LARGEST}")
        expect(data.num_test >= 2, "data.num_test", "at least 2")
    return problems


def _encoder_problems(config: Config) -> list[str]:
    """What does not go together in the encoder and its fit; nothing set may be without effect."""
    encoder, fit, problems = config.encoder, config.fit, []
    kind = encoder.kind
    if encoder.num_features is not None and encoder.num_features < 1:
        problems.append(f"encoder.num_features must be at least 1, got {encoder.num_features}")
    if encoder.widths is not None and (not encoder.widths or min(encoder.widths) < 1):
        problems.append(f"encoder.widths must be positive, one a layer, got {encoder.widths}")
    if encoder.widths is not None and kind not in ("mlp", "conv"):
        problems.append(f"encoder.widths is for the kinds mlp and conv, got kind {kind!r}")
    if encoder.pool_each and kind != "conv":
        problems.append(f"encoder.pool_each is for the kind conv, got kind {kind!r}")
    if fit.method == "lbfgs" and kind != "linear":
        problems.append(
            f"fit.method lbfgs is for the linear encoder, got encoder.kind {kind!r}: set "
            "fit.method variable_projection"
        )
    return problems
