"""Whether plain data from a file has the form that it should have; nobody else looks again.

A check is a function of a value and of the words for its place; it raises `Damaged` or returns.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]


class Damaged(ValueError):
    """Data of another form than expected; says where, what was expected, and what came."""


def text(value: Any, place: str) -> None:
    """A string."""
    if not isinstance(value, str):
        raise _other(place, "text", value)


def flag(value: Any, place: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _other(place, "true or false", value)


def number(value: Any, place: str) -> None:
    """A finite number, not too large to be computed with."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or abs(value) > 1e15 or math.isnan(value):
        raise _other(place, "a finite number", value)


def count(value: Any, place: str) -> None:
    """A whole number from 0."""
    number(value, place)
    if not isinstance(value, int) or value < 0:
        raise _other(place, "a whole number from 0", value)


def maybe(check: Check) -> Check:
    """What a check wants, or null."""

    def found(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return found


def listed(check: Check, *, least: int = 0, most: int = 100_000) -> Check:
    """A list of what a check wants."""

    def found(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise _other(place, "a list", value)
        if not least <= len(value) <= most:
            raise Damaged(f"{place}: expected {least:,} to {most:,} entries, got {len(value):,}")
        for index, one in enumerate(value):
            check(one, f"{place}[{index}]")

    return found


def named(check: Check, *, most: int = 100_000) -> Check:
    """A mapping from any names to what a check wants."""

    def found(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise _other(place, "names and values", value)
        if len(value) > most:
            raise Damaged(f"{place}: expected at most {most:,} entries, got {len(value):,}")
        for name, one in value.items():
            check(one, f"{place}.{name}")

    return found


def fields(checks: Mapping[str, Check]) -> Check:
    """A mapping that has these fields, and maybe others, which nobody looks at."""

    def found(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise _other(place, "names and values", value)
        for name, check in checks.items():
            if name not in value:
                raise Damaged(f"{place}.{name} is missing")
            check(value[name], f"{place}.{name}")

    return found


def anything(value: Any, place: str) -> None:
    """Whatever it is."""


def distinct(values: list[str], place: str) -> None:
    """Raises where a name is there twice."""
    if len(set(values)) < len(values):
        twice = next(one for one in values if values.count(one) > 1)
        raise Damaged(f"{place}: {twice!r:.80} is there twice")


def _other(place: str, expected: str, value: Any) -> Damaged:
    return Damaged(f"{place[:200]}: expected {expected}, got {value!r:.80}")
