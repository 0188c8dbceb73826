"""`amtl study`: every task in turn as the target, or the part of it that is missing."""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from amtl_jax.commands.words import Once, Parser, Place, load_words, split
from amtl_jax.commands.writers import FLAGS, USAGE, add_writer_options, chosen_writers
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.loading import Loaded, load, make_encoder
from amtl_jax.experiment.overrides import REFUSED, explain, refuse_run_options
from amtl_jax.experiment.study_checks import refuse_run_values
from amtl_jax.experiment.telling import FAILED, fail, one_line_warnings
from amtl_jax.experiment.validation import check_types

TEXT = "run every task in turn as the target, or resume it"
_USAGE = (
    f"amtl study CONFIG [--workdir DIR] [--shard K/N] [--processes N] {USAGE} [--study.VALUE ...] "
    "[--VALUE ...]"
)
_FLAGS = ("--workdir", "--shard", "--processes", "--help", *FLAGS)
_WORKER = "--worker"  # of a process of a crew, which is called by this command alone


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describes the command and its options, but those of the config."""
    parser.usage = _USAGE
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    parser.add_argument(
        "--workdir",
        action=Once,
        metavar="DIR",
        help="folder of the study; one in it is resumed [default: studies/<name of the config>]",
    )
    parser.add_argument(
        "--shard",
        action=Once,
        metavar="K/N",
        help="run part K of N alone, such as 3/8; amtl report merges their folders [default: all]",
    )
    parser.add_argument(
        "--processes",
        action=Once,
        type=int,
        metavar="N",
        help="on a CPU, compute in N processes, each with its share of the cores; 1: in this one "
        "[default: one for each core, as far as memory goes]",
    )
    parser.add_argument(_WORKER, action="store_true", help=argparse.SUPPRESS)
    add_writer_options(parser, "of every unit")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Runs a study, or resumes it.\n\n" + textwrap.fill(
        "Every task is the target in turn, for every arm, budget, number of target samples and "
        "seed: --study.targets fog_3 fog_8 --study.arms uniform alignment --study.budgets 15000 "
        "121875 --study.target-samples 100 400 --study.seeds 0 1 2. CONFIG is a config of digits "
        "or MNIST-C, such as mnist_c_linear; every value of it can be overridden.",
        width=79,
    )


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Runs or explains; returns the exit code."""
    if arguments.help:
        return _help(words)
    if arguments.workdir == "":
        raise ConfigError("--workdir expects a folder, got ''.")
    refuse_run_options(words)
    loaded = load_words(words, _FLAGS, _USAGE, refuse_run_values)
    workdir = arguments.workdir or f"studies/{loaded.config.name}"
    place.workdir, place.resume = workdir, f"The same command resumes from {workdir}."
    if arguments.worker:
        return _work(loaded, workdir, arguments.shard)
    # The same command in a process of its own, without what only the one that is called does.
    command = [sys.executable, "-P", "-m", "amtl_jax.cli", "study", *words, _WORKER]
    command.append(f"--workdir={workdir}")
    writers = chosen_writers(arguments)
    return _run(loaded, workdir, arguments.shard, writers, command, arguments.processes)


def _help(words: Sequence[str]) -> int:
    """Explains the command and all values, with the defaults of CONFIG where one is given."""
    name, _ = split(words)
    parser = Parser(prog="amtl study", add_help=False)
    add_options(parser)
    config = Config(name="<CONFIG>", data=None)  # pyright: ignore[reportArgumentType]
    if name:
        config = load(name).config
        check_types(config)
    print(parser.format_help() + explain(config, without=REFUSED))
    return 0


def _work(loaded: Loaded, workdir: str, shard: str | None) -> int:
    """Computes a shard until the process that asked for it is gone."""
    from amtl_jax.experiment.rounds import RunError
    from amtl_jax.experiment.study.driver import compute_shard
    from amtl_jax.experiment.study.processes import end_with_parent

    end_with_parent(sys.stdin.buffer)
    with one_line_warnings():
        try:
            compute_shard(loaded.config, workdir, shard, encoder=make_encoder(loaded))
        except RunError as error:
            return fail(error, FAILED)
    return 0


def _run(
    loaded: Loaded,
    workdir: str,
    shard: str | None,
    writers: Sequence[str],
    command: Sequence[str],
    processes: int | None,
) -> int:
    """Imports the rest only now, so that help and errors in the arguments come at once."""
    from amtl_jax.experiment.rounds import RunError
    from amtl_jax.experiment.scalars.study import written_study
    from amtl_jax.experiment.scalars.writers import require_writers
    from amtl_jax.experiment.study.driver import study
    from amtl_jax.experiment.study.observer import study_observer
    from amtl_jax.experiment.study.processes import Crew

    encoder = make_encoder(loaded)
    require_writers(writers)
    with (
        one_line_warnings(),
        study_observer() as shown,
        written_study(shown, writers, workdir, loaded.config, shard) as observer,
    ):
        try:
            study(
                loaded.config,
                workdir,
                shard=shard,
                observer=observer,
                encoder=encoder,
                crew=Crew(command, processes),
            )
        except RunError as error:
            failure = error
        else:
            return 0
    return fail(failure, FAILED)
