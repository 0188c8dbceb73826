"""A study compiles its programs once: other targets, corruptions and seeds are data to them."""

import logging
import re

import jax
from mnist_c_files import write_archive

from amtl_jax.experiment.config import (
    Config,
    EncoderConfig,
    FitConfig,
    MnistCConfig,
    StudyConfig,
)
from amtl_jax.experiment.study.driver import study
from amtl_jax.experiment.study.observer import StudyObserver

TARGETS = ("scale_1", "scale_8", "fog_3", "fog_8")
ARMS = ("target_only", "uniform", "alignment", "same_digit", "all_data", "clairvoyant")
# What converts one array, and holds no work.
SMALL = {"stage", "convert_element_type", "broadcast_in_dim"}


def test_targets_and_seeds_of_a_study_compile_nothing(tmp_path, caplog):
    root = write_archive(tmp_path / "archive")
    config = Config(
        name="compiles",
        data=MnistCConfig(root=str(root), num_source=12, num_pool=12),
        num_target=10,
        budget=400,
        schedule=(0.5, 0.5),
        encoder=EncoderConfig(num_features=2),
        fit=FitConfig(num_steps=2, penalties=(1e-2, 1e-3)),
        num_resamples=10,
        study=StudyConfig(targets=TARGETS, seeds=(0, 1), arms=ARMS),
    )
    begun = []  # of each context: how many programs had been compiled

    def compiled():
        found = (re.match(r"Compiling jit\((\w+)\)", record.message) for record in caplog.records)
        return [one[1] for one in found if one and one[1] not in SMALL]

    class Observer(StudyObserver):
        def working(self, text):
            begun.append((text, len(compiled())))

    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        study(config, tmp_path / "study", observer=Observer())
    names = compiled()
    assert [text.split(", budget 400, ") for text, _ in begun] == [
        [corruption, f"seed {seed}"] for seed in (0, 1) for corruption in ("scale", "fog")
    ]
    first, second = begun[0][1], begun[1][1]
    assert {"fit_sources", "fit", "conclude", "heads"} <= set(names[first:second])
    assert names[second:] == []
