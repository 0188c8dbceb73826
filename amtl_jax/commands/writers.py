"""Options that commands share which can write their numbers for other programs."""

import argparse

from amtl_jax.experiment.scalars.writers import WRITERS

FLAGS = tuple(f"--{name}" for name in WRITERS)
USAGE = " ".join(f"[{flag}]" for flag in FLAGS)


def add_writer_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Describes them.

    Args:
      parser: of the command.
      what: when numbers are written.
    """
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help=f"write numbers {what} into WORKDIR/tensorboard too; needs the extra tensorboard "
        "[default: off]",
    )
    parser.add_argument(
        "--wandb",
        action="store_true",
        help=f"write numbers {what} to Weights & Biases too, with WANDB_MODE=offline into "
        "WORKDIR/wandb; needs the extra wandb [default: off]",
    )


def chosen_writers(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Returns the names of the writers that are asked for."""
    return tuple(name for name in WRITERS if getattr(arguments, name))
