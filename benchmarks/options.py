"""What the commands that measure this machine have in common: options, cores, JSON."""

import argparse
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from amtl_jax.files import write_atomically


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        self.exit(2, f"{self.prog}: {message}\n")


def measuring_parser(name: str, *, rounds: int) -> argparse.ArgumentParser:
    """The parser of a study's command, with `--quick`, `--cores`, `--rounds` and `--out`."""
    parser = _Parser(prog=f"python -m benchmarks {name}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--cores", type=int, help="of this process")
    parser.add_argument("--rounds", type=int, default=rounds, help="of timing, at least 2")
    parser.add_argument("--out", type=Path, help="JSON with versions and hardware")
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Reads the words, and keeps the process to its cores.

    Raises:
      SystemExit: with a line that says what was expected.
    """
    options = parser.parse_args(argv)
    if options.rounds < 2:
        parser.error(f"--rounds expects at least 2, got {options.rounds}.")
    if options.out is not None and options.out.is_dir():
        parser.error(f"--out expects a file, got the folder {options.out}.")
    if options.cores is not None:
        keep_to(options.cores)
    return options


def keep_to(cores: int) -> None:
    """Keeps this process to its first cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("--cores needs a system with CPU affinity, such as Linux.")
    own = sorted(os.sched_getaffinity(0))
    if not 0 < cores <= len(own):
        raise SystemExit(f"--cores expects 1 to {len(own)}, got {cores}.")
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), own[:cores])


def write_json(path: Path, found: Any) -> None:
    """Writes what was found; numbers that are not finite become null."""
    write_atomically(path, json.dumps(_plain(found), indent=1, allow_nan=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
