"""`amtl configs`: list the shipped configs."""

import argparse
from collections.abc import Sequence

from amtl_jax.commands.words import Place
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.loading import first_line, shipped_configs

TEXT = "list the shipped configs"


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Lists the shipped configs, a line each."""
    del arguments, place  # all commands are called alike
    if words:
        raise ConfigError(f"amtl configs takes no {words[0]!r}. See amtl configs --help.")
    rows = [
        (name, f"amtl run {name}", first_line(path)) for name, path in shipped_configs().items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, command, text in rows:
        print(f"{name:<{widths[0]}}  {command:<{widths[1]}}  {text}")
    return 0
