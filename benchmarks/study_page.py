"""The page of a study's numbers in the documentation, made of the files that the study wrote.

    python -m benchmarks study_page --out docs/mnist_c_tables.md studies/mnist_c_linear …

A section for each workdir: the command that made it, as its `config.json` tells it, then the tables
and the reading of its `summary.json`. Nothing on the page is typed by hand. A page that is there
keeps its other sections: a study takes hours, and not all of them are at hand each time.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amtl_jax.experiment.config import Config, ConfigError, from_plain
from amtl_jax.experiment.expectation import least_share
from amtl_jax.experiment.loading import load_config, shipped_configs
from amtl_jax.experiment.overrides import REFUSED, options_of
from amtl_jax.experiment.page.studies import Study, read_studies
from amtl_jax.experiment.study.arms import CLAIRVOYANT
from amtl_jax.experiment.study_checks import UNBOUND
from amtl_jax.experiment.study_text import markdown
from amtl_jax.files import write_atomically

_INTRO = """# Tables of the MNIST-C studies

Made by `python -m benchmarks study_page` from the files that the studies wrote; do not edit.
[The MNIST-C study](mnist_c.md) says what they mean. All numbers are of **regenerated** MNIST-C.
"""
_START = "## "  # of a section
NOT_RUN = "<!-- not run: minutes to hours, and MNIST-C -->"  # for the tests of the documentation
_NOT_SHOWN = REFUSED | {"--data.root", "--data.tfds"}  # by a study; and where the files lie


def main(argv: Sequence[str]) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks study_page")
    parser.add_argument("workdirs", nargs="+", type=Path, help="folders of finished studies")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    options = parser.parse_args(argv)
    sections = [section(read_studies([workdir])) for workdir in options.workdirs]
    text = options.out.read_text("utf-8") if options.out.exists() else ""
    write_atomically(options.out, merged(text, sections).encode())


def merged(page: str, sections: Sequence[str]) -> str:
    """A page with sections put in place of those of the same command, new ones behind the others.

    Args:
      page: as it was, or nothing.
      sections: of `section`.
    """
    old = [f"{_START}{part.strip()}\n" for part in page.split(f"\n{_START}")[1:]]
    by_command = {_command_in(part): part for part in [*old, *sections]}
    return "\n".join([_INTRO, *by_command.values()])


def _command_in(part: str) -> str:
    return part.split("```")[1]


def section(study: Study) -> str:
    """The part of the page that a study has, as Markdown."""
    summary = study.summary
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    return (
        f"{_START}{summary['name']}\n\n{NOT_RUN}\n\n```sh\n{command_of(study.config)}\n```\n\n"
        f"On {summary['device']}; {versions}.\n\n{markdown(summary, heading='###').strip()}\n"
        f"{expectations(study)}"
    )


def expectations(study: Study) -> str:
    """A table of what came of arms that leave-one-out expected to pay, and of the others.

    At the largest budget and the first number of target samples; the expectation is that of
    `expected_to_pay`, at the means over seeds. The share that counts was chosen on the first half
    of the corruptions, so that the two halves stand apart too. Nothing where a study has no uniform
    arm, and none for arms that no budget bounds or that are chosen by labels that no arm sees.
    """
    arrays, summary = study.arrays, study.summary
    if "loo/uniform" not in arrays:
        return ""
    budget = max(cell["budget"] for cell in summary["cells"])
    cell = next(one for one in summary["cells"] if one["budget"] == budget)
    least = least_share(cell["target_samples"])
    corruptions = np.array([name.rpartition("_")[0] for name in summary["targets"]])
    names = sorted(summary["corruptions"])
    is_first = np.isin(corruptions, names[: len(names) // 2])
    rows = []
    for arm, found in cell["arms"].items():
        if f"predicted/{arm}" not in arrays or arm in (*UNBOUND, CLAIRVOYANT):
            continue
        pays = -arrays[f"predicted/{arm}"] / arrays["loo/uniform"] >= least
        below = f"{100 * least:g}% below"
        for text, chosen in (
            (below, pays),
            (f"{below}, first half", pays & is_first),
            (f"{below}, other half", pays & ~is_first),
            ("others", ~pays),
        ):
            own = np.array(summary["targets"])[chosen].tolist()
            rows += _expectation_row(arm, text, found["per_target"], own)
    if not rows:
        return ""
    title = (
        "What came where leave-one-out on the target's sample expected an arm to pay (means of "
        "differences to uniform; halves of the corruptions in alphabetical order):"
    )
    head = (
        "| arm | leave-one-out error against uniform's | targets | lower MSE than uniform | MSE | "
        "balanced acc., points |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    return "\n" + "\n".join([title, "", head, *rows]) + "\n"


def _expectation_row(
    arm: str, text: str, per_target: dict[str, Any], targets: Sequence[str]
) -> list[str]:
    """The line of some targets, or none where the arm has none of them."""
    own = [per_target[name] for name in targets if name in per_target]
    if not own:
        return []
    mse, balanced = (
        [one[metric]["difference"] for one in own if one[metric]["difference"] is not None]
        for metric in ("mse", "balanced_accuracy")
    )
    wins = sum(value < 0 for value in mse) / len(own)
    return [
        f"| {arm} | {text} | {len(own)} | {100 * wins:.0f}% | {np.mean(mse):+.5f} | "
        f"{100 * np.mean(balanced):+.2f} |"
    ]


def command_of(plain: dict[str, Any]) -> str:
    """The command that runs a config: its name, and what differs from the shipped one.

    Raises:
      ConfigError: if no shipped config has its name.
    """
    plain = {name: plain[name] for name in plain.keys() & _fields()}
    config = from_plain(plain)
    if config.name not in shipped_configs():
        raise ConfigError(f"The study {config.name!r} is of no shipped config.")
    usual = {option.flag: option.default for option in options_of(load_config(config.name))}
    words = [f"amtl study {config.name} --data.root mnist_c"]
    for option in options_of(config):
        if option.flag not in _NOT_SHOWN and option.default != usual.get(option.flag):
            value = option.default
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"{option.flag} {shown}")
    return " \\\n    ".join(words)


def _fields() -> set[str]:
    return {field.name for field in dataclasses.fields(Config)}
