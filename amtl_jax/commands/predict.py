"""`amtl predict`: predict the rows of a table with the model of a workdir."""

import argparse
from collections.abc import Sequence

from amtl_jax.commands.words import Once, Place, places
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.telling import one_line_warnings

TEXT = "predict the rows of a table with the model that a run or campaign left"
_USAGE = "amtl predict WORKDIR FILE --out FILE"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.usage = _USAGE
    parser.description = (
        "Predicts every row of FILE (CSV, Parquet or NPZ) with the model in WORKDIR. FILE needs "
        "the columns that the model was trained on, in any order; others may be among them."
    )
    parser.add_argument(
        "--out", action=Once, metavar="FILE", help="where to write: .csv, .parquet or .npz"
    )


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Predicts; returns the exit code."""
    del place  # all commands are called alike
    workdir, file = places(words, ("WORKDIR", "FILE"), ("--out", "--help"), _USAGE)
    if not workdir or not file or not arguments.out:
        raise ConfigError(f"Give WORKDIR, FILE and --out FILE: {_USAGE}")
    from amtl_jax.data.columns import TableError
    from amtl_jax.experiment.predicting import predict_file

    with one_line_warnings():
        try:
            number = predict_file(workdir, file, arguments.out)
        except TableError as error:
            raise ConfigError(str(error)) from error
    print(f"{number:,} rows predicted: {arguments.out}")
    return 0
