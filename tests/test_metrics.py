"""Metrics against scikit-learn and dense formulas."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from amtl_jax import metrics

pytestmark = pytest.mark.usefixtures("full_compiles")

ROW_METRICS = (
    metrics.accuracy,
    metrics.balanced_accuracy,
    metrics.roc_auc,
    metrics.mean_squared_error,
)


def test_golden():
    scores, labels = np.array([0.9, 0.2, 0.6, 0.4]), np.array([1, 0, 0, 0])
    assert metrics.accuracy(scores, labels) == 0.75
    np.testing.assert_allclose(metrics.balanced_accuracy(scores, labels), (1 + 2 / 3) / 2)
    assert metrics.roc_auc(scores, labels) == 1.0
    assert metrics.roc_auc([0.5, 0.5, 0.1], [1, 0, 0]) == 0.75  # a tie counts one half
    assert metrics.accuracy([0.5], [1]) == 0  # predicts 1 only above the threshold
    np.testing.assert_allclose(metrics.mean_squared_error([1.0, 3.0], [0.0, 1.0]), 2.5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 40, 10**6]), st.booleans())
def test_agrees_with_scikit_learn(seed, num_scores, weighted):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, num_scores, 60) / num_scores  # few values: many ties
    labels = np.append([0, 1], rng.integers(0, 2, 58))
    weight = rng.integers(0, 3, 60) + (np.arange(60) < 2) if weighted else np.ones(60)
    hard = scores > 0.4
    kwargs = {"sample_weight": weight}
    expected = (
        sklearn.metrics.accuracy_score(labels, hard, **kwargs),
        sklearn.metrics.balanced_accuracy_score(labels, hard, **kwargs),
        sklearn.metrics.roc_auc_score(labels, scores, **kwargs),
        sklearn.metrics.mean_squared_error(labels, scores, **kwargs),
    )
    got = (
        metrics.accuracy(scores, labels, threshold=0.4, weight=weight),
        metrics.balanced_accuracy(scores, labels, threshold=0.4, weight=weight),
        metrics.roc_auc(scores, labels, weight=weight),
        metrics.mean_squared_error(scores, labels, weight=weight),
    )
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("metric", ROW_METRICS)
def test_row_metric_protocol(metric):
    rng = np.random.default_rng(0)
    scores, labels = rng.random(30).astype(np.float32), rng.integers(0, 2, 30)
    value = metric(scores, labels)
    assert value.dtype == jnp.float32
    # zero-weight rows change nothing, whatever is in them
    padded = np.append(scores, [5.0, -5.0]).astype(np.float32)
    weight = np.append(np.ones(30), [0, 0])
    np.testing.assert_allclose(
        metric(padded, np.append(labels, [0, 1]), weight=weight), value, rtol=1e-6
    )
    # a NaN score is not quietly a wrong (or right) answer
    assert np.isnan(metric(np.where(np.arange(30) == 7, np.nan, scores), labels))
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(metric, n=1))
    np.testing.assert_allclose(traced(scores, labels), value, rtol=1e-6)
    np.testing.assert_allclose(traced(scores, labels), value, rtol=1e-6)
    with pytest.raises(ValueError, match=rf"{metric.__name__}: expected .* got \[30\], \[29\]"):
        metric(scores, labels[1:])


def test_an_absent_class_is_nan():
    for metric in (metrics.balanced_accuracy, metrics.roc_auc):
        assert np.isnan(metric([0.1, 0.9], [1, 1]))
        assert np.isnan(metric([0.1, 0.9], [0, 0]))


def test_risks_match_dense_formulas():
    rng = np.random.default_rng(1)
    encoder, head, truth = rng.normal(size=(12, 3)), rng.normal(size=3), rng.normal(size=12)
    np.testing.assert_allclose(
        metrics.excess_risk(encoder, head, truth, bias=0.5),
        np.sum((encoder @ head - truth) ** 2) + 0.25,
        rtol=1e-5,
    )
    root = rng.normal(size=(12, 12))
    covariance = root @ root.T + np.eye(12)
    for second_moment in (None, covariance):
        sigma = np.eye(12) if second_moment is None else second_moment
        best = np.linalg.solve(encoder.T @ sigma @ encoder, encoder.T @ sigma @ truth)
        error = truth - encoder @ best
        got = metrics.representation_risk(encoder, truth, input_covariance=second_moment)
        np.testing.assert_allclose(got, error @ sigma @ error, rtol=1e-4)
    # the best head leaves exactly the representation's part
    best, *_ = np.linalg.lstsq(encoder, truth)
    np.testing.assert_allclose(
        metrics.excess_risk(encoder, best, truth),
        metrics.representation_risk(encoder, truth),
        rtol=1e-4,
    )


def test_representation_risk_of_a_deficient_encoder():
    encoder = np.zeros((5, 3))
    encoder[0] = [1, 1, 2]  # rank one: e_0, nothing else
    np.testing.assert_allclose(metrics.representation_risk(encoder, np.ones(5)), 4, rtol=1e-6)
    np.testing.assert_allclose(metrics.representation_risk(0 * encoder, np.ones(5)), 5)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-4, 0.1, np.pi / 2])
def test_subspace_distance_keeps_small_angles(angle):
    a = np.eye(6)[:, :2]
    b = np.stack([a[:, 0], np.cos(angle) * a[:, 1] + np.sin(angle) * np.eye(6)[:, 4]], axis=1)
    got = metrics.subspace_distance(a, b @ [[2.0, 1.0], [0.5, 3.0]])
    np.testing.assert_allclose(got, np.sin(angle), rtol=1e-3, atol=2e-7)


def test_subspace_distance_matches_scipy():
    a, b = np.random.default_rng(2).normal(size=(2, 20, 4))
    expected = np.sin(scipy.linalg.subspace_angles(a, b)[0])
    np.testing.assert_allclose(metrics.subspace_distance(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.subspace_distance(b, a), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.roc_auc(np.ones((2, 3)), np.ones((2, 3))), "use jax.vmap"),
        (
            lambda: metrics.excess_risk(np.ones((4, 2)), np.ones(3), np.ones(4)),
            r"excess_risk: expected head of shape \[2\], got \[3\]",
        ),
        (
            lambda: metrics.representation_risk(np.ones(4), np.ones(4)),
            r"encoder_weight of shape \[D, K\], got \[4\]",
        ),
        (
            lambda: metrics.subspace_distance(np.ones((4, 2)), np.ones((4, 3))),
            r"b of shape \[4, 2\], got \[4, 3\]",
        ),
    ],
)
def test_error_text(call, message):
    with pytest.raises(ValueError, match=message):
        call()
