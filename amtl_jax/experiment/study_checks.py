"""Whether the values of a study make sense, and which values only a study has. Imports no JAX."""

import operator
import re
import typing

from amtl_jax.experiment.config import (
    ArmName,
    Config,
    ConfigError,
    TableConfig,
    chunk_blocks_of,
    shown,
)
from amtl_jax.experiment.value_checks import LARGEST, Checks

STUDY_ARMS = ("same_digit", "all_data", "clairvoyant")  # beside those of a run
UNBOUND = frozenset({"target_only", "all_data", "pooled"})  # arms that no budget bounds
# Values of the config that a study refuses once they are set.
SHARED_FITS = ("fit.weigh_noise", "target_in_final_fit")
_SHARED_ROWS = ("scale.tasks", "scale.data", "scale.lengths")
RUN_VALUES = ("until", *SHARED_FITS, *_SHARED_ROWS)
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_study(checks: Checks, config: Config) -> None:
    """Notes what is wrong with the values of a study."""
    study = config.study
    known = [arm for arm in typing.get_args(ArmName) if arm != "pooled"] + [*STUDY_ARMS]
    checks.distinct("study.arms")
    unknown = [arm for arm in study.arms if arm not in known and not _OWN.fullmatch(arm)]
    if unknown:
        checks.problems.append(
            f"study.arms must be of {', '.join(known)}, or package.module:function for a strategy "
            f"of your own, got {shown(unknown[0])}"
        )
    choices = {*study.arms} - UNBOUND - {"clairvoyant"}
    if "clairvoyant" in study.arms and not choices:
        checks.problems.append(
            "study.arms: clairvoyant chooses among the other arms of a budget, and there is none; "
            "add uniform and a rule"
        )
    for name in ("targets", "budgets", "target_samples", "seeds"):
        checks.distinct(f"study.{name}", may_be_empty=True)
    checks.expect(all(study.targets), "study.targets", "names of tasks such as fog_3")
    most = LARGEST - max(study.target_samples, default=config.num_target or 0)
    if most >= 1:
        checks.within("study.budgets", 1, most)
    checks.within("study.target_samples", 2, LARGEST)
    checks.within("study.seeds", 0, LARGEST)
    checks.within("study.batch", 1, LARGEST)


def refuse_study_values(config: Config) -> None:
    """Refuses what a study can do, and a run and a campaign cannot.

    Raises:
      ConfigError: names it.
    """
    if config.rounds != "pooled":
        raise ConfigError(
            f"rounds {config.rounds} is for amtl study: runs and campaigns fit all samples that "
            "were bought so far. Set --rounds pooled."
        )
    if config.scale.targets > 1:
        raise ConfigError(
            f"scale.targets {config.scale.targets} is for amtl study, which has many targets. A "
            "run shares its rows by --scale.data, and its heads by --scale.tasks."
        )


def refuse_chunks(config: Config, why: str) -> None:
    """Refuses rows that go to the device in chunks, where only a run has them.

    Raises:
      ConfigError: says why.
    """
    if chunk_blocks_of(config.data) is not None:
        raise ConfigError(f"data.chunk_blocks is for amtl run: {why}. Leave it out.")


def refuse_run_values(config: Config) -> None:
    """Refuses what a run can do, and a study cannot.

    Raises:
      ConfigError: names it.
    """
    if isinstance(config.data, TableConfig) or not hasattr(config.data, "target"):
        raise ConfigError(
            "amtl study takes every task of a set of images in turn as the target; the data of "
            f"this config is {type(config.data).__name__}. Take a config of digits or MNIST-C."
        )
    refuse_chunks(config, "campaigns of a study share their rows on the device")
    for name in SHARED_FITS:
        if operator.attrgetter(name)(config):
            raise ConfigError(
                f"{name} is not for studies: the targets of a corruption share the fits of their "
                "sources. Use amtl run."
            )
    for name in _SHARED_ROWS:
        if operator.attrgetter(name)(config) != 1:
            raise ConfigError(
                f"{name} is for amtl run: campaigns of a study do not share rows. Set "
                "--scale.targets, which shares the targets."
            )
    if config.until is not None:
        raise ConfigError("until is for amtl run: all arms of a study have one budget.")
    if config.rounds == "last" and "c_optimal" in config.study.arms:
        raise ConfigError(
            "study.arms: c_optimal plans for all samples that were bought so far, and with rounds "
            "last a fit sees those of its round alone. Leave it out, or set --rounds pooled."
        )
    if config.price == "shared" and "same_digit" in config.study.arms:
        raise ConfigError(
            "study.arms: same_digit cannot favour a digit where an image is bought with all of its "
            "labels (price shared). Leave it out."
        )
