"""Words of the command line: options, CONFIG, and what commands share of them."""

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.loading import Loaded, load, shipped_configs
from amtl_jax.experiment.overrides import override
from amtl_jax.experiment.telling import tell
from amtl_jax.experiment.validation import check, check_types


class Place:
    """Where a command is at work, for what is said when it is stopped.

    Attributes:
      workdir: its folder, once it is known.
      resume: what a person can do after Ctrl-C.
      is_run: whether it could have been looked at before by a dry run.
    """

    workdir: str | None = None
    resume: str = ""
    is_run: bool = False


class Parser(argparse.ArgumentParser):
    """Raises its errors, so that they end in one line like all others."""

    def error(self, message: str) -> NoReturn:
        """Raises."""
        raise ConfigError(f"{message}. See {self.prog} --help.")


class Once(argparse.Action):
    """Stores a value, and refuses another: which one counts would be a guess."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Stores it."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"Option {option_string} is given twice")
        setattr(namespace, self.dest, values)


def split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the first word, or None where that is an option, and the words behind it."""
    if words and not words[0].startswith("-"):
        return words[0], list(words[1:])
    return None, list(words)


def places(
    words: Sequence[str], names: Sequence[str], flags: Sequence[str], usage: str
) -> list[str | None]:
    """Returns words that are not options, one for each name, None where there is none.

    Raises:
      ConfigError: for an option that is none, or more words than names.
    """
    for word in words:
        if word.startswith("-"):
            close = get_close_matches(word, flags, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"Unknown option {word}.{meant} Usage: {usage}")
    if len(words) > len(names):
        raise ConfigError(f"Unexpected {words[len(names)]!r}. Usage: {usage}")
    return [*words, *[None] * (len(names) - len(words))]


def load_words(
    words: Sequence[str],
    flags: Sequence[str],
    usage: str,
    refuse: Callable[[Config], None] | None = None,
) -> Loaded:
    """Loads CONFIG, the first of the words, and applies the overrides behind it.

    Args:
      words: CONFIG and `--VALUE ...`.
      flags: options of the command, for suggestions.
      usage: how the command is written.
      refuse: raises for configs of other commands, before their values are looked at.

    Raises:
      ConfigError: one line that says what is wrong.
    """
    name, overrides = split(words)
    if name is None:
        raise ConfigError(
            f"CONFIG must come first: {usage}. Shipped: {', '.join(shipped_configs())}. See "
            "amtl run --help."
        )
    loaded = load(name)
    check_types(loaded.config)
    config = override(loaded.config, overrides, other_flags=flags)
    if refuse is not None:
        refuse(config)
    check(config)
    if loaded.note:
        tell(f"note: {loaded.note}")
    return loaded._replace(config=config)
