"""Collects what is wrong with the values of a config. Imports no JAX."""

import types
import typing
from typing import Any

from amtl_jax.experiment.config import Config, shown

LARGEST = 2**31 - 1  # counts and seeds are int32
LARGEST_FLOAT = 3.4e38  # numbers are float32
WIDEST = 1_000_000  # an axis beyond this is a slip of the keyboard
MOST_DRAWS = 10_000_000


class Checks:
    """What is wrong with the values of one config, in words; names are like `fit.num_steps`.

    Attributes:
      problems: a line for each, without a full stop.
    """

    problems: list[str]

    def __init__(self, config: Config):
        self.problems = []
        self._config = config

    def value_of(self, name: str) -> Any:
        """Returns a value."""
        value = self._config
        for step in name.split("."):
            value = getattr(value, step)
        return value

    def expect(self, holds: bool, name: str, what: str) -> None:
        """Notes a value that is not what it must be."""
        if not holds:
            self.problems.append(f"{name} must be {what}, got {shown(self.value_of(name))}")

    def within(self, name: str, least: float, most: float) -> None:
        """Expects that a value, or each of several, is None or between the two."""
        value = self.value_of(name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        or_none = " or None" if self._may_be_none(name) else ""
        self.expect(all(one >= least for one in values), name, f"at least {least}{or_none}")
        self.expect(all(one <= most for one in values), name, f"at most {most}{or_none}")

    def distinct(self, name: str, *, may_be_empty: bool = False) -> None:
        """Expects values that differ, and unless told otherwise at least one."""
        values = self.value_of(name)
        if not values and not may_be_empty:
            self.problems.append(f"{name} must be at least one, got none")
        elif len(set(values)) < len(values):
            self.problems.append(f"{name} must be distinct, got {', '.join(map(str, values))}")

    def _may_be_none(self, name: str) -> bool:
        part, _, field = name.rpartition(".")
        owner = self.value_of(part) if part else self._config
        kind = typing.get_type_hints(type(owner))[field]
        return types.NoneType in typing.get_args(kind)
