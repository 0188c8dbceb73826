"""`amtl report`: one page on a run or a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from amtl_jax.commands.words import Once, Place, places
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.telling import one_line_warnings, tell

TEXT = "write one page on a run or study: tables, figures and what they mean"
_USAGE = "amtl report WORKDIR [WORKDIR ...] [--out FILE] [--png FOLDER]"
_FLAGS = ("--out", "--png", "--help")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.usage = _USAGE
    parser.description = (
        "Writes one HTML page on what a run or study in WORKDIR found, finished or not: it needs "
        "no network and no other file, follows light and dark, and prints. Several WORKDIRs are "
        "shards of one study (amtl study --shard), which are put together."
    )
    parser.add_argument(
        "--out",
        action=Once,
        metavar="FILE",
        help="where to write, *.html [WORKDIR/report.html; of several: give it]",
    )
    parser.add_argument(
        "--png",
        action=Once,
        metavar="FOLDER",
        help="draw the figures for papers too, as PNG of 300 dpi; needs matplotlib",
    )


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Writes the page; returns the exit code."""
    names = ("WORKDIR",) * max(1, len(words))
    workdirs = [word for word in places(words, names, _FLAGS, _USAGE) if word]
    if not workdirs:
        raise ConfigError(f"Give WORKDIR: {_USAGE}")
    for option in ("out", "png"):
        if getattr(arguments, option) == "":
            raise ConfigError(
                f"--{option} expects a {'file' if option == 'out' else 'folder'}, got ''."
            )
    if arguments.png is not None and Path(arguments.png).is_file():
        raise ConfigError(f"--png expects a folder, got the file {arguments.png!r:.200}.")
    place.workdir = workdirs[0]
    from amtl_jax.experiment.page.writing import write_report

    with one_line_warnings():
        written = write_report(workdirs, out=arguments.out, png=arguments.png)
    for note in written.notes:
        tell(f"note: {note}")
    print(f"Written: {written.page} ({written.page.stat().st_size / 1000:,.0f} kB)")
    if written.figures:
        print(f"Written: {len(written.figures)} figures in {arguments.png}")
    return 0
