"""`amtl ask` and `amtl tell`: a campaign whose samples somebody collects."""

import argparse
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amtl_jax.commands.words import Once, Place, load_words, places, split
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.loading import make_encoder
from amtl_jax.experiment.overrides import refuse_study_options
from amtl_jax.experiment.telling import FAILED, fail, one_line_warnings, tell
from amtl_jax.files import write_atomically

ASK_TEXT = "say which samples to collect next, or start a campaign"
TELL_TEXT = "take collected samples in, and fit when a request is complete"
_ASK_USAGE = "amtl ask WORKDIR [CONFIG [--VALUE ...]] [--csv FILE]"
_TELL_USAGE = "amtl tell WORKDIR [FILE] [--request ID] [--close]"


def add_ask_options(parser: argparse.ArgumentParser) -> None:
    """Describes `amtl ask`."""
    parser.usage = _ASK_USAGE
    parser.description = (
        "Says how many samples of which source task to collect next; the same until they were "
        "told. The first call names a CONFIG with one arm that buys and one seed, as for amtl "
        "run, and starts the campaign; later ones do without."
    )
    parser.add_argument(
        "--csv", action=Once, metavar="FILE", help="write an empty delivery with all its columns"
    )


def add_tell_options(parser: argparse.ArgumentParser) -> None:
    """Describes `amtl tell`."""
    parser.usage = _TELL_USAGE
    parser.description = (
        "Takes the samples of FILE (CSV, Parquet or NPZ) in: columns as in the campaign's table, "
        "and where wanted row_id, paid and request. A round is fitted when its request is "
        "complete. Says what became of every sample."
    )
    parser.add_argument(
        "--request",
        action=Once,
        metavar="ID",
        help="request that the samples answer [the open one]",
    )
    parser.add_argument(
        "--close", action="store_true", help="fit with what there is, complete or not [off]"
    )


def ask(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Asks; returns the exit code."""
    workdir, rest = split(words)
    if workdir is None:
        raise ConfigError(f"Give WORKDIR: {_ASK_USAGE}")
    refuse_study_options(rest, "a campaign")
    loaded = load_words(rest, ("--csv", "--help"), _ASK_USAGE) if rest else None

    def act(observer: Any) -> None:
        from amtl_jax.experiment.campaign import open_campaign, start_campaign
        from amtl_jax.experiment.campaign_text import request_text, status_text

        if loaded is None:
            campaign = open_campaign(workdir, observer=observer)
        else:
            encoder = make_encoder(loaded)
            campaign = start_campaign(loaded.config, workdir, observer=observer, encoder=encoder)
        request = campaign.ask()
        if arguments.csv:
            _write_template(Path(arguments.csv), campaign.columns())
        status = campaign.status()
        print(status_text(status))
        if request is not None:
            print(request_text(request, status.outstanding, workdir))

    return _carry_out(act, workdir, place)


def tell_(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Tells; returns the exit code."""
    flags = ("--request", "--close", "--help")
    workdir, file = places(words, ("WORKDIR", "FILE"), flags, _TELL_USAGE)
    if workdir is None or (file is None and not arguments.close):
        raise ConfigError(f"Give WORKDIR and FILE: {_TELL_USAGE}")

    def act(observer: Any) -> None:
        from amtl_jax.experiment.campaign import open_campaign
        from amtl_jax.experiment.campaign_text import receipt_text, status_text

        campaign = open_campaign(workdir, observer=observer)
        receipt = campaign.tell(file, request=arguments.request, close=arguments.close)
        print(receipt_text(receipt))
        if receipt.fitted:
            print(status_text(campaign.status()))

    return _carry_out(act, workdir, place)


def _carry_out(act: Callable[[Any], None], workdir: str, place: Place) -> int:
    """Does the work of a command, with its errors in one line."""
    from amtl_jax.data.columns import TableError
    from amtl_jax.experiment.observer import Observer
    from amtl_jax.experiment.rounds import RunError

    class Notes(Observer):
        def noted(self, text: str) -> None:
            tell(f"note: {text}")

    place.workdir = workdir
    place.resume = f"{workdir} is as it was, or goes on: repeat the command."
    with one_line_warnings():
        try:
            act(Notes())
        except TableError as error:
            raise ConfigError(str(error)) from error
        except RunError as error:
            return fail(error, FAILED)
    return 0


def _write_template(path: Path, columns: Sequence[str]) -> None:
    """Writes the header of a delivery."""
    if path.exists():
        raise ConfigError(f"--csv {path} exists; give the name of a new file.")
    stream = io.StringIO()
    csv.writer(stream).writerow(columns)
    write_atomically(path, stream.getvalue().encode())
