"""The command `amtl`: parse, hand over, and turn expected errors into one line."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

import amtl_jax
from amtl_jax.experiment.config import Config, ConfigError, load_config, shipped_configs
from amtl_jax.experiment.validation import check

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # 130: what a shell gives a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    # Many small LAPACK calls gain nothing from BLAS threads, and lose much to their waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    workdir = None
    try:
        arguments, overrides = _parser().parse_known_args(argv)
        config = _override(load_config(arguments.config), arguments, overrides)
        check(config)
        workdir = arguments.workdir or f"runs/{config.name}"
        return _run(config, workdir)
    except SystemExit as end:  # the parsers said what there is to say
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        resume = f" The same command resumes from {workdir}." if workdir else ""
        print(f"\nStopped.{resume}", file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, ImportError) as error:
        return _fail(error, MISUSED)
    except OSError as error:
        return _fail(error, FAILED)


def _fail(error: Exception, code: int) -> int:
    """Tells an error in one line; returns the exit code."""
    if isinstance(error, BrokenPipeError):  # `amtl … | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    print(f"amtl: {' '.join(str(error).split())}", file=sys.stderr)
    return code


class _Help(argparse.Action):
    """`amtl run --help` explains the command, `amtl run CONFIG --help` the config's values."""

    def __call__(self, parser, namespace, values, option_string=None):
        if namespace.config is None:
            parser.print_help()
            parser.exit()
        namespace.help = True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amtl", description="Which source tasks help, and how many samples to draw from each."
    )
    parser.add_argument("--version", action="version", version=f"amtl_jax {amtl_jax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run an experiment, or resume it",
        usage="amtl run CONFIG [--workdir DIR] [OVERRIDES]",
        description=(
            f"Shipped configs: {', '.join(shipped_configs())}. Every value of a config can be "
            "overridden, for instance --fit.num-steps 200; amtl run CONFIG --help lists them."
        ),
        add_help=False,
        allow_abbrev=False,
    )
    run.add_argument(
        "config",
        metavar="CONFIG",
        help="name of a shipped config, or a Python file with get_config()",
    )
    run.add_argument("-h", "--help", action=_Help, nargs=0, default=False, help="show this")
    run.add_argument(
        "--workdir", metavar="DIR", help="folder of the run (default: runs/<config name>)"
    )
    return parser


def _override(config: Config, arguments: argparse.Namespace, overrides: list[str]) -> Config:
    """Applies command-line overrides such as `--fit.num-steps 200`, or lists them all."""
    import tyro

    return tyro.cli(
        Config,
        default=config,
        args=["--help"] if arguments.help else overrides,
        prog=f"amtl run {arguments.config} [--workdir DIR]",
        description=f"Runs the experiment, or resumes it. Workdir: runs/{config.name} by default.",
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )


def _run(config: Config, workdir: str) -> int:
    """Imports the rest only now, so that help and errors in the arguments come at once."""
    from amtl_jax.experiment.progress import Printer
    from amtl_jax.experiment.rounds import RunError
    from amtl_jax.experiment.run import run

    def show_warning(message, category, filename, lineno, file=None, line=None):
        print(f"amtl: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            run(config, workdir, observer=Printer())
        except RunError as error:
            return _fail(error, FAILED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
