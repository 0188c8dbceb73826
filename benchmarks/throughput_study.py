"""How many targets a second a study computes, on images that are made for it.

The images are a pattern a digit with noise on it, in the layout of MNIST-C: a study of them takes
the path of a study of MNIST-C, but its fits may take fewer or more steps.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.experiment.config import Config, MnistCConfig
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.study.driver import study
from amtl_jax.experiment.study.observer import StudyObserver

_BRIGHT = 128  # of 255: patterns and noise have as much each
_SIDE = 28


class StudySizes(NamedTuple):
    """Sizes of the study.

    Attributes:
      num_images: training images of a corruption, half of them for source samples.
      budget: source samples an arm.
      num_target: rows of a target's sample.
      num_targets: tasks of one corruption, each the target in turn.
      num_contexts: the first one compiles, the others are timed.
      num_steps: most steps of a fit.
    """

    num_images: int = 2_000
    budget: int = 15_000
    num_target: int = 400
    num_targets: int = 4
    num_contexts: int = 3
    num_steps: int = 100


def write_images(folder: Path, num_images: int) -> None:
    """Writes training and test images of every corruption, rows alike in all of them."""
    generator = np.random.default_rng(0)
    pattern = generator.integers(0, _BRIGHT, (10, _SIDE, _SIDE))
    digits = np.arange(num_images) % 10
    for part in ("train", "test"):
        for name in CORRUPTIONS:
            noise = generator.integers(0, _BRIGHT, (num_images, _SIDE, _SIDE))
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / f"{part}_images.npy", (pattern[digits] + noise).astype("u1"))
            np.save(folder / name / f"{part}_labels.npy", digits)


def study_seconds(sizes: StudySizes) -> np.ndarray:
    """Runs the study in this process and looks at the clock between its contexts.

    Returns:
      `[num_contexts]` seconds of each context: its uniform rounds, which its targets share, and all
      arms of each target, evaluated and written. The first compiles everything.
    """
    clock = _Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, sizes.num_images)
        study(_config(sizes, folder), folder / "study", observer=clock)
    return np.diff([*clock.begun, clock.ended_at])


def _config(sizes: StudySizes, folder: Path) -> Config:
    config = load_config("mnist_c_linear")
    half = sizes.num_images // 2
    return dataclasses.replace(
        config,
        data=MnistCConfig(root=str(folder), num_source=half, num_pool=half),
        num_target=sizes.num_target,
        budget=sizes.budget,
        fit=dataclasses.replace(config.fit, num_steps=sizes.num_steps),
        num_resamples=50,
        study=dataclasses.replace(
            config.study,
            targets=tuple(f"fog_{digit}" for digit in range(sizes.num_targets)),
            arms=("target_only", "uniform", "a_mtrl", "alignment"),
            seeds=tuple(range(sizes.num_contexts)),
        ),
    )


class _Clock(StudyObserver):
    """Notes when each context begins, and when the last unit is there."""

    def __init__(self):
        self.begun: list[float] = []
        self.ended_at = 0.0

    def working(self, text: str) -> None:
        """A context begins."""
        del text
        self.begun.append(time.perf_counter())

    def finished(self, done: int, total: int) -> None:
        """A unit is there."""
        del done, total
        self.ended_at = time.perf_counter()
