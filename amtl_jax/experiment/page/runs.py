"""A run as its workdir holds it, whole or as far as it has come."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amtl_jax.data.columns import TableError
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.npz import read_npz
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.reading import checked, parsed, read_json, read_text
from amtl_jax.experiment.page.run_checks import line_form, run_form
from amtl_jax.experiment.result import RunResult

_MOST_EXAMPLES = 2**26  # bytes of examples.npz
_MOST_SIDE = 512  # of an example, in pixels


class Run(NamedTuple):
    """The numbers of a run.

    Attributes:
      result: its tables; of a run that is not finished, without intervals.
      is_finished: whether all rounds are there.
      images: names, roles and images `[T, n, H, W]` or `[T, n, H, W, 3]` uint8; None: it has none.
      notes: what a reader should know about the reading.
    """

    result: RunResult
    is_finished: bool
    images: tuple[list[str], list[str], np.ndarray] | None
    notes: tuple[str, ...]


def read_run(workdir: Path) -> Run:
    """Reads the run of a workdir.

    Raises:
      ConfigError: if a file is missing or damaged, or no round is finished.
      OSError: if a file cannot be read.
    """
    config = read_json(workdir / "config.json")
    is_finished = (workdir / "summary.json").is_file()
    if is_finished:
        summary = read_json(workdir / "summary.json")
        checked(summary, run_form, str(workdir / "summary.json"), "summary")
        rounds = _rounds(workdir, len(summary["source_names"]), is_finished=True)
        _check_arms(workdir, summary, rounds)
        notes: tuple[str, ...] = ()
    else:
        rounds = _rounds(workdir, None, is_finished=False)
        number = len(rounds)
        summary = _so_far(workdir, config, rounds)
        rounds = [one for one in rounds if one["seed"] in summary["seeds"]]
        notes = (
            f"Not finished: {number:,} rounds are there. Means are over the seeds that all "
            "arms have; intervals, relevance and the answer come with the end of the run.",
        )
    names = tuple(summary["source_names"])
    result = RunResult(config, workdir, summary, rounds, names)
    return Run(result, is_finished, _images(workdir), notes)


def _rounds(workdir: Path, num_sources: int | None, *, is_finished: bool) -> list[dict[str, Any]]:
    path = workdir / "metrics.jsonl"
    lines = read_text(path).split("\n")
    if lines[-1] and not is_finished:
        lines.pop()  # a run that was killed may have left half a line
    found = []
    for place, line in enumerate(filter(None, lines), start=1):
        what = f"{path}, line {place}"
        one = parsed(line, what)
        checked(one, line_form(num_sources), what, "round")
        num_sources = num_sources or len(one["counts"]) or None
        found.append(one)
    if not found:
        raise ConfigError(f"{workdir} holds no finished round yet; amtl run goes on with it.")
    return found


def _check_arms(workdir: Path, summary: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    """Raises where the lines and the summary have other arms or seeds."""
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for one in rounds:
        if one["strategy"] not in summary["strategies"] or one["seed"] not in summary["seeds"]:
            raise ConfigError(
                f"{workdir / 'metrics.jsonl'} is damaged: summary.json has no arm "
                f"{one['strategy']!r:.80} with seed {one['seed']}."
            )
        last[one["strategy"], one["seed"]] = one
    for arm, found in summary["strategies"].items():
        for seed in summary["seeds"]:
            one = last.get((arm, seed))
            if one is None or (
                found["top_sources"] and "middle" not in (one.get("relevance") or {})
            ):
                raise ConfigError(
                    f"{workdir / 'metrics.jsonl'} is damaged: expected a last round of arm "
                    f"{arm!r:.80} with seed {seed}."
                )


def _so_far(workdir: Path, config: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of a summary that unfinished rounds give."""
    arms = list(dict.fromkeys(one["strategy"] for one in rounds))
    num_sources = max(len(one["counts"]) for one in rounds)
    ends = {arm: max(one["round"] for one in rounds if one["strategy"] == arm) for arm in arms}
    seeds = [
        {one["seed"] for one in rounds if (one["strategy"], one["round"]) == end}
        for end in ends.items()
    ]
    # Arms are compared on the seeds that all of them have, where there are any.
    common = set.intersection(*seeds) or set.union(*seeds)
    rounds = [one for one in rounds if one["seed"] in common]
    curve: dict[str, list[dict[str, Any]]] = {}
    strategies = {}
    for arm in arms:
        own = [one for one in rounds if one["strategy"] == arm]
        curve[arm] = [
            _point([one for one in own if one["round"] == index])
            for index in sorted({one["round"] for one in own})
        ]
        last = curve[arm][-1]
        strategies[arm] = {
            "samples_total": last["samples"],
            "target": {name: one["value"] for name, one in last.items() if name != "samples"},
            "difference": {},
            "top_sources": [{}] if own[0]["counts"] else [],
        }
    target, names = _named(config, num_sources)
    return {
        "name": str(config.get("name", workdir.name)),
        "target": target,
        "num_sources": num_sources,
        "source_names": names,
        "seeds": sorted({one["seed"] for one in rounds}),
        "evidence": {"test_rows": 0, "level": 0.95},
        "chosen_arm": None,
        "strategies": strategies,
        "answer": None,
        "relevance": [],
        "curve": curve,
        "versions": {},
        "device": str(rounds[-1].get("device", "")),
        "seconds": sum(one["seconds"] for one in rounds),
    }


def _named(config: dict[str, Any], num_sources: int) -> tuple[str, list[str]]:
    """Names of the target and the sources; only the end of a run writes those of a table down."""
    data = config.get("data")
    target = str(data.get("target") or "the target") if isinstance(data, dict) else "the target"
    corruption = target.rpartition("_")[0]
    names = [f"{one}_{digit}" for one in CORRUPTIONS if one != corruption for digit in range(10)]
    if corruption in CORRUPTIONS and len(names) == num_sources:
        return target, names
    return target, [f"source {place + 1}" for place in range(num_sources)]


def _point(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of one round of an arm."""
    point: dict[str, Any] = {"samples": max(one["samples_total"] for one in records)}
    for name in records[0]["target"]:
        values = [one["target"].get(name) for one in records]
        value = None if None in values else float(np.mean(values))
        point[name] = {"value": value, "low": None, "high": None}
    return point


def _images(workdir: Path) -> tuple[list[str], list[str], np.ndarray] | None:
    """Examples of the target and of sources."""
    path = workdir / "examples.npz"
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_EXAMPLES:
        raise ConfigError(f"{path} has more than {_MOST_EXAMPLES:,} bytes, which no run writes.")
    try:
        arrays = read_npz(path)
    except TableError as error:
        raise ConfigError(f"{path} is damaged: {str(error).rstrip('.')}.") from error
    names, roles, images = (arrays.get(name) for name in ("names", "roles", "images"))
    is_fine = (
        names is not None
        and roles is not None
        and images is not None
        and names.ndim == roles.ndim == 1
        and {names.dtype.kind, roles.dtype.kind} == {"U"}
        and images.dtype == np.uint8
        and images.ndim in (4, 5)
        and 0 < images.shape[0] == len(names) == len(roles) <= 64
        and images.shape[1] <= 64
        and max(images.shape[2:4]) <= _MOST_SIDE
        and images.shape[4:] in ((), (3,))
    )
    if not is_fine:
        raise ConfigError(f"{path} is damaged: expected names, roles and images of uint8.")
    return names.tolist(), roles.tolist(), images
