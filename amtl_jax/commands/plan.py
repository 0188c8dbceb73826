"""`amtl plan`: what the next money would bring, or before a run whether adaptivity can pay."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amtl_jax.commands.words import Once, Place, load_words, places, split
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.loading import make_encoder, shipped_configs
from amtl_jax.experiment.overrides import refuse_study_options
from amtl_jax.experiment.telling import one_line_warnings, tell
from amtl_jax.files import write_atomically

TEXT = "predict what more samples would bring, and what to buy next"
_USAGE = (
    "amtl plan WORKDIR [--risk R] [--budget MONEY] [--label-price P] [--stop PERCENT] [--arm ARM] "
    "[--seed SEED] [--out FOLDER], or amtl plan CONFIG [--noise S] [--out FOLDER] [--VALUE ...]"
)
_OF_WORKDIRS = ("risk", "label_price", "stop", "arm", "seed")
_FLAGS = (
    "--risk",
    "--budget",
    "--label-price",
    "--stop",
    "--arm",
    "--seed",
    "--out",
    "--noise",
    "--help",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.usage = _USAGE
    parser.description = (
        "Of a WORKDIR, finished or running: predicts the target's excess risk against budget for "
        "uniform sampling and each rule, says what to buy next and when to stop, and writes "
        "plan.json and plan.png. Of a CONFIG, before anything is bought: predicts from which "
        "budget on adaptive sampling pays for its exploration."
    )
    options: tuple[tuple[str, Any, str, str], ...] = (
        ("--risk", float, "R", "a wanted excess risk, in squared units of the labels"),
        (
            "--budget",
            float,
            "MONEY",
            "to spend next [what the run's budget leaves, or as much as was spent]; of a CONFIG: "
            "its budget",
        ),
        ("--label-price", float, "P", "price of one more label of the target"),
        ("--stop", float, "PERCENT", "stop where the next money lowers the risk by less [5]"),
        ("--arm", str, "ARM", "arm of the run [c_optimal, else the best that there is]"),
        ("--seed", int, "SEED", "seed of the run [its first]"),
        (
            "--out",
            str,
            "FOLDER",
            "where plan.json and plan.png go [WORKDIR; of a CONFIG: nowhere]",
        ),
        (
            "--noise",
            float,
            "S",
            "of a CONFIG: standard deviation of the label noise, where heads have size 1 [1]",
        ),
    )
    for flag, kind, name, text in options:
        parser.add_argument(flag, action=Once, type=kind, metavar=name, help=text)


def execute(arguments: argparse.Namespace, words: Sequence[str], place: Place) -> int:
    """Plans; returns the exit code."""
    name, rest = split(words)
    if not name:
        raise ConfigError(f"Give WORKDIR or CONFIG: {_USAGE}")
    for option in ("risk", "budget", "label_price", "stop", "noise"):
        value = getattr(arguments, option)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(
                f"--{option.replace('_', '-')} expects a positive number, got {value:g}."
            )
    if arguments.stop is not None and arguments.stop >= 100:
        raise ConfigError(f"--stop expects a percentage below 100, got {arguments.stop:g}.")
    if arguments.out == "":
        raise ConfigError("--out expects a folder, got ''.")
    if Path(name).is_dir() and name not in shipped_configs():
        places(words, ("WORKDIR",), _FLAGS, _USAGE)
        return _of_workdir(arguments, name, place)
    if name not in shipped_configs() and not Path(name).exists() and Path(name).suffix == "":
        raise ConfigError(
            f"{name!r:.200} is neither a workdir nor a config. Shipped: "
            f"{', '.join(shipped_configs())}. Usage: {_USAGE}"
        )
    return _of_config(arguments, [name, *rest])


def _of_workdir(arguments: argparse.Namespace, workdir: str, place: Place) -> int:
    if arguments.noise is not None:
        raise ConfigError("--noise belongs to a CONFIG: a workdir knows its noise.")
    place.workdir = workdir
    from amtl_jax.experiment.expectation import expectation_of
    from amtl_jax.experiment.plan_run import plan_run
    from amtl_jax.experiment.plan_text import workdir_text

    expectation = expectation_of(Path(workdir))
    least = {} if arguments.stop is None else {"least": arguments.stop / 100}
    with one_line_warnings():
        found = plan_run(
            workdir,
            arm=arguments.arm,
            seed=arguments.seed,
            risk=arguments.risk,
            money=arguments.budget,
            label_price=arguments.label_price,
            observer=_notes(),
            **least,
        )
        print(workdir_text(found))
        if expectation:
            print(expectation)
        _write(found, Path(arguments.out or workdir))
    return 0


def _of_config(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    for option in _OF_WORKDIRS:
        if getattr(arguments, option) is not None:
            raise ConfigError(
                f"--{option.replace('_', '-')} belongs to a WORKDIR; of a CONFIG nothing is bought "
                f"yet. Usage: {_USAGE}"
            )
    if arguments.budget is not None:
        words = [*words, "--budget", f"{arguments.budget:.0f}"]
    refuse_study_options(words, "a plan")
    loaded = load_words(words, _FLAGS, "amtl plan CONFIG [--noise S] [--VALUE ...]")
    from amtl_jax.experiment.plan_config import plan_config
    from amtl_jax.experiment.plan_text import config_text

    with one_line_warnings():
        noise = {} if arguments.noise is None else {"noise": arguments.noise}
        found = plan_config(loaded.config, encoder=make_encoder(loaded), observer=_notes(), **noise)
        print(config_text(found))
        if arguments.out:
            _write(found, Path(arguments.out))
    return 0


def _notes() -> Any:
    from amtl_jax.experiment.observer import Observer

    class Notes(Observer):
        def noted(self, text: str) -> None:
            tell(f"note: {text}")

    return Notes()


def _write(found: dict[str, Any], folder: Path) -> None:
    """Writes `plan.json` and, where matplotlib is installed, `plan.png`."""
    body = json.dumps(found, indent=2, allow_nan=False)
    write_atomically(folder / "plan.json", body.encode() + b"\n")
    try:
        from amtl_jax.experiment.canvas import png
        from amtl_jax.experiment.plan_figure import draw_plan
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        tell(
            "note: plan.png needs matplotlib, which is not installed; run: pip install "
            '"amtl-jax[demo]"'
        )
        print(f"Written: {folder / 'plan.json'}")
        return
    write_atomically(folder / "plan.png", png(draw_plan(found)))
    print(f"Written: {folder / 'plan.json'}, {folder / 'plan.png'}")
