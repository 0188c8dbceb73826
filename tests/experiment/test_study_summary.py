"""The numbers of a study: a golden table, ties, missing units, rows of others."""

import json

import numpy as np
import pytest

from amtl_jax.clustered import clustered_mean
from amtl_jax.experiment.study_rows import METRICS, Row
from amtl_jax.experiment.study_summary import summarise_study

TARGETS = ("fog_0", "fog_1", "zigzag_0", "zigzag_1")
ARMS = ("target_only", "uniform", "rule")
# By target, in the order of TARGETS.
ACCURACY = {
    "target_only": (0.5, 0.5, 0.5, 0.5),
    "uniform": (0.75, 0.5, 0.875, 0.625),
    "rule": (0.75, 0.75, 1.0, 0.5),
}


def row(target, arm, value, *, seed=0, budget=1000, number=1, samples=None, given=100, **metrics):
    corruption, _, digit = target.rpartition("_")
    samples = (0 if arm == "target_only" else budget) if samples is None else samples
    metrics = {
        "accuracy": value,
        "balanced_accuracy": value,
        "auc": value,
        "mse": 1 - value,
    } | metrics
    metrics = {"seconds": 1.0} | metrics
    place = target, corruption, int(digit), arm, seed, budget, number, samples, given
    return Row(*place, *(metrics[name] for name in Row._fields[9:]))


def golden_rows():
    return [
        row(target, arm, value)
        for arm, values in ACCURACY.items()
        for target, value in zip(TARGETS, values, strict=True)
    ]


def summarise(rows, **changes):
    axes = {
        "targets": TARGETS,
        "arms": ARMS,
        "budgets": (1000,),
        "target_samples": (100,),
        "seeds": (0,),
    }
    summary = summarise_study(rows, **({"name": "golden", "num_resamples": 200} | axes | changes))
    json.dumps(summary, allow_nan=False)  # plain data
    return summary


def arms_of(summary, cell=0):
    return summary["cells"][cell]["arms"]


def test_golden_numbers():
    summary = summarise(golden_rows(), versions={"numpy": "2.0"}, device="cpu", seconds=12.5)
    assert summary["units"] == {"done": 4, "of": 4}
    assert summary["corruptions"] == ["fog", "zigzag"]
    assert summary["digits"] == [0, 1]
    told = [summary[name] for name in ("versions", "device", "seconds")]
    assert told == [{"numpy": "2.0"}, "cpu", 12.5]
    rule = arms_of(summary)["rule"]
    assert (rule["targets"], rule["samples_total"], rule["seconds"]) == (4, 1000, 4.0)
    assert list(rule["metrics"].values()) == [0.75, 0.25, 0.75, 0.75]
    found = rule["difference"]["uniform"]["accuracy"]
    # by target 0, +1/4, +1/8, -1/8: +1/8 for fog, 0 for zigzag
    assert found == {
        "difference": 0.0625,
        "low": 0.0,
        "high": 0.125,
        "wins": 2,
        "ties": 1,
        "losses": 1,
    }
    error = rule["difference"]["uniform"]["mse"]
    assert (error["difference"], error["low"], error["high"]) == (-0.0625, -0.125, 0.0)
    assert (error["wins"], error["ties"], error["losses"]) == (2, 1, 1)  # smaller is better
    assert rule["difference"]["target_only"]["accuracy"]["difference"] == 0.25
    assert rule["per_corruption"]["fog"]["accuracy"] == {"value": 0.75, "difference": 0.125}
    assert rule["per_corruption"]["zigzag"]["accuracy"] == {"value": 0.75, "difference": 0.0}
    assert rule["per_digit"]["0"]["accuracy"] == {"value": 0.875, "difference": 0.0625}
    assert rule["per_target"]["zigzag_1"]["mse"] == {"value": 0.5, "difference": 0.125}
    assert rule["curve"] == [{"round": 1, "samples": 1000} | rule["metrics"]]


def test_the_structure_is_the_one_that_others_read():
    summary = summarise(golden_rows())
    assert list(summary) == [
        *("kind", "name", "corruptions", "digits", "targets", "arms", "seeds", "level"),
        *("num_resamples", "units", "cells", "versions", "device", "seconds", "reading"),
    ]
    (cell,) = summary["cells"]
    assert list(cell) == ["budget", "target_samples", "arms"]
    assert list(cell["arms"]) == list(ARMS)
    for arm, found in cell["arms"].items():
        assert list(found) == [
            *("targets", "samples_total", "seconds", "metrics", "difference", "per_corruption"),
            *("per_digit", "per_target", "curve", "uniform_needs"),
        ]
        assert list(found["metrics"]) == list(METRICS)
        assert set(found["difference"]) == {"uniform", "target_only"} - {arm}


def test_the_last_round_is_the_result_and_seconds_add_up():
    rows = [
        row(target, arm, value - 0.1 * (3 - number), number=number, samples=300 * number)
        for number in (3, 1, 2)  # in no order
        for target in TARGETS
        for arm, value in (("uniform", 0.75), ("rule", 0.875))
    ]
    rule = arms_of(summarise(rows))["rule"]
    assert rule["metrics"]["accuracy"] == 0.875
    assert (rule["samples_total"], rule["seconds"]) == (900, 12.0)
    assert [point["samples"] for point in rule["curve"]] == [300, 600, 900]
    np.testing.assert_allclose(
        [point["accuracy"] for point in rule["curve"]], [0.675, 0.775, 0.875]
    )


def test_intervals_draw_corruptions_and_seeds():
    rng = np.random.default_rng(0)
    targets = [f"{corruption}_{digit}" for corruption in "abcdefgh" for digit in range(3)]
    values = rng.uniform(0.25, 0.75, (2, len(targets), 2))
    rows = [
        row(target, arm, values[place, index, seed], seed=seed)
        for place, arm in enumerate(("uniform", "rule"))
        for index, target in enumerate(targets)
        for seed in (0, 1)
    ]
    summary = summarise(rows, targets=targets, seeds=(0, 1), level=0.8)
    found = arms_of(summary)["rule"]["difference"]["uniform"]["auc"]
    clusters = [target[0] for target in targets]
    expected = clustered_mean(values[1] - values[0], clusters, num_resamples=200, level=0.8)
    ends = [found[name] for name in ("difference", "low", "high")]
    np.testing.assert_allclose(ends, expected)


def test_equal_arms_tie_on_every_target():
    values = np.random.default_rng(0).uniform(0.3, 0.9, (4, 3))
    rounded = np.nextafter(np.float32(values), np.float32(1)).astype(float)  # the last bit differs
    rows = [
        row(target, arm, table[index, seed], seed=seed)
        for arm, table in (("uniform", values), ("rule", np.float32(values)), ("other", rounded))
        for index, target in enumerate(TARGETS)
        for seed in range(3)
    ]
    summary = summarise(rows, arms=("uniform", "rule", "other"), seeds=range(3))
    for arm in ("rule", "other"):
        for found in arms_of(summary)[arm]["difference"]["uniform"].values():
            assert list(found.values()) == [0, 0, 0, 0, 4, 0]


def test_what_seeds_gain_and_lose_alike_is_a_tie_and_one_test_row_a_win():
    step = 1 / 2000
    moves = {"fog_0": (step, -step, 0), "fog_1": (step, 0, 0), "zigzag_0": (0, 0, -step)}
    rows = [
        row(target, arm, 0.9415 + (move if arm == "rule" else 0), seed=seed)
        for target in TARGETS
        for seed, move in enumerate(moves.get(target, (0, 0, 0)))
        for arm in ("uniform", "rule")
    ]
    found = arms_of(summarise(rows, seeds=range(3)))["rule"]["difference"]["uniform"]["accuracy"]
    assert (found["wins"], found["ties"], found["losses"]) == (1, 2, 1)


def test_missing_units_leave_means_and_pairs():
    rows = [one for one in golden_rows() if (one.target, one.arm) != ("zigzag_0", "uniform")]
    rows = [one for one in rows if (one.target, one.arm) != ("fog_1", "rule")]
    summary = summarise(rows)
    assert summary["units"] == {"done": 2, "of": 4}
    found = arms_of(summary)
    assert (found["rule"]["targets"], found["rule"]["metrics"]["accuracy"]) == (3, 0.75)
    paired = found["rule"]["difference"]["uniform"]["accuracy"]
    assert paired["difference"] == -0.0625  # of fog_0, 0, and zigzag_1, -1/8
    assert (paired["wins"], paired["ties"], paired["losses"]) == (0, 1, 1)
    assert "fog_1" not in found["rule"]["per_target"]
    assert found["rule"]["per_target"]["zigzag_0"]["accuracy"] == {"value": 1, "difference": None}


def test_wins_compare_the_seeds_that_both_have():
    values = {"uniform": {0: 0.5}, "rule": {0: 0.5, 1: 0.9}}
    rows = [
        row(target, arm, value, seed=seed)
        for target in TARGETS
        for arm, seeds in values.items()
        for seed, value in seeds.items()
    ]
    found = arms_of(summarise(rows, seeds=(0, 1)))["rule"]["difference"]["uniform"]["accuracy"]
    assert list(found.values()) == [0, 0, 0, 0, 4, 0]


def test_without_uniform_there_is_nothing_to_compare_with():
    rows = [one for one in golden_rows() if one.arm != "uniform"]
    summary = summarise(rows)
    assert summary["units"]["done"] == 0
    rule = arms_of(summary)["rule"]
    assert set(rule["difference"]) == {"target_only"}
    assert rule["per_digit"]["1"]["accuracy"] == {"value": 0.625, "difference": None}
    assert rule["uniform_needs"] == {}


def test_one_corruption_has_no_interval():
    rows = [one for one in golden_rows() if one.corruption == "fog"]
    for axes in ({}, {"targets": TARGETS[:2]}):
        found = arms_of(summarise(rows, **axes))["rule"]["difference"]["uniform"]["accuracy"]
        assert (found["difference"], found["low"], found["high"]) == (0.125, None, None)


def test_one_target_and_no_rows_at_all():
    found = arms_of(summarise(golden_rows()[::4], targets=TARGETS[:1]))
    assert found["uniform"]["metrics"]["accuracy"] == 0.75
    summary = summarise([])
    assert (summary["cells"], summary["units"]) == ([], {"done": 0, "of": 4})


def test_undefined_metrics_are_null():
    rows = [one._replace(auc=None) for one in golden_rows()]
    rows[-1] = rows[-1]._replace(mse=None)
    rule = arms_of(summarise(rows))["rule"]
    assert rule["metrics"]["auc"] is None
    assert rule["difference"]["uniform"]["auc"] == {
        **dict.fromkeys(("difference", "low", "high")),
        **dict.fromkeys(("wins", "ties", "losses"), 0),
    }
    assert "auc" not in rule["uniform_needs"]
    np.testing.assert_allclose(rule["metrics"]["mse"], 0.5 / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": TARGETS[:3]}, "Expected rows of the 3 targets.*got target 'zigzag_1', seed 0"),
        ({"seeds": (1, 2)}, "the seeds 1, 2 of this study, got target 'fog_0', seed 0"),
        ({"arms": ARMS[:2]}, "arms, target_only, uniform, got 'rule'"),
        ({"budgets": (500,)}, r"\(500, 100\), got \(1000, 100\)"),
        ({"targets": (*TARGETS, "fog")}, "called <corruption>_<digit>, such as fog_3, got 'fog'"),
    ],
)
def test_rows_of_another_study_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        summarise(golden_rows(), **changes)
