"""The command `amtl`: parse, hand over, and turn expected errors into one line."""

import argparse
import os
import sys
from collections.abc import Sequence

from amtl_jax.experiment.config import Config, ConfigError, load_config, shipped_configs

INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    # Many small LAPACK calls gain nothing from BLAS threads, and lose much to their waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments, overrides = _parser().parse_known_args(argv)
    try:
        config = _override(load_config(arguments.config), overrides)
        workdir = arguments.workdir or f"runs/{config.name}"
        return _run(config, workdir)
    except (ConfigError, ImportError) as error:
        print(f"amtl: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amtl", description="Which source tasks help, and how many samples to draw from each."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run an experiment, or resume it",
        description=(
            f"Shipped configs: {', '.join(shipped_configs())}. Any value of the config can be "
            "overridden: amtl run CONFIG overrides --help lists them."
        ),
    )
    run.add_argument("config", help="name of a shipped config, or a Python file with get_config()")
    run.add_argument("--workdir", help="folder of the run (default: runs/<config name>)")
    return parser


def _override(config: Config, overrides: list[str]) -> Config:
    """Applies command-line overrides such as `--fit.num-steps 200`."""
    import tyro

    if overrides[:1] == ["overrides"]:
        overrides = overrides[1:]
    marks = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    return tyro.cli(Config, default=config, args=overrides, prog="amtl run CONFIG", config=marks)


def _run(config: Config, workdir: str) -> int:
    """Imports the rest only now, so that help and errors in the arguments come at once."""
    from amtl_jax.experiment.run import RunError, run

    try:
        run(config, workdir, echo=lambda line: print(line, flush=True))
    except RunError as error:
        print(f"amtl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped. The same command resumes from {workdir}.", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
