"""The simulation of allocation rules: its samples, its arms, its file and its bars, in small."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from amtl_jax.data.scenarios import synthetic_truth
from amtl_jax.data.synthetic import SyntheticSource
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.fitting.gram import gram_fitter
from amtl_jax.learner import active_learner
from amtl_jax.packing import max_blocks, pack
from amtl_jax.round_plan import SCHEDULE
from amtl_jax.strategies.l1_a_mtrl import l1_a_mtrl
from benchmarks import curves_campaign, curves_checks, learning_curves
from benchmarks.curves_arms import ARMS
from benchmarks.curves_campaign import Cell, run_arm, split_at_once
from benchmarks.curves_prices import priced_learner
from benchmarks.curves_results import (
    completed,
    new_row,
    place_of,
    ratio_of,
    read_rows,
    write_rows,
)
from benchmarks.curves_rows import packed_rows
from benchmarks.curves_truths import Sizes, draw_truths

SIZES = Sizes(num_tasks=5, input_dim=10, num_features=2)
SMALL = ["--num-tasks", "5", "--input-dim", "10", "--features", "2", "--budget", "1500"]
SMALL += ["--target-samples", "60", "--seeds", "3"]  # as below: programs are compiled once


def first(truths):
    """The truth of the first seed, without the seeds' axis."""
    return jax.tree.map(lambda leaf: leaf[0], truths)


@pytest.mark.parametrize("scenario", ["gauss", "noise", "mis"])
def test_the_device_packs_what_the_source_draws(scenario):
    counts, num_target, block_rows = np.array([7, 0, 40, 8, 1]), 11, 8
    num_blocks = max_blocks(counts.sum() + num_target, 6, block_rows)
    key = jax.random.key(3)
    found = jax.jit(packed_rows, static_argnums=3, static_argnames=("num_blocks", "block_rows"))(
        key,
        first(draw_truths(scenario, [4], SIZES)),
        jnp.asarray(counts, jnp.int32),
        num_target,
        num_blocks=num_blocks,
        block_rows=block_rows,
    )
    source = SyntheticSource(synthetic_truth(scenario, seed=4, **SIZES._asdict()))
    rows, own = source.draw(key, counts), source.draw_target(key, num_target)
    x, y, task = (np.concatenate(parts) for parts in zip(rows[:3], own[:3], strict=True))
    expected = pack(x, y, task, num_tasks=6, block_rows=block_rows, num_blocks=num_blocks)
    np.testing.assert_array_equal(found.task, expected.task)
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_allclose(found.x, expected.x, atol=1e-5)
    np.testing.assert_allclose(found.y, expected.y, atol=1e-5)


def test_too_few_blocks_show_as_missing_rows():
    batch = packed_rows(
        jax.random.key(0),
        first(draw_truths("gauss", [0], SIZES)),
        jnp.full(5, 9, jnp.int32),
        8,
        num_blocks=10,
        block_rows=8,
    )
    assert batch.weight[batch.task == 5].sum() == 0, "the target's block was the eleventh"


@pytest.mark.parametrize("scenario", ["gauss", "noise"])
def test_known_buys_the_best_split_and_uniform_the_even_one(scenario):
    truth = first(draw_truths(scenario, [1], SIZES))
    cell = Cell(scenario, budget=3000, sizes=SIZES)
    price = np.ones(5) if truth.price is None else np.asarray(truth.price, float)
    cost = np.sqrt(price) * truth.noise[:-1]
    # Σ √c σ |nu| over W nu = w_T, in positive and negative parts
    heads = np.asarray(truth.heads, float).T
    solution = scipy.optimize.linprog(
        np.tile(cost, 2), A_eq=np.hstack([heads, -heads]), b_eq=truth.target_head
    )
    nu = np.abs(solution.x[:5] - solution.x[5:])
    share = truth.noise[:-1] * nu / np.sqrt(price)
    expected = 3000 * share / (price * share).sum()
    split = jax.jit(split_at_once, static_argnums=(0, 1))
    known = np.asarray(split(cell, ARMS["known"], truth))
    # What is left of the money behind the rounding buys samples of others.
    np.testing.assert_allclose(known, expected, atol=2 if scenario == "gauss" else 5)
    uniform = np.asarray(split(cell, ARMS["uniform"], truth))
    assert uniform.max() - uniform.min() <= (0 if scenario == "gauss" else 3)
    for counts in (known, uniform):
        assert 3000 - price.max() < (price * counts).sum() <= 3000 * (1 + 1e-6)


def test_a_rule_learns_within_its_money_and_improves_on_uniform():
    cell = Cell("dup", num_target=60, budget=1500, sizes=SIZES)
    seeds = range(2, 5)
    uniform, rule = (run_arm(cell, ARMS[name], seeds) for name in ("uniform", "l1_a_mtrl"))
    np.testing.assert_array_equal(rule.counts.sum(axis=1), 1500)
    assert (rule.counts.argmax(axis=1) == 4).all(), "the last source alone knows the target"
    assert rule.risk.mean() < 0.7 * uniform.risk.mean()
    chunks = run_arm(cell, ARMS["uniform"], range(5), chunk=3)  # the second one is padded
    np.testing.assert_allclose(chunks.risk[2:], uniform.risk, rtol=1e-3)

    priced = cell._replace(scenario="noise")
    price = draw_truths("noise", seeds, SIZES).price
    paid = (price * run_arm(priced, ARMS["l1_a_mtrl"], seeds).counts).sum(axis=1)
    assert (paid <= 1500 * (1 + 1e-6)).all()
    assert (paid > 1500 - 4 * price.max()).all()


@pytest.mark.parametrize("cumulative", [False, True])
def test_traced_prices_buy_what_given_prices_buy(cumulative):
    price = np.array([0.4, 2.5, 1.0, 0.7, 3.0])
    fitter = gram_fitter(linear_encoder(2), num_tasks=6, intercept=False)
    sizes = {"num_target": 20, "budget": 900.0, "penalty": 1e-7}
    given = active_learner(fitter, l1_a_mtrl(), num_sources=5, price=price, **sizes)
    batch = pack(np.zeros((6, 10)), np.zeros(6), np.arange(6), num_tasks=6)
    state = given.init(jax.random.key(0), batch)
    scores = jnp.array([300.0, 5.0, 0.0, 120.0, 90.0])
    state = state._replace(
        round=jnp.int32(2),
        spent=jnp.array([100, 20, 31, 60, 40], jnp.int32),
        paid=jnp.float32(40 + 50 + 31 + 42 + 120),
        proposal=state.proposal._replace(scores=scores, cumulative=jnp.asarray(cumulative)),
    )

    @jax.jit
    def ask(price, state):
        learner = priced_learner(
            fitter, l1_a_mtrl(), price, schedule=SCHEDULE, join_target=False, **sizes
        )
        return learner.ask(jax.random.key(0), state)

    expected = given.ask(jax.random.key(0), state)
    np.testing.assert_array_equal(ask(jnp.asarray(price, jnp.float32), state), expected)
    assert expected.min() == 7, "the floor, three tenths of the round's 199"


def test_the_command_keeps_rows_and_resumes(tmp_path, monkeypatch, capsys):
    out, plots = tmp_path / "curves.json", tmp_path / "figures"
    command = [*SMALL, "--scenarios", "gauss", "--strategies", "l1_a_mtrl"]
    command += ["--out", str(out)]
    learning_curves.main(command)
    rows = json.loads(out.read_text())
    assert [row["strategy"] for row in rows] == ["uniform", "known", "l1_a_mtrl"]
    row = rows[-1]
    risks, uniform, known = (np.asarray(one["risks"]) for one in (row, *rows[:2]))
    assert row["scenario"] == "gauss"
    assert row["mean_risk"] == pytest.approx(risks.mean(), rel=1e-5)
    assert row["mean_ratio_uniform"] == pytest.approx(risks.mean() / uniform.mean(), rel=1e-5)
    assert row["mean_ratio_known"] == pytest.approx(risks.mean() / known.mean(), rel=1e-5)
    assert row["median_ratio_uniform"] == pytest.approx(np.median(risks / uniform), rel=1e-5)
    assert row["share_worse"] == np.mean(risks > uniform)
    low, high = row["interval_ratio_uniform"]
    assert low <= row["mean_ratio_uniform"] <= high
    assert row["predicted_over_measured"] == pytest.approx(
        np.mean(row["predicted_risks"]) / risks.mean(), rel=1e-5
    )
    assert "| gauss    | 5 | 60  | 1,500 | l1_a_mtrl" in capsys.readouterr().out

    def refuse(*arguments, **options):
        raise AssertionError("what the file holds is not run again")

    monkeypatch.setattr(learning_curves, "run_arm", refuse)
    learning_curves.main([*command, "--plots", str(plots)])
    assert json.loads(out.read_text()) == rows
    assert [path.name for path in plots.iterdir()] == ["ratios_M5_nT60_N1500.png"]
    with pytest.raises(AssertionError, match="not run again"):
        learning_curves.main([*command, "--first-seed", "3"])


def results(uniform=1.0, without=(), seeds=range(4)):
    """Rows of the acceptance cells that pass every bar; `uniform` scales that arm's risks."""
    rows = []
    for bar in curves_checks.BARS:
        cell = Cell(bar.scenario, bar.num_target, bar.budget)
        risk = {"gauss": 0.0202, "dup": 0.23, "dup2": 0.057}.get(bar.scenario, 0.01)
        ratio = np.mean(bar.uniform_over_known)
        share = 0.9 * min(bar.ratio_uniform, bar.ratio_known / ratio)
        each = np.array([0.9, 1.1, 1.0, 1.0])
        risks = {
            "uniform": uniform * risk * each,
            "known": risk / ratio * each,
            "c_optimal": share * risk * each,
            "control": risk * np.array([2.0, 2, 2, 0.5]),
        }
        outcomes = {
            name: curves_campaign.Outcome(own, np.full((4, 40), 200))
            for name, own in risks.items()
            if name not in without
        }
        rows += completed(
            [new_row(cell, name, seeds, one, one.risk, 1.0) for name, one in outcomes.items()]
        )
    return rows


def test_assert_passes_good_results_and_fails_doctored_ones(tmp_path, capsys):
    out = tmp_path / "curves.json"
    command = ["--assert", "--seeds", "4", "--out", str(out)]
    write_rows(out, results())
    learning_curves.main(command)
    printed = capsys.readouterr().out
    assert "FAILED" not in printed
    assert "dup2: control worse than uniform: 0.75, expected >= 0.6" in printed
    assert printed.count("passed") == 9 * 4 + 3 + 2 + 9 + 9

    write_rows(out, results(uniform=0.8))
    with pytest.raises(SystemExit, match="1"):
        learning_curves.main(command)
    printed = capsys.readouterr().out
    assert "FAILED  gauss: risk of uniform: 0.01616, expected >= 0.01818 and <= 0.02222" in printed


def test_a_check_without_its_run_fails(capsys):
    rows = results(without=("control",))
    checks = {check.name: check for check in curves_checks.checks_of(rows)}
    missing = checks["dup: control worse than uniform"]
    assert missing.value is None
    assert not missing.passed
    assert not curves_checks.print_checks([missing])
    assert "not run" in capsys.readouterr().out
    assert not curves_checks.print_checks([]), "nothing checked is nothing shown"


def test_a_ratio_is_that_of_means_with_its_interval():
    generator = np.random.default_rng(0)
    reference = generator.lognormal(size=200)
    own = reference * generator.lognormal(-0.5, 0.3, size=200)
    found = ratio_of(own, reference)
    assert found.mean == pytest.approx(own.mean() / reference.mean())
    drawn = generator.integers(200, size=(4000, 200))
    low, high = np.quantile(own[drawn].mean(axis=1) / reference[drawn].mean(axis=1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert found.worse == np.mean(own > reference)


def test_results_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "other.json"
    assert read_rows(path) == []
    path.write_text('{"gauss": 1}')
    with pytest.raises(ValueError, match="is no file of this study: expected a list of rows"):
        read_rows(path)
    path.write_text("scenario,risk")
    with pytest.raises(ValueError, match="is no JSON file of results"):
        read_rows(path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--scenarios", "nothing"], "invalid choice: 'nothing' (choose from"),
        (["--strategies", "best"], "invalid choice: 'best' (choose from"),
        (["--seeds", "0"], "expected a number of at least 1, got 0"),
        (["--rank", "bic"], "expected a number or aic, got 'bic'"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(command, message, capsys):
    with pytest.raises(SystemExit):
        learning_curves.main(command)
    assert message in capsys.readouterr().err


def test_a_scenario_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="Unknown scenario 'nothing'; expected one of gauss, one"):
        draw_truths("nothing", [0], SIZES)


def test_places_tell_cells_apart():
    cells = [Cell("gauss"), Cell("gauss", join_target=True), Cell("gauss", rank="aic")]
    places = [tuple(place_of(cell, range(3)).items()) for cell in cells]
    assert len(set(places)) == 3
