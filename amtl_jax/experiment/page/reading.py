"""Files of a workdir, which anybody may have written or changed: sizes first, then forms."""

import json
from pathlib import Path
from typing import Any

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.checks import Check, Damaged

_MOST_DEPTH = 24
_MOST_BYTES = {"config.json": 2**20, "summary.json": 2**26, "metrics.jsonl": 2**28}


def read_text(path: Path) -> str:
    """Reads a file of a workdir that is no larger than it can be.

    Raises:
      ConfigError: if there is none, it is too large, or not UTF-8.
      OSError: if it cannot be read.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ConfigError(f"{path} {what}; amtl run and amtl study write it.")
    most = _MOST_BYTES[path.name]
    with path.open("rb") as file:
        body = file.read(most + 1)
    if len(body) > most:
        raise ConfigError(f"{path} has more than {most:,} bytes, which no run or study writes.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is damaged: no UTF-8 at byte {error.start}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads names and values.

    Raises:
      ConfigError: if there is no such file, or it is damaged.
      OSError: if it cannot be read.
    """
    found = parsed(read_text(path), str(path))
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is damaged: expected names and values, got {found!r:.80}.")
    if _depth(found) > _MOST_DEPTH:
        raise ConfigError(f"{path} is damaged: nested more than {_MOST_DEPTH} deep.")
    return found


def _depth(value: Any) -> int:
    """Levels of lists and mappings, counted up to what is allowed."""
    level, depth = [value], 0
    while level and depth <= _MOST_DEPTH:
        inside = [one for one in level if isinstance(one, dict | list) and one]
        level = [
            part for one in inside for part in (one.values() if isinstance(one, dict) else one)
        ]
        depth += bool(inside)
    return depth


def parsed(text: str, what: str) -> Any:
    """JSON without NaN; `what` names it in errors.

    Raises:
      ConfigError: if it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{what} is damaged: {reason}.") from error


def checked(value: Any, check: Check, what: str, name: str) -> None:
    """Checks the form of data.

    Args:
      value: the data.
      check: what it should be.
      what: the file, for errors.
      name: of the data in the file, for errors.

    Raises:
      ConfigError: says what is wrong where.
    """
    try:
        check(value, name)
    except Damaged as error:
        raise ConfigError(f"{what} is damaged: {error}.") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
