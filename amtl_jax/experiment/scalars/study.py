"""The scalars of a study: one series per cell and arm, one step per unit that is kept."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from amtl_jax.experiment.config import Config, to_plain
from amtl_jax.experiment.scalars.writers import Job, Series, Writers, make_writers
from amtl_jax.experiment.study.grid import Shard
from amtl_jax.experiment.study.observer import StudyObserver
from amtl_jax.experiment.study_outcomes import difference
from amtl_jax.experiment.study_rows import METRICS, Row

_BASE = "uniform"


class MeanDifferences:
    """Means over the units so far of every arm minus uniform, by cell, arm and metric."""

    def __init__(self):
        self._found: defaultdict[tuple[int, int, str, str], list[float]] = defaultdict(list)

    def add(self, row: Row, base: Row | None) -> dict[str, float]:
        """Takes in a unit; returns the means of its arm, of metrics that any unit has.

        Args:
          row: last round of an arm.
          base: that of uniform on the same unit; None where the study is without.
        """
        means = {}
        for metric in METRICS:
            found = self._found[row.budget, row.target_samples, row.arm, metric]
            pair = getattr(row, metric), getattr(base, metric, None)
            if None not in pair:
                found.append(float(difference(*map(np.float64, pair))))
            if found and row.arm != _BASE:
                means[f"difference_to_{_BASE}/{metric}"] = float(np.mean(found))
        return means


def arm_scalars(rows: Sequence[Row]) -> dict[str, float]:
    """The final scalars of an arm of a unit, under the names of `results.csv`.

    Args:
      rows: its rounds in order; seconds are those of all of them.
    """
    last = rows[-1]
    found = {metric: getattr(last, metric) for metric in METRICS}
    found |= {"samples_total": last.samples_total, "seconds": sum(row.seconds for row in rows)}
    return {name: float(value) for name, value in found.items() if value is not None}


@contextlib.contextmanager
def written_study(
    shown: StudyObserver,
    names: Sequence[str],
    workdir: str | Path,
    config: Config,
    shard: str | None = None,
) -> Iterator[StudyObserver]:
    """Gives an observer that writes what it hears and hands it on; leaving it closes all files.

    Args:
      shown: hears everything; given back where there is nothing to write.
      names: of the writers; see `make_writers`.
      workdir: of the study.
      config: of the study.
      shard: `K/N`; shards of one workdir write into folders of their own.

    Raises:
      ConfigError: for a shard that is none.
    """
    if not names:
        yield shown
        return
    own = Shard.parse(shard)
    part = f"shard_{own.index}_of_{own.count}" if own.count > 1 else ""
    job = Job(config.name, Path(workdir), part, to_plain(config), shown.noted)
    with contextlib.closing(make_writers(names, job)) as writers:
        yield WrittenStudy(shown, writers)


class WrittenStudy(StudyObserver):
    """Writes the units it hears of.

    Args:
      shown: hears everything too, before.
      writers: get the numbers.
    """

    def __init__(self, shown: StudyObserver, writers: Writers):
        self._shown = shown
        self._writers = writers
        self._differences = MeanDifferences()
        self._steps: dict[str, tuple[Series, int]] = {}  # by name of the series

    def planned(self, text: str, done: int, total: int) -> None:
        """Hands it on."""
        self._shown.planned(text, done, total)

    def working(self, text: str) -> None:
        """Hands it on."""
        self._shown.working(text)

    def kept(self, rows: Sequence[Row]) -> None:
        """Writes a step of every arm."""
        self._shown.kept(rows)
        arms: dict[str, list[Row]] = {}
        for row in rows:
            arms.setdefault(row.arm, []).append(row)
        base = arms[_BASE][-1] if _BASE in arms else None
        for arm, own in arms.items():
            last = own[-1]
            cell = {"budget": last.budget, "target_samples": last.target_samples}
            name = f"budget_{last.budget}-samples_{last.target_samples}/{arm}"
            series = Series(name, {"arm": arm, **cell})
            step = self._steps.get(name, (series, 0))[1] + 1
            self._steps[name] = series, step
            values = arm_scalars(own) | self._differences.add(last, base)
            self._writers.write(series, step, values)

    def finished(self, done: int, total: int) -> None:
        """Hands it on."""
        self._shown.finished(done, total)

    def noted(self, text: str) -> None:
        """Hands it on."""
        self._shown.noted(text)

    def ended(self, text: str) -> None:
        """Ends all series."""
        for series, _ in self._steps.values():
            self._writers.end(series)
        self._shown.ended(text)
