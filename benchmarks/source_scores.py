r"""What says best which sources to buy from? Answers of the literature on MNIST-C, side by side.

    python -m benchmarks source_scores --root mnist_c --seeds 0 1 2

(`--out FILE.npz` keeps what a process found, and `--merge FILE.npz …` makes one table of several;
`--page docs/mnist_c_tables.md` puts it there.)

A target buys evenly first, as `mnist_c_linear` does, scores every source by what that fit and the
target's sample say, and spends the other seven tenths of its 15,000 samples in proportion, a fifth
of that evenly. All fits have λ and start of uniform's. Scores: `alignment` (the library's), the
`cosine` of gradients, their `product`, the `gain` in leave-one-out error. `halving` drops the worse
half of the sources, then all but 15; `weighted` and `even_weighted` weigh the rows of alignment's
and of uniform's samples by roots of the scores; `same_digit` is told. Targets are those of the
first eight corruptions in alphabetical order: the others are for rules that are decided.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amtl_jax.allocation import allocate
from amtl_jax.clustered import clustered_mean
from amtl_jax.experiment.config import Config
from amtl_jax.experiment.evaluate import evaluate
from amtl_jax.experiment.image_problem import input_shape, read_image_tasks
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.report import interval_text
from amtl_jax.experiment.study.answers import heads_of
from amtl_jax.experiment.study.field import ArmRound, Field
from amtl_jax.experiment.study.grid import Context
from amtl_jax.experiment.study.pools import device_pools, gather, places_of
from amtl_jax.experiment.study.programs import FitState, empty_batch, make_programs, study_parts
from amtl_jax.experiment.study.uniform_rounds import Shared, fit_shared, same_digit_round
from amtl_jax.files import write_atomically
from amtl_jax.noise_weights import weigh_tasks
from amtl_jax.types import Array
from benchmarks.source_evidence import Scores, source_scores
from benchmarks.study_page import NOT_RUN, merged

FLOOR, TOP = 0.2, 15
ARMS = (
    *("uniform", "alignment", "cosine", "product", "gain", "halving", "weighted"),
    *("even_weighted", "same_digit"),
)
Found = tuple[str, int, np.ndarray]  # corruption, seed, `[A, 10, 2]` MSE and balanced accuracy
_SAID = (
    "Differences to uniform over the ten targets of each of the first eight corruptions; lower: "
    "the share of targets with a lower MSE. Intervals: 95% bootstrap over corruptions and seeds."
)


class Bench(NamedTuple):
    """A corruption whose ten tasks are the targets."""

    field: Field
    shared: Shared
    fit: Callable[..., Any]


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks source_scores")
    parser.add_argument("--root", help="folder of MNIST-C")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="file for what was found, .npz")
    parser.add_argument("--merge", nargs="+", type=Path, help="such files, in place of computing")
    parser.add_argument("--page", type=Path, help="page of tables that gets this one too")
    options = parser.parse_args(argv)
    if (options.root is None) == (options.merge is None):
        parser.error("give --root or --merge")
    if options.merge:
        found = [one for path in options.merge for one in read(path)]
    else:
        config = load_config("mnist_c_linear")
        data = dataclasses.replace(config.data, root=options.root)
        found = list(errors(dataclasses.replace(config, data=data), options.seeds))
    if options.out:
        names, seeds, values = zip(*found, strict=True)
        np.savez(options.out, names=np.array(names), seeds=seeds, values=np.stack(values))
    lines = list(table(found))
    print("\n".join(lines))
    if options.page:
        seeds = " ".join(map(str, sorted({seed for _, seed, _ in found})))
        command = f"python -m benchmarks source_scores --root mnist_c --seeds {seeds}"
        parts = ["## source_scores", NOT_RUN, f"```sh\n{command}\n```", "\n".join(lines)]
        text = options.page.read_text("utf-8")
        section = "\n\n".join([*parts, _SAID]) + "\n"
        write_atomically(options.page, merged(text, [section]).encode())


def read(path: Path) -> list[Found]:
    """What `--out` wrote."""
    with np.load(path, allow_pickle=False) as file:
        columns = file["names"].tolist(), file["seeds"].tolist(), file["values"]
        return list(zip(*columns, strict=True))


def errors(config: Config, seeds: Sequence[int], first: int = 8) -> Iterator[Found]:
    """MSE and balanced accuracy of the targets of the first corruptions, seed by seed."""
    tasks = read_image_tasks(config.data)
    shape = input_shape(config)
    num_sources = len(tasks.names) * tasks.num_classes - tasks.num_classes
    parts = study_parts(config, ("uniform",), num_sources, shape, None)
    pools = device_pools(tasks, shape)
    places = {name: places_of(tasks, name, shape, joint=False) for name in sorted(tasks.names)}
    num_target = int(config.num_target or 0)
    programs = make_programs(
        parts, next(iter(places.values())), int(config.budget or 0), num_target
    )

    def weighted(pools: Any, key: Array, state: FitState, slots: Any, factors: Array):
        return programs.base.fit_sources(key, state, weigh_tasks(gather(pools, slots), factors))

    fit = jax.jit(weighted)
    for seed in seeds:
        for name in list(places)[:first]:
            context = Context(name, seed, int(config.budget or 0))
            field = Field(parts, programs, pools, places[name], context, num_target)
            bench = Bench(field, fit_shared(field), fit)
            own = [of_target(bench, label) for label in range(tasks.num_classes)]
            yield name, seed, np.stack(own, axis=1)


def of_target(bench: Bench, label: int) -> np.ndarray:
    """`[A, 2]` MSE and balanced accuracy of every arm for one target."""
    field, shared = bench.field, bench.shared
    first, even = shared.counts[0], shared.counts.sum(axis=0)
    num_sources, last = len(first), len(shared.counts) - 1
    left = [int(counts.sum()) for counts in shared.counts[1:]]

    def more(before: np.ndarray, scores: np.ndarray, budget: int) -> np.ndarray:
        wanted = np.maximum(scores, 0.0)
        wanted = (
            wanted / wanted.sum() if wanted.sum() > 0 else np.full(num_sources, 1 / num_sources)
        )
        shares = (1 - FLOOR) * wanted + FLOOR / num_sources
        room = field.places.source.capacity - before
        return before + np.asarray(allocate(shares, budget=budget, capacity=room))

    def judged(counts: np.ndarray, factors: np.ndarray | None = None) -> np.ndarray:
        return _judged(field, label, fitted(bench, counts, last, factors).fit.params)

    known = scores_of(bench, label, shared.first, first, 0)
    aligned = np.maximum(known.correlation, 0.0) ** 4
    cosine = np.maximum(known.cosine, 0.0)
    by_alignment = more(first, aligned, sum(left))
    kept = _is_top(known.correlation, num_sources // 2)
    halved = more(first, kept, left[0])
    middle = scores_of(bench, label, fitted(bench, halved, 1), halved, 1)
    found = {
        "uniform": _judged(field, label, shared.params[-1]),
        "alignment": judged(by_alignment),
        "cosine": judged(more(first, cosine**2, sum(left))),
        "product": judged(more(first, np.sqrt(aligned) * cosine, sum(left))),
        "gain": judged(more(first, known.gain, sum(left))),
        "halving": judged(more(halved, _is_top(middle.correlation, TOP), sum(left[1:]))),
        "weighted": judged(by_alignment, _factors(aligned, by_alignment)),
        "even_weighted": judged(even, _factors(aligned, even)),
        "same_digit": _errors(field, label, same_digit_round(field, shared, label)),
    }
    return np.array([found[arm] for arm in ARMS])


def fitted(bench: Bench, counts: np.ndarray, index: int, factors: np.ndarray | None = None) -> Any:
    """The fit of `counts` `[M]` samples of the sources, as in a round; rows weigh by `factors`."""
    field = bench.field
    fresh = field.programs.base.init(
        field.round_key(0), empty_batch(field.places.source.input_shape)
    )
    state = FitState.of(fresh)._replace(
        round=jnp.int32(index), penalty=jnp.float32(bench.shared.penalties[index])
    )
    slots = field.slots(index, counts, np.zeros_like(counts))
    own = np.ones(len(counts) + 1) if factors is None else np.append(factors, 1.0)
    return bench.fit(field.pools, field.round_key(index), state, slots, jnp.float32(own))


def scores_of(bench: Bench, label: int, fit: Any, counts: np.ndarray, index: int) -> Scores:
    """Scores every source by a fit of `counts` samples and the target's sample."""
    field = bench.field
    rows, _ = map(jnp.asarray, field.target_split())
    slots = field.slots(index, counts, np.zeros_like(counts))
    found = source_scores(field.parts.encoder, field.pools, rows, label, slots, fit.fit)
    return Scores(*(np.asarray(one)[: len(counts)] for one in found))


def _judged(field: Field, label: int, params: Any) -> np.ndarray:
    """`[2]` MSE and balanced accuracy of the target's head on a representation."""
    (one,) = heads_of(field, "", 0, 0, [label], params)
    return _errors(field, label, one)


def _errors(field: Field, label: int, one: ArmRound) -> np.ndarray:
    """`[2]` MSE and balanced accuracy of what an arm says of the test rows."""
    is_label = (np.asarray(field.places.test_label) == label).astype(np.float32)
    found = evaluate(one.outputs[:, None], is_label[:, None], kind="binary")
    return np.array([found["mse"], found["balanced_accuracy"]])


def _is_top(values: np.ndarray, count: int) -> np.ndarray:
    """`[M]` 1 for the `count` largest values, 0 for the others."""
    top = np.zeros(len(values))
    top[np.argsort(-values, kind="stable")[:count]] = 1.0
    return top


def _factors(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`[M]` weights of a row: roots of the scores over a floor, at the same total weight."""
    if scores.sum() <= 0:
        return np.ones(len(scores))
    factors = np.sqrt((1 - FLOOR) * len(scores) * scores / scores.sum() + FLOOR)
    return factors * counts.sum() / (counts * factors).sum()


def table(found: Sequence[Found]) -> Iterator[str]:
    """Lines of Markdown: differences to uniform with intervals over corruptions and seeds."""
    names = sorted({name for name, _, _ in found})
    runs = {name: [values for other, _, values in found if other == name] for name in names}
    values = np.stack([np.stack(runs[name], -1) for name in names])  # [C, A, 10, 2, S]
    clusters = np.repeat(names, values.shape[2])
    yield "| arm | MSE against uniform | lower | balanced acc., points |"
    yield "| --- | ---: | ---: | ---: |"
    for place, arm in enumerate(ARMS[1:], 1):
        less = values[:, place] - values[:, 0]  # [C, 10, 2, S]
        texts = []
        for index, metric in enumerate(("mse", "balanced_accuracy")):
            mean = clustered_mean(less[:, :, index].reshape(len(clusters), -1), clusters)
            ends = {"difference": mean.mean, "low": mean.low, "high": mean.high}
            texts.append(interval_text(metric, ends))
        wins = 100 * np.mean(less[:, :, 0].mean(-1) < 0)
        yield f"| {arm} | {texts[0]} | {wins:.0f}% | {texts[1]} |"
