"""What a run says, word for word."""

import pytest

from amtl_jax.experiment import report


def interval(difference, low, high):
    return {"difference": difference, "low": low, "high": high}


def summary(primary, ends, *, chosen="a_mtrl", metrics=None):
    """A summary of target_only and one arm that buys."""
    values = metrics or {primary: 0.9}
    strategies = {
        "target_only": {"samples_total": 0, "target": values, "difference": {}},
        "a_mtrl": {
            "samples_total": 15_000,
            "target": values,
            "difference": {"target_only": {primary: interval(*ends)}},
        },
    }
    return {"chosen_arm": chosen, "strategies": strategies}


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("accuracy", 0.01, 0.02, "better"),
        ("accuracy", -0.02, -0.01, "worse"),
        ("mse", 0.01, 0.02, "worse"),
        ("mse", -0.02, -0.01, "better"),
        ("auc", -0.01, 0.02, "no measurable difference"),
        ("auc", 0.0, 0.02, "no measurable difference"),
        ("auc", -0.02, 0.0, "no measurable difference"),
        ("auc", 0.0, 0.0, "no measurable difference"),
        ("auc", -0.0, 0.02, "no measurable difference"),
        ("auc", 1e-9, 0.02, "better"),
        ("auc", None, 0.02, "undefined"),
        ("auc", 0.01, None, "undefined"),
    ],
)
def test_verdict(metric, low, high, expected):
    assert report.verdict(metric, interval(0.0, low, high)) == expected


@pytest.mark.parametrize(
    ("metric", "ends", "expected"),
    [
        ("accuracy", (0.0123, -0.004, 0.03), "+1.23 [-0.40, +3.00]"),
        ("mse", (-0.012345, -0.1, 12.0), "-0.0123 [-0.1, +12]"),
        ("auc", (0.01, 0.00001, 0.02), "+1.00 [+0.001, +2.00]"),
        ("auc", (0.0, 0.0, 0.0), "+0.00 [+0.00, +0.00]"),
        ("mse", (0.1, None, None), "undefined"),
    ],
)
def test_interval_text(metric, ends, expected):
    assert report.interval_text(metric, interval(*ends)) == expected


@pytest.mark.parametrize(
    ("primary", "ends", "expected"),
    [
        (
            "accuracy",
            (0.01, 0.005, 0.015),
            "The sources paid: a_mtrl, 15,000 source samples, accuracy +1.00 [+0.50, +1.50] points "
            "against target_only.",
        ),
        (
            "mse",
            (0.1, 0.05, 0.2),
            "The sources did harm: a_mtrl, 15,000 source samples, MSE +0.1 [+0.05, +0.2] against "
            "target_only.",
        ),
        (
            "accuracy",
            (0.01, -0.005, 0.015),
            "The sources made no measurable difference: a_mtrl, 15,000 source samples, accuracy "
            "+1.00 [-0.50, +1.50] points against target_only.",
        ),
        (
            "mse",
            (0.1, None, None),
            "Whether the sources paid is undefined: a_mtrl, 15,000 source samples, MSE undefined "
            "against target_only.",
        ),
    ],
)
def test_payoff_sentence(primary, ends, expected):
    assert report.payoff_sentence(summary(primary, ends)) == expected


def test_payoff_needs_both_sides():
    expected = "Run the arms target_only and one that buys samples to learn whether sources pay."
    both = summary("mse", (0.0, 0.0, 0.0))
    assert report.payoff_sentence(both | {"chosen_arm": None}) == expected
    alone = {"a_mtrl": both["strategies"]["a_mtrl"]}
    assert report.payoff_sentence(both | {"strategies": alone}) == expected


def test_final_table():
    table = report.final_table(
        summary("accuracy", (0.01, 0.005, 0.015), metrics={"accuracy": 0.9, "mse": None})
    )
    assert table.splitlines() == [
        "arm          samples  accuracy  MSE",
        "-----------  -------  --------  ---",
        "target_only  0        90.00%    -",
        "a_mtrl       15,000   90.00%    -",
        "",
        "arm     accuracy vs target_only",
        "------  ---------------------------",
        "a_mtrl  +1.00 [+0.50, +1.50] better",
    ]


def test_final_table_says_undefined_once():
    table = report.final_table(summary("mse", (0.1, None, None)))
    assert table.endswith("a_mtrl  undefined")


RECORD = {
    "seed": 3,
    "round": 1,
    "strategy": "uniform",
    "counts": [5, 5, 5],
    "nu": [0.1, None, -0.9],
    "samples_total": 1234,
    "train_loss": 0.25,
    "target": {"accuracy": 0.9, "balanced_accuracy": 0.8, "auc": None, "mse": 0.0123},
}


def test_round_line():
    assert report.round_line(RECORD, 4, ("a", "b", "c"), top=2) == (
        "seed 3  uniform     round 2/4    1,234 samples  train loss 0.25  "
        "accuracy 90.00%  AUC -  MSE 0.0123  top: c -0.90, a +0.10"
    )


def test_round_line_without_numbers():
    empty = RECORD | {"nu": [None] * 3, "train_loss": None}
    assert "train loss -" in report.round_line(empty, 4, ("a", "b", "c"))
    assert report.round_line(empty, 4, ("a", "b", "c")).endswith("top: none")
    assert "no source samples" in report.round_line(RECORD | {"counts": []}, 1, ())


def test_top_sources_are_sorted_by_size_with_ties_in_order():
    record = {"nu": [0.5, -0.5, 0.1, -2.0]}
    assert report.top_sources(record, ("a", "b", "c", "d"), 3) == [
        ("d", -2.0),
        ("a", 0.5),
        ("b", -0.5),
    ]
