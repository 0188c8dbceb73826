"""The command `amtl`: parse, hand over, and turn expected errors into one line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import amtl_jax
from amtl_jax.commands import campaign, configs, plan, predict, report, run, study
from amtl_jax.commands.words import Parser, Place
from amtl_jax.cpu_threads import calm_threads
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.interrupts import heeded
from amtl_jax.experiment.telling import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    exit_code,
    fail,
    is_about,
    one_line,
    out_of_memory,
    tell,
)


class Command(NamedTuple):
    """A command.

    Attributes:
      text: what it does, in a line.
      add_options: describes it to its parser.
      execute: `(options, other words, place) -> exit code`.
      has_own_help: whether it explains itself.
    """

    text: str
    add_options: Callable[[argparse.ArgumentParser], None]
    execute: Callable[[argparse.Namespace, Sequence[str], Place], int]
    has_own_help: bool = False


_COMMANDS = {
    "run": Command(run.TEXT, run.add_options, run.execute, has_own_help=True),
    "study": Command(study.TEXT, study.add_options, study.execute, has_own_help=True),
    "configs": Command(configs.TEXT, configs.add_options, configs.execute),
    "predict": Command(predict.TEXT, predict.add_options, predict.execute),
    "plan": Command(plan.TEXT, plan.add_options, plan.execute),
    "report": Command(report.TEXT, report.add_options, report.execute),
    "ask": Command(campaign.ASK_TEXT, campaign.add_ask_options, campaign.ask),
    "tell": Command(campaign.TELL_TEXT, campaign.add_tell_options, campaign.tell_),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    calm_threads()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a λ must not end a run on an ASCII terminal
            stream.reconfigure(errors="replace")
    place = Place()
    try:
        command, arguments, words = _parse(argv)
        with heeded():
            return command.execute(arguments, words, place)
    except SystemExit as end:  # of the parser, of SIGTERM, or of a stranger's module
        return exit_code(end)
    except KeyboardInterrupt:
        print(f"\n{one_line(f'Stopped. {place.resume}'.strip())}", file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, ImportError) as error:
        return fail(error, MISUSED)
    except OSError as error:
        is_workdir = is_about(place.workdir, error)
        return fail(error, FAILED, f"cannot use workdir {place.workdir}: " if is_workdir else "")
    except (MemoryError, RuntimeError) as error:
        # JAX has a RuntimeError of its own, which is not imported here: all starts go quick.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        tell(out_of_memory(error, is_run=place.is_run))
        return FAILED


def _parse(argv: Sequence[str] | None) -> tuple[Command, argparse.Namespace, list[str]]:
    """Returns the command, its options, and the other words."""
    parser = Parser(
        prog="amtl",
        description="Which source tasks help, and how many samples to draw from each.",
        epilog="amtl run --help explains every option of a run, and every value of a config.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"amtl_jax {amtl_jax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in _COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.text,
            allow_abbrev=False,
            add_help=not command.has_own_help,
            description=f"{command.text.capitalize()}.",
        )
        command.add_options(own)
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
    return _COMMANDS[arguments.command], arguments, rest


if __name__ == "__main__":
    sys.exit(main())
