"""`amtl run`: run an experiment, or resume it."""

import argparse
import contextlib
import textwrap
from collections.abc import Sequence

from amtl_jax.commands.processes import PROCESS_FLAGS, add_process_options, joined
from amtl_jax.commands.words import Once, Parser, Place, load_words, split
from amtl_jax.commands.writers import FLAGS, USAGE, add_writer_options, chosen_writers
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.loading import Loaded, load, make_encoder, shipped_configs
from amtl_jax.experiment.overrides import explain, refuse_study_options
from amtl_jax.experiment.telling import FAILED, fail, one_line_warnings
from amtl_jax.experiment.validation import check_types

TEXT = "run an experiment, or resume it"
_FLAGS = ("--workdir", "--dry-run", "--help", *PROCESS_FLAGS, *FLAGS)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describes the command and its options, but those of the config."""
    parser.usage = f"amtl run CONFIG [--workdir DIR] [--dry-run] {USAGE}\n           [--VALUE ...]"
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    parser.add_argument(
        "--workdir",
        action=Once,
        metavar="DIR",
        help="folder of the run; a run in it is resumed [default: runs/<name of the config>]",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print counts, memory and time, and start nothing [default: off]",
    )
    add_process_options(parser)
    add_writer_options(parser, "of every round")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Runs an experiment, or resumes it.\n\n" + textwrap.fill(
        f"CONFIG is the name of a shipped config: {', '.join(shipped_configs())} (amtl configs "
        "describes them); a Python file with get_config(); or the config.json of a run. Every "
        "value of a config can be overridden, for instance --fit.num-steps 200.",
        width=79,
    )


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Runs, previews or explains; returns the exit code."""
    if arguments.help:
        return _help(words)
    if arguments.workdir == "":
        raise ConfigError("--workdir expects a folder, got ''.")
    refuse_study_options(words, "amtl run")
    loaded = load_words(words, _FLAGS, "amtl run CONFIG [--VALUE ...]")
    if arguments.dry_run and arguments.distributed:
        raise ConfigError("--dry-run starts nothing, and no processes: leave --distributed out.")
    if arguments.dry_run:
        return _preview(loaded)
    workdir = arguments.workdir or f"runs/{loaded.config.name}"
    place.workdir, place.is_run = workdir, True
    place.resume = f"The same command resumes from {workdir}."
    with joined(arguments) as is_first:
        return _run(loaded, workdir, chosen_writers(arguments), is_shown=is_first)


def _help(words: Sequence[str]) -> int:
    """Explains the command and all values, with the defaults of CONFIG where one is given."""
    name, _ = split(words)
    parser = Parser(prog="amtl run", add_help=False)
    add_options(parser)
    if name is None:
        parser.epilog = "Defaults below are general; amtl run CONFIG --help shows a config's own."
    config = Config(name="<CONFIG>", data=None)  # pyright: ignore[reportArgumentType]
    if name:
        config = load(name).config
        check_types(config)
    print(parser.format_help() + explain(config))
    return 0


def _preview(loaded: Loaded) -> int:
    """Tells what a run would do."""
    from amtl_jax.experiment.dry_run import describe
    from amtl_jax.experiment.preview import preview

    with one_line_warnings():
        print(describe(preview(loaded.config, encoder=make_encoder(loaded))))
    return 0


def _run(loaded: Loaded, workdir: str, writers: Sequence[str], *, is_shown: bool) -> int:
    """Imports the rest only now, so that help and errors in the arguments come at once."""
    from amtl_jax.experiment.observer import Observer
    from amtl_jax.experiment.progress import command_observer
    from amtl_jax.experiment.rounds import RunError
    from amtl_jax.experiment.run import run
    from amtl_jax.experiment.scalars.run import written_run
    from amtl_jax.experiment.scalars.writers import require_writers
    from amtl_jax.scale.processes import ElsewhereError

    encoder = make_encoder(loaded)
    own = {} if encoder is None else {"encoder": encoder}
    require_writers(writers)
    # Of several processes the first one tells and writes.
    telling = command_observer() if is_shown else contextlib.nullcontext(Observer())
    with (
        one_line_warnings(),
        telling as shown,
        written_run(shown, writers if is_shown else (), workdir, loaded.config) as observer,
    ):
        try:
            run(loaded.config, workdir, observer=observer, **own)
        except (RunError, ElsewhereError) as error:
            failure = error
        else:
            return 0
    return fail(failure, FAILED)
