"""What a study runs: its grid of targets, arms, budgets, target samples and seeds. Imports no JAX.

A unit is what is kept as a whole: a target with all arms. The units that share the sources, the
seed and the budget share a context: the first round is the same for all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from amtl_jax.experiment.config import Config, ConfigError, shown

_SHOWN = 5


class Context(NamedTuple):
    """What units share that differ in the target's class and in its sample alone."""

    corruption: str
    seed: int
    budget: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.corruption}-budget_{self.budget}-seed_{self.seed}"


class Unit(NamedTuple):
    """A target with all arms of a study."""

    target: str
    seed: int
    budget: int
    target_samples: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.target}-budget_{self.budget}-samples_{self.target_samples}-seed_{self.seed}"

    @property
    def corruption(self) -> str:
        """Corruption of its target."""
        return self.target.rpartition("_")[0]

    @property
    def context(self) -> Context:
        """What it shares with others."""
        return Context(self.corruption, self.seed, self.budget)


class Grid(NamedTuple):
    """All that a study runs; each axis in its own order, without repeats."""

    targets: tuple[str, ...]
    arms: tuple[str, ...]
    budgets: tuple[int, ...]
    target_samples: tuple[int, ...]
    seeds: tuple[int, ...]

    def units(self) -> list[Unit]:
        """All units, those of a context adjacent."""
        corruptions = dict.fromkeys(target.rpartition("_")[0] for target in self.targets)
        return [
            Unit(target, seed, budget, samples)
            for budget in self.budgets
            for seed in self.seeds
            for corruption in corruptions
            for samples in self.target_samples
            for target in self.targets
            if target.rpartition("_")[0] == corruption
        ]


def grid_of(config: Config, names: Sequence[str]) -> Grid:
    """Reads the grid of a config; what the study leaves open is that of a run.

    Args:
      config: checked.
      names: of all tasks, in order.

    Raises:
      ConfigError: names the targets that are none.
    """
    study = config.study
    unknown = [name for name in study.targets if name not in set(names)]
    if unknown:
        some = ", ".join(shown(name) for name in unknown[:_SHOWN])
        raise ConfigError(
            f"study.targets: no task {some}{' …' if len(unknown) > _SHOWN else ''}. Tasks are "
            f"called like {names[0]}; there are {len(names)}, from {names[0]} to {names[-1]}."
        )
    chosen = set(study.targets or names)
    return Grid(
        tuple(name for name in names if name in chosen),
        study.arms,
        study.budgets or (config.budget,),
        study.target_samples or (config.num_target,),
        study.seeds or config.seeds,
    )


class Shard(NamedTuple):
    """Part `index` of `count` of a study, from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Reads `3/8`; None is all of it.

        Raises:
          ConfigError: for anything else.
        """
        index, slash, count = (text or "1/1").partition("/")
        is_numbers = slash and all(one.isascii() and one.isdigit() for one in (index, count))
        if not is_numbers or len(text or "") > 20 or not 1 <= int(index) <= int(count):
            raise ConfigError(f"--shard expects K/N with 1 <= K <= N, such as 3/8, got {text!r}.")
        return cls(int(index), int(count))

    def split(self, size: int) -> list["Shard"]:
        """Shards that make it up."""
        return [Shard(self.index + k * self.count, self.count * size) for k in range(size)]

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """Its units: whole contexts, so that no shard repeats another's work.

        But for the ceiling, which contexts of one corruption share.
        """
        own = set(_contexts(units)[self.index - 1 :: self.count])
        return [unit for unit in units if unit.context in own]

    def refuse_empty(self, units: Sequence[Unit]) -> None:
        """Refuses a shard that has nothing of a study's units to compute.

        Raises:
          ConfigError: says how many shards there can be.
        """
        most = len(_contexts(units))
        if self.index > most:
            raise ConfigError(
                f"--shard {self.index}/{self.count} has nothing to compute: a study is split by "
                f"corruption, budget and seed, and this one has {most} of these. Take "
                f"--shard K/{most} at most."
            )


def _contexts(units: Sequence[Unit]) -> list[Context]:
    return list(dict.fromkeys(unit.context for unit in units))
