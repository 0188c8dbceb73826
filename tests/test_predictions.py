"""The study of predictions, in small: fixed allocations, runs that are predicted, what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amtl_jax.forecast import draw_risks, known_heads
from amtl_jax.head_calibration import calibrated_draws
from amtl_jax.knowledge import HeadDraws
from amtl_jax.types import HeadStats
from benchmarks import predictions, predictions_fixed, predictions_results, predictions_runs
from benchmarks.curves_campaign import Cell
from benchmarks.curves_truths import Sizes

SIZES = Sizes(num_tasks=6, input_dim=12, num_features=2)
CELL = Cell("gauss", 30, 1200, SIZES)


def test_splits_cost_the_budget():
    for name in predictions_fixed.SPLITS:
        counts = predictions_fixed.split_of(name, 8000, 40)
        assert 8000 - 40 <= counts.sum() <= 8000
    assert predictions_fixed.split_of("half on five", 8000, 40)[-5:].sum() == 4000
    with pytest.raises(ValueError, match="Unknown split 'best'"):
        predictions_fixed.split_of("best", 8000, 40)


def test_a_fixed_allocation_has_the_risk_that_is_predicted():
    for scenario in ("gauss", "dup"):
        cell = CELL._replace(scenario=scenario)
        row = predictions_results.fixed_row(
            predictions_fixed.fixed_risks(cell, "even", range(10_000, 10_040))
        )
        assert row["predicted_over_measured"] == pytest.approx(1, abs=0.2), "40 seeds"
    assert row["rows_over_dim"] < 1200 / 12


@pytest.fixture(scope="module")
def found():
    seeds = range(10_000, 10_024)
    return [predictions_runs.forecast_runs(CELL, rule, seeds) for rule in ("c_optimal", "uniform")]


def test_intervals_hold_what_came(found):
    own, even = found
    np.testing.assert_array_equal(own.counts[:, -1].sum(axis=1), 1200)
    np.testing.assert_allclose(even.counts[:, -1], 200, atol=2)  # four rounds of whole samples
    for runs in found:
        final = runs.risk[:, -1:]
        held = (runs.end_low <= final) & (final <= runs.end_high)
        assert held[:, 1:].mean() >= 0.85, "0.95 is promised, 24 runs are few"
        assert np.median(runs.end[:, -1] / final[:, 0]) == pytest.approx(1, abs=0.3)
    # Intervals are no wider than a run's own luck and what is not known of the heads ask for.
    assert np.median(own.end_high[:, -1] / own.end_low[:, -1]) < 20


def test_rows_and_bars(found, capsys):
    before = predictions_runs.Beforehand(True, 0.02, 0.5)
    cell = {"scenario": "gauss", "num_tasks": 6, "input_dim": 12, "num_features": 2}
    cell |= {"num_target": 30, "budget": 1200, "part": "runs"}
    row = cell | predictions_results.runs_row(*found, before)
    assert len(row["uniform"]["covered"]) == 4
    names = [check.name for check in predictions_results.checks_of([row])]
    assert sum("runs covered" in name for name in names) == 4
    assert any("beforehand" in name for name in names)
    lost = row | {"lost": 0.2}
    bar = next(c for c in predictions_results.checks_of([lost]) if "beforehand" in c.name)
    assert not bar.passed
    silent = cell | {"part": "pays"} | predictions_results.runs_row(None, None, before)
    predictions_results.print_rows([row, silent])
    assert "covered after rounds" in capsys.readouterr().out


def test_the_file_keeps_what_was_run(tmp_path, monkeypatch, capsys):
    calls = []

    def fake(cell, split, seeds):
        calls.append(split)
        ones = np.ones(len(seeds))
        return predictions_fixed.FixedRisks(ones, 1.05 * ones, ones, ones)

    monkeypatch.setattr(predictions, "fixed_risks", fake)
    argv = ["--parts", "fixed", "--scenarios", "gauss", "--budget", "8000", "--assert"]
    argv += ["--out", str(tmp_path / "found.json")]
    predictions.main(argv)
    predictions.main(argv)
    assert len(calls) == 3
    assert "passed  median deviation" in capsys.readouterr().out
    (tmp_path / "found.json").write_text("[3]")
    with pytest.raises(SystemExit):
        predictions.main(argv)
    assert "no file of this study" in capsys.readouterr().err


@pytest.mark.parametrize("input_dim", [30, 784])
@pytest.mark.parametrize("num_tasks", [1, 40])
def test_calibration_is_bounded_wherever_a_direction_is_lost(num_tasks, input_dim):
    """One feature from where nothing can be told from noise to where it can."""
    free, rows = input_dim - 1.0, 100.0
    least = (np.sqrt(free) + np.sqrt(max(num_tasks - 1, 0))) ** 2
    seen = []
    for strength in (0.2, 0.9, 1.0, 1.01, 1.1, 1.5, 4.0):
        size = np.sqrt(strength * least / rows / num_tasks)
        draws = known_heads(
            np.full((num_tasks, 1), size), [1.0], noise_variance=1.0, input_dim=input_dim
        )
        draws = jax.tree.map(lambda leaf: leaf, draws)._replace(
            heads=jnp.repeat(draws.heads, 200, axis=0),
            target_heads=jnp.repeat(draws.target_heads, 200, axis=0),
        )
        stats = HeadStats(
            gram=jnp.full((num_tasks, 1, 1), rows),
            moment=jnp.full((num_tasks, 1, 1), size * rows),
            energy=jnp.full((num_tasks, 1), 10.0 * rows),
            feature_sum=jnp.zeros((num_tasks, 1)),
            label_sum=jnp.zeros((num_tasks, 1)),
            count=jnp.full(num_tasks, rows),
        )
        found = calibrated_draws(jax.random.key(0), draws, stats, intercept=False)
        seen.append(float(jnp.median(found.target_heads**2)))
    assert np.isfinite(seen).all()
    assert max(seen) <= 10.5  # what is missed is at most nine tenths
    assert np.abs(np.diff(np.log(seen[:5]))).max() < 1.0, "no jump at the threshold"


def test_calibration_undoes_what_a_fit_makes_of_heads():
    # 50 heads along one feature, K = 1, D − K = 29: â = 200 is less than it seems
    num_tasks, rows = 50, 101.0
    heads = jnp.full((200, num_tasks, 1, 1), 0.2)
    draws = HeadDraws(
        heads=heads,
        target_heads=jnp.ones((200, 1, 1, 1)),
        target=jnp.ones((1, 1, 1)),
        noise=jnp.ones((num_tasks, 1)),
        target_noise=jnp.ones((1, 1)),
        free=jnp.asarray(29.0),
        num_features=jnp.asarray(1.0),
    )
    stats = HeadStats(
        gram=jnp.full((num_tasks, 1, 1), rows),
        moment=jnp.full((num_tasks, 1, 1), 0.2 * rows),
        energy=jnp.full((num_tasks, 1), 10.0 * rows),
        feature_sum=jnp.zeros((num_tasks, 1)),
        label_sum=jnp.zeros((num_tasks, 1)),
        count=jnp.full(num_tasks, rows),
    )
    found = calibrated_draws(jax.random.key(0), draws, stats, intercept=False)
    extra, width = 49.0, 29 / (1 - 30 * 0.02 / 100)
    middle = 200 - extra - width
    wanted = (middle + np.sqrt(middle**2 - 4 * extra * width)) / 2
    size = np.sort(np.asarray(jnp.sum(100 * found.heads[..., 0, 0] ** 2, axis=1)))
    assert np.median(size) == pytest.approx(wanted, rel=0.1)
    assert size[20] < 0.8 * wanted, "the correction is uncertain"
    assert (np.asarray(found.target_heads) > 1).mean() > 0.8
    sure = known_heads(heads[0, :, :, 0], [1.0], noise_variance=1.0, input_dim=30)
    counts = jnp.full(num_tasks, rows)
    assert jnp.median(draw_risks(found, counts)) > 1.3 * draw_risks(sure, counts)[0, 0]
