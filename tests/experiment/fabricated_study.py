"""A study that nobody computed: files of plausible shape and numbers, the same in every call."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.experiment.config import Config, MnistCConfig, StudyConfig, to_plain
from amtl_jax.experiment.study_rows import Row, write_rows
from amtl_jax.experiment.study_summary import summarise_study
from amtl_jax.files import write_atomically

ARMS = ("target_only", "uniform", "a_mtrl", "c_optimal", "alignment", "same_digit", "all_data")
SHARES = (0.3, 0.147, 0.221, 0.332)
_WORTH = {"a_mtrl": 1.02, "c_optimal": 1.05, "alignment": 1.35, "same_digit": 1.6}
_HAS_NU = ("a_mtrl", "l1_a_mtrl", "c_optimal", "alignment")
_NOT_BUYING = ("target_only", "all_data")
_ALL_ROWS = 1_500_000


def fabricate(
    workdir: Path,
    *,
    corruptions: int = 16,
    digits: int = 10,
    arms: Sequence[str] = ARMS,
    seeds: Sequence[int] = (0,),
    budgets: Sequence[int] = (15_000, 121_875),
    target_samples: Sequence[int] = (400,),
    name: str = "fabricated",
) -> dict:
    """Writes config.json, results.csv, arrays.npz and summary.json; returns the summary."""
    tasks = [f"{one}_{digit}" for one in CORRUPTIONS[:corruptions] for digit in range(digits)]
    study = StudyConfig(
        targets=tuple(tasks),
        arms=tuple(arms),
        budgets=tuple(budgets),
        target_samples=tuple(target_samples),
        seeds=tuple(seeds),
    )
    config = Config(name=name, data=MnistCConfig(root="mnist_c"), schedule=SHARES, study=study)
    rows = fabricated_rows(tasks, arms, seeds, budgets, target_samples)
    summary = summarise_study(
        rows,
        name=name,
        targets=tasks,
        arms=arms,
        budgets=budgets,
        target_samples=target_samples,
        seeds=seeds,
        num_resamples=200,
        versions={"amtl_jax": "0.1.0", "jax": "0.10.0", "numpy": "2.0.0"},
        device="cpu",
        seconds=sum(row.seconds for row in rows),
    )
    write_rows(workdir / "results.csv", rows)
    _write_json(workdir / "config.json", {"kind": "study", **to_plain(config)})
    _write_json(workdir / "summary.json", summary)
    stream = io.BytesIO()
    np.savez(stream, **_arrays(tasks, summary, max(budgets), target_samples[0]))
    write_atomically(workdir / "arrays.npz", stream.getvalue())
    return summary


def fabricated_rows(
    tasks: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    budgets: Sequence[int],
    target_samples: Sequence[int],
) -> list[Row]:
    """Rows of all units: power laws in the samples, with an effect of corruption, digit and arm."""
    return [
        row
        for budget in budgets
        for seed in seeds
        for given in target_samples
        for target in tasks
        for arm in arms
        for row in _rows(target, arm, seed, budget, given)
    ]


def _rows(target: str, arm: str, seed: int, budget: int, given: int) -> list[Row]:
    corruption, _, digit = target.rpartition("_")
    place = CORRUPTIONS.index(corruption)
    hardness = 0.02 + 0.001 * place + 0.002 * int(digit)
    # Noise that arms of a unit share, and a smaller one of their own.
    common = np.random.default_rng([place, int(digit), seed, given]).normal()
    own = np.random.default_rng([place, int(digit), seed, given, budget, sum(map(ord, arm))])
    worth = _WORTH.get(arm, 1.0)
    if arm in _WORTH:
        worth *= 1 + 0.2 * np.sin(place + len(arm)) + 0.1 * np.cos(int(digit) + len(arm))
    if arm == "target_only":
        steps = [0]
    elif arm == "all_data":
        steps = [_ALL_ROWS]
    else:
        steps = [round(budget * share) for share in np.cumsum(SHARES)]
    rows = []
    for index, samples in enumerate(steps):
        learned = (max(samples, 1) * (worth if index else 1.0) / 15_000) ** -0.25
        excess = 0.05 if arm == "target_only" else 0.02 * learned
        mse = hardness + excess * (400 / given) ** 0.5 + 0.002 * common + 0.0005 * own.normal()
        accuracy = round((1 - 1.15 * mse + 0.0005 * own.normal()) * 2000) / 2000
        positives = 1 - 4.5 * mse + 0.003 * own.normal()
        rows.append(
            Row(
                target,
                corruption,
                int(digit),
                arm,
                seed,
                budget,
                index + 1,
                samples,
                given,
                accuracy,
                float((positives + 0.985) / 2),
                float(1 - 0.8 * mse),
                float(mse),
                round(0.05 + samples / 50_000, 3),
            )
        )
    return rows


def _arrays(tasks: Sequence[str], summary: dict, budget: int, given: int) -> dict:
    """What the report draws: relevance and counts of the sources, risks; one row per target."""
    rng = np.random.default_rng(0)
    corruption, digit = np.array([task.rpartition("_")[::2] for task in tasks]).T
    is_source = corruption[:, None] != corruption[None, :]
    is_alike = digit[:, None] == digit[None, :]
    arrays = {"tasks": np.array(tasks), "targets": np.array(tasks)}
    cells = [
        one for one in summary["cells"] if (one["budget"], one["target_samples"]) == (budget, given)
    ]
    found = cells[0]["arms"]
    if "uniform" in found:
        own = found["uniform"]["per_target"]
        loo = [own[task]["mse"]["value"] for task in tasks]
        arrays["loo/uniform"] = np.array(loo, np.float32)
    for arm in found:
        size = (len(tasks), len(tasks))
        nu = (0.25 * is_alike + rng.normal(0, 0.05, size)) * is_source
        if arm in _HAS_NU:
            arrays[f"nu/{arm}"] = np.where(is_source, nu, np.nan).astype(np.float32)
        if arm in _NOT_BUYING:
            continue
        even = is_source / np.maximum(is_source.sum(axis=1, keepdims=True), 1)
        skewed = nu**2 / np.maximum((nu**2).sum(axis=1, keepdims=True), 1e-9)
        kept = 1.0 if arm == "uniform" else 0.3
        shares = [even] + 3 * [kept * even + (1 - kept) * skewed]
        counts = [budget * part * share for part, share in zip(SHARES, shares, strict=True)]
        arrays[f"counts/{arm}"] = np.stack(counts, axis=1).astype(np.float32)
        if arm in _HAS_NU and "uniform" in found:
            own = found[arm]["per_target"]
            measured = np.array([own[task]["mse"]["difference"] for task in tasks], np.float32)
            arrays[f"measured/{arm}"] = measured
            noise = rng.normal(0, 0.0005, len(tasks))
            arrays[f"predicted/{arm}"] = (0.8 * measured + noise).astype(np.float32)
    return arrays


def _write_json(path: Path, content: dict) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
