"""Options of a command that several processes run together."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from amtl_jax.commands.words import Once
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.telling import FAILED, one_line, tell

PROCESS_FLAGS = ("--distributed", "--coordinator", "--num-processes", "--process-id")


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Describes them."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="run as one of several processes, on one machine or on several, that share the "
        "devices of --scale.data and --scale.tasks, and the workdir [default: off]",
    )
    parser.add_argument(
        "--coordinator",
        action=Once,
        metavar="HOST:PORT",
        help="of the first of the processes [default: as the cluster tells]",
    )
    parser.add_argument(
        "--num-processes",
        action=Once,
        type=int,
        metavar="N",
        help="how many there are [default: as the cluster tells]",
    )
    parser.add_argument(
        "--process-id",
        action=Once,
        type=int,
        metavar="K",
        help="number of this one, from 0 [default: as the cluster tells]",
    )


@contextlib.contextmanager
def joined(arguments: argparse.Namespace) -> Iterator[bool]:
    """Joins the other processes where that is wanted; gives whether this one tells and writes.

    Raises:
      ConfigError: if the options do not fit together, or the processes do not find each other.
    """
    told = (arguments.coordinator, arguments.num_processes, arguments.process_id)
    if not arguments.distributed:
        if any(one is not None for one in told):
            raise ConfigError(
                "--coordinator, --num-processes and --process-id are for --distributed: add it."
            )
        yield True
        return
    from amtl_jax.scale.processes import is_first, start_processes

    try:
        start_processes(coordinator=told[0], num_processes=told[1], process_id=told[2])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        yield is_first()
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        tell(
            f"Another process is gone or failed ({one_line(str(error)):.200}). The same commands "
            "resume from the workdir."
        )
        sys.stderr.flush()
        os._exit(FAILED)  # to end in order is to wait for the other one
