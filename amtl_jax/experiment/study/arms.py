"""The arms of a study: those that look at evidence, and those whose split is known beforehand."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from amtl_jax.experiment.build import RULES
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.types import Strategy

UNIFORM, SAME_DIGIT, TARGET_ONLY, ALL_DATA = "uniform", "same_digit", "target_only", "all_data"
CLAIRVOYANT = "clairvoyant"
_OWN_SHARE = 0.8  # of the budget, for the sources of the target's class


def known_split(arm: str, sources: np.ndarray, target: int) -> np.ndarray:
    """`[M]` scores of an arm that looks at nothing: `uniform` or `same_digit`.

    Args:
      arm: which.
      sources: `[M]` class of each source.
      target: class of the target.
    """
    even = np.full(len(sources), 1 / len(sources))
    if arm == UNIFORM:
        return even
    own = sources == target
    return _OWN_SHARE * own / max(own.sum(), 1) + (1 - _OWN_SHARE) * even


def strategies_of(config: Config, arms: Sequence[str]) -> dict[str, Strategy]:
    """Makes the strategies of the arms that look at evidence, by name.

    Raises:
      ConfigError: if a strategy of one's own cannot be found or made.
    """
    known = (UNIFORM, SAME_DIGIT, TARGET_ONLY, ALL_DATA, CLAIRVOYANT)
    looking = [arm for arm in arms if arm not in known]
    return {
        arm: _imported(arm) if ":" in arm else RULES[arm](target_in_fit=config.target_in_fit)
        for arm in looking
    }


def _imported(path: str) -> Strategy:
    """Finds `package.module:name`, a strategy or a function that returns one."""
    module, _, name = path.partition(":")
    advice = "study.arms takes package.module:name, a Strategy or a function that returns one"
    folder = str(Path.cwd())  # a command does not look for modules where it is started
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"study.arms: cannot find {path!r} ({error}); {advice}.") from error
    if isinstance(found, Callable) and not isinstance(found, Strategy):
        try:
            found = found()
        except Exception as error:  # whatever a stranger's function may raise
            text = f"{type(error).__name__}: {error}"
            raise ConfigError(f"study.arms: {path!r} failed ({text}); {advice}.") from error
    if not isinstance(found, Strategy):
        raise ConfigError(f"study.arms: {path!r} is {type(found).__name__}; {advice}.")
    return found
