"""Test metrics and paired differences as the driver uses them."""

import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.experiment.evaluate import differences, estimates, evaluate, risks
from amtl_jax.experiment.report import NO_DIFFERENCE, verdict

RNG = np.random.default_rng(0)
LABELS = (RNG.uniform(size=300) < 0.3).astype(np.float32)
SCORES = (LABELS + RNG.normal(size=(2, 300))).astype(np.float32)
SETTINGS = {"num_resamples": 64, "level": 0.9}


def test_evaluate_by_hand():
    predictions = np.asarray([[0.9], [0.4], [0.6], [0.1]], np.float32)
    labels = np.asarray([[1.0], [1.0], [0.0], [0.0]], np.float32)
    found = evaluate(predictions, labels, is_classification=True)
    assert found == pytest.approx(
        {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": 0.75, "mse": 0.74 / 4}
    )
    assert evaluate(predictions, labels, is_classification=False) == {"mse": found["mse"]}


def test_arms_with_the_same_hits_do_not_differ():
    """Other scores, the same decisions: every end is exactly 0, whatever rounding says."""
    base = np.where(SCORES > 0.5, np.float32(0.7), np.float32(0.3))
    arm = np.where(SCORES > 0.5, np.float32(0.9), np.float32(0.2))
    for first, second in ((arm, base), (base, arm)):
        found = differences(first, second, LABELS, is_classification=True, **SETTINGS)
        for name in ("accuracy", "balanced_accuracy", "auc"):
            assert found[name] == {"difference": 0.0, "low": 0.0, "high": 0.0}
            assert verdict(name, found[name]) == NO_DIFFERENCE
        assert found["mse"]["difference"] != 0


def test_a_clear_difference_and_its_sign():
    good = np.stack([LABELS, LABELS]) * 0.8
    found = differences(good, SCORES, LABELS, is_classification=True, **SETTINGS)
    assert {name: verdict(name, interval) for name, interval in found.items()} == dict.fromkeys(
        ("accuracy", "balanced_accuracy", "auc", "mse"), "better"
    )
    back = differences(SCORES, good, LABELS, is_classification=True, **SETTINGS)
    assert back["auc"]["low"] == pytest.approx(-found["auc"]["high"], abs=1e-6)
    assert verdict("mse", back["mse"]) == "worse"


def test_estimates_are_the_metrics_of_the_mean_seed_with_their_ends():
    found = estimates(SCORES, LABELS, is_classification=True, **SETTINGS)
    each = [evaluate(row[:, None], LABELS[:, None], is_classification=True) for row in SCORES]
    assert set(found) == set(each[0])
    for name, estimate in found.items():
        value = np.mean([one[name] for one in each])
        assert estimate["value"] == pytest.approx(value, abs=1e-5)
        assert estimate["low"] < value < estimate["high"]
    assert set(estimates(SCORES, LABELS, is_classification=False, **SETTINGS)) == {"mse"}
    nothing = estimates(SCORES, 0 * LABELS, is_classification=True, **SETTINGS)
    assert np.isnan(nothing["auc"]["value"])
    assert np.isfinite(nothing["mse"]["high"])


def test_an_undefined_metric_stays_undefined():
    found = differences(
        SCORES, SCORES + 1, np.zeros(300, np.float32), is_classification=True, **SETTINGS
    )
    assert np.isnan(found["auc"]["low"])
    assert np.isfinite(found["mse"]["low"])


def test_excess_risk_counts_the_intercept():
    truth = amtl.synthetic_truth("one", num_tasks=3, input_dim=5, num_features=2)
    theta = np.asarray(truth.encoder @ truth.target_head, np.float32)[:, None]
    perfect = risks(truth, theta, np.ones(1, np.float32), 0.0)
    assert perfect == pytest.approx({"excess_risk": 0.0, "representation_risk": 0.0}, abs=1e-9)
    assert risks(truth, theta, np.ones(1, np.float32), 0.5)["excess_risk"] == pytest.approx(0.25)
