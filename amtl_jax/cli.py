"""The command `amtl`: parse, hand over, and turn expected errors into one line."""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import amtl_jax
from amtl_jax.experiment.config import Config, ConfigError
from amtl_jax.experiment.loading import Loaded, first_line, load, make_encoder, shipped_configs
from amtl_jax.experiment.overrides import explain, override
from amtl_jax.experiment.telling import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    exit_code,
    fail,
    is_about,
    one_line,
    one_line_warnings,
    out_of_memory,
    tell,
)
from amtl_jax.experiment.validation import check

IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    # Many small LAPACK calls gain nothing from BLAS threads, and lose much to their waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Two batched LAPACK calls at a time wait for each other for ever where XLA has two threads.
    if "xla_cpu_enable_concurrency" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {IN_ORDER}".strip()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a λ must not end a run on an ASCII terminal
            stream.reconfigure(errors="replace")
    workdir = None
    try:
        command, arguments, rest = _parse(argv)
        if command == "configs":
            return _list_configs(rest)
        if arguments.help:
            return _help_of_run(rest)
        if arguments.workdir == "":
            raise ConfigError("--workdir expects a folder, got ''.")
        loaded = _load(rest)
        if arguments.dry_run:
            return _preview(loaded)
        workdir = arguments.workdir or f"runs/{loaded.config.name}"
        return _run(loaded, workdir)
    except SystemExit as end:  # of the parser, of SIGTERM, or of a stranger's module
        return exit_code(end)
    except KeyboardInterrupt:
        resume = f" The same command resumes from {workdir}." if workdir else ""
        print(f"\n{one_line(f'Stopped.{resume}')}", file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, ImportError) as error:
        return fail(error, MISUSED)
    except OSError as error:
        about = f"cannot use workdir {workdir}: " if is_about(workdir, error) else ""
        return fail(error, FAILED, about)
    except (MemoryError, RuntimeError) as error:
        # JAX has a RuntimeError of its own, which is not imported here: all starts go quick.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        tell(out_of_memory(error, is_run=workdir is not None))
        return FAILED


class _Parser(argparse.ArgumentParser):
    """Raises its errors, so that they end in one line like all others."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See {self.prog} --help.")


class _Once(argparse.Action):
    """Stores a value, and refuses another: which one counts would be a guess."""

    def __call__(self, parser, namespace, values, option_string=None):
        if getattr(namespace, self.dest) is not None:
            parser.error(f"Option {option_string} is given twice")
        setattr(namespace, self.dest, values)


_COMMANDS = {
    "run": "run an experiment, or resume it",
    "configs": "list the shipped configs",
}
_RUN_FLAGS = ("--workdir", "--dry-run", "--help")


def _parse(argv: Sequence[str] | None):
    """Returns the command, the options that are not of the config, and the other words."""
    parser = _Parser(
        prog="amtl",
        description="Which source tasks help, and how many samples to draw from each.",
        epilog="amtl run --help explains every option.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"amtl_jax {amtl_jax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in _COMMANDS.items():
        _add_command(commands, name, text)
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
        close = get_close_matches(words[0], _COMMANDS, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"Unknown command {words[0]!r}.{meant} Commands: {', '.join(_COMMANDS)}. "
            "See amtl --help."
        )
    arguments, rest = parser.parse_known_args(words)
    if arguments.command is None:
        unknown = f"Unknown option {rest[0]}. " if rest else ""
        raise ConfigError(f"{unknown}Give a command: {', '.join(_COMMANDS)}. See amtl --help.")
    return arguments.command, arguments, rest


def _add_command(commands, name: str, text: str) -> None:
    parser = commands.add_parser(
        name,
        help=text,
        allow_abbrev=False,
        add_help=name != "run",
        description=f"{text.capitalize()}.",
    )
    if name == "run":
        _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "amtl run CONFIG [--workdir DIR] [--dry-run] [--VALUE ...]"
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    parser.add_argument(
        "--workdir",
        action=_Once,
        metavar="DIR",
        help="folder of the run; a run in it is resumed [default: runs/<name of the config>]",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print counts, memory and time, and start nothing [default: off]",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Runs an experiment, or resumes it.\n\n" + textwrap.fill(
        f"CONFIG is the name of a shipped config: {', '.join(shipped_configs())} (amtl configs "
        "describes them); a Python file with get_config(); or the config.json of a run. Every "
        "value of a config can be overridden, for instance --fit.num-steps 200.",
        width=79,
    )


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """Returns CONFIG, or None, and the words behind it."""
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    return None, words


def _help_of_run(words: list[str]) -> int:
    """Explains the command and all values, with the defaults of CONFIG where one is given."""
    name, _ = _split(words)
    parser = _Parser(prog="amtl run", add_help=False)
    _add_run_options(parser)
    if name is None:
        parser.epilog = "Defaults below are general; amtl run CONFIG --help shows a config's own."
    config = Config(name="<CONFIG>", data=None)
    if name:
        config = load(name).config
        check(config)
    print(parser.format_help() + explain(config))
    return 0


def _load(words: list[str]) -> Loaded:
    """Loads CONFIG and applies the overrides behind it."""
    name, overrides = _split(words)
    if name is None:
        raise ConfigError(
            "CONFIG must come first: amtl run CONFIG [--VALUE ...]. Shipped: "
            f"{', '.join(shipped_configs())}. See amtl run --help."
        )
    loaded = load(name)
    check(loaded.config)
    config = override(loaded.config, overrides, other_flags=_RUN_FLAGS)
    check(config)
    if loaded.note:
        tell(f"note: {loaded.note}")
    return loaded._replace(config=config)


def _list_configs(words: list[str]) -> int:
    """Lists the shipped configs, a line each."""
    if words:
        raise ConfigError(f"amtl configs takes no {words[0]!r}. See amtl configs --help.")
    rows = [
        (name, f"amtl run {name}", first_line(path)) for name, path in shipped_configs().items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for name, command, text in rows:
        print(f"{name:<{widths[0]}}  {command:<{widths[1]}}  {text}")
    return 0


def _preview(loaded: Loaded) -> int:
    """Tells what a run would do."""
    from amtl_jax.experiment.dry_run import describe
    from amtl_jax.experiment.preview import preview

    with one_line_warnings():
        print(describe(preview(loaded.config, encoder=make_encoder(loaded))))
    return 0


def _run(loaded: Loaded, workdir: str) -> int:
    """Imports the rest only now, so that help and errors in the arguments come at once."""
    from amtl_jax.experiment.progress import command_observer
    from amtl_jax.experiment.rounds import RunError
    from amtl_jax.experiment.run import run

    encoder = make_encoder(loaded)
    own = {} if encoder is None else {"encoder": encoder}
    with one_line_warnings(), command_observer() as observer:
        try:
            run(loaded.config, workdir, observer=observer, **own)
        except RunError as error:
            failure = error
        else:
            return 0
    return fail(failure, FAILED)


if __name__ == "__main__":
    sys.exit(main())
