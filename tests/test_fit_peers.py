"""The fit beside training loops: all go down to the same loss, and a bound is said to be one."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mnist_c_files import write_archive

import amtl_jax as amtl
from amtl_jax.experiment.representation import build_encoder, build_fitter
from benchmarks import fit_rows, fit_table, fit_ways, head_ways, peers, torch_fits
from benchmarks.__main__ import main

SIZES = (6, 40, 12, 3)  # M, rows of a task, D, K
NO_TORCH = "PyTorch is not among the packages of the tests"


@pytest.fixture(scope="module")
def problem():
    return fit_table.fit_problem(None, *SIZES)


@pytest.fixture(scope="module")
def ours(problem):
    config = problem.config
    fit = dataclasses.replace(config.fit, penalty=1e-2)
    return fit_ways.our_fit(problem.rows, dataclasses.replace(config, fit=fit))


@pytest.fixture(scope="module")
def optimum(ours):
    return float(fit_ways.optimum(ours).objective)


def test_the_published_loop_makes_the_steps_of_joint_descent(problem):
    pytest.importorskip("torch", reason=NO_TORCH)
    num_steps = 250  # the rate falls twice
    rows, config = problem.rows, problem.published
    config = dataclasses.replace(config, fit=dataclasses.replace(config.fit, num_steps=num_steps))
    loop = torch_fits.published_loop(rows, SIZES[3], config)
    values = [loop.one_pass() for _ in range(num_steps + 1)]
    encoder = build_encoder(config, (SIZES[2],))
    fitter = build_fitter(config, encoder, SIZES[0], SIZES[2])
    batch = amtl.pack(rows.x, rows.y, rows.task, num_tasks=SIZES[0])
    kernel = jnp.asarray(torch_fits.start_kernel(SIZES[2], SIZES[3]).numpy())
    found = jax.jit(fitter.fit)({"params": {"kernel": kernel}}, batch, jnp.float32(0))
    assert values[-1] < 0.9 * values[0]
    assert values[-1] == pytest.approx(float(found.loss), rel=1e-3)


def test_what_is_multiplied_first_changes_a_loop_by_rounding_alone(problem):
    pytest.importorskip("torch", reason=NO_TORCH)
    rows = problem.rows._replace(x=problem.rows.x.astype(np.float64))
    for loops in (
        [torch_fits.published_loop(rows, 3, problem.published, features_first=f) for f in (0, 1)],
        [torch_fits.lbfgs_loop(rows, 3, 1e-2, features_first=f) for f in (0, 1)],
    ):
        one, other = (loop.run(0.0, 0.2).values[:20] for loop in loops)
        assert len(one) == 20
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_optimum_is_that_of_float64(problem, ours, optimum):
    pytest.importorskip("torch", reason=NO_TORCH)
    rows = problem.rows._replace(x=problem.rows.x.astype(np.float64))
    descent = torch_fits.lbfgs_loop(rows, SIZES[3], 1e-2).run(0.0, 2.0)
    assert not descent.is_reached
    assert optimum == pytest.approx(min(descent.values), rel=1e-5)
    assert optimum <= float(ours.result.objective) <= 1.01 * optimum


def test_as_many_passes_as_are_needed_and_no_fewer(ours, optimum):
    wanted = 1.0001 * optimum
    passes = fit_ways.passes_within(ours, wanted, most=16)
    assert passes > 1
    batch, config = ours.batch, ours.config
    for steps, is_enough in ((passes, True), (passes - 1, False)):
        fitter = amtl.lbfgs_fitter(
            build_encoder(config, (SIZES[2],)), num_tasks=SIZES[0], num_steps=steps, tolerance=0.0
        )
        params = fitter.init(jax.random.key(0), batch, ours.penalty)
        found = jax.jit(fitter.fit)(params, batch, ours.penalty)
        assert (float(found.objective) <= wanted) == is_enough


def test_every_loop_reaches_the_loss_of_the_fit(problem):
    pytest.importorskip("torch", reason=NO_TORCH)
    table = fit_table.fit_table(problem, rounds=2, most_seconds=60.0, with_torch=True)
    ways = {row.way: row for row in table.rows}
    assert next(iter(ways)) == fit_table.BASE
    assert len(ways) == 5
    for row in table.rows:
        assert row.is_reached, row
        assert row.passes > 1
        assert row.pass_seconds > 0 or row.way == fit_table.BASE  # a difference of two times
    loop = torch_fits.published_loop(problem.rows, SIZES[3], problem.published)
    for passes in range(ways["PyTorch, published loop"].passes):
        value = loop.one_pass()
        assert (value <= table.loss) == (passes + 1 == ways["PyTorch, published loop"].passes)
    assert ways["PyTorch L-BFGS"].ratio[0] == pytest.approx(
        ways["PyTorch L-BFGS"].seconds / ways["amtl_jax"].seconds, rel=0.9
    )
    assert 1 <= table.passes_within <= ways["amtl_jax"].passes
    assert table.torch_passes_within <= ways["PyTorch L-BFGS"].passes
    assert ">" not in fit_table.markdown(table.rows)


def test_a_loss_that_is_not_reached_is_a_bound(problem):
    pytest.importorskip("torch", reason=NO_TORCH)
    for loop in (
        torch_fits.published_loop(problem.rows, SIZES[3], problem.published),
        torch_fits.lbfgs_loop(problem.rows, SIZES[3], 1e-2),
    ):
        descent = loop.run(0.0, 0.1)
        assert not descent.is_reached
        assert len(descent.values) > 1
        assert min(descent.values) > 0
    row = fit_table.FitRow("slow", 0.5, 20, False, 10.0, (5.0, 4.0, 6.0))
    assert "| slow | 500.0 | > 20 | > 10 | > 5 [4, 6] |" in fit_table.markdown([row])
    row = row._replace(is_reached=True)
    assert "| slow | 500.0 | 20 | 10 | 5 [4, 6] |" in fit_table.markdown([row])


@pytest.mark.parametrize("skewed", [False, True])
def test_torch_finds_the_heads_of_float64(skewed):
    pytest.importorskip("torch", reason=NO_TORCH)
    rows = head_ways.make_rows(6, 5, 400, largest=0.2 if skewed else None)
    truth = head_ways.in_float64(rows)
    padded = head_ways.pad(rows)
    for way in (head_ways.torch_loop(rows), head_ways.padded_torch(padded, rows.ridge)):
        heads, biases = way.call()
        np.testing.assert_allclose(np.asarray(heads), truth, rtol=1e-4, atol=1e-5)
        expected = [y.mean() - x.mean(axis=0) @ head for (x, y), head in _tasks(rows, truth)]
        np.testing.assert_allclose(np.asarray(biases), expected, rtol=1e-4, atol=1e-5)


def _tasks(rows, heads):
    return [(rows.rows_of(task), head) for task, head in enumerate(heads)]


def test_rows_of_mnist_c_are_those_of_every_other_corruption(tmp_path):
    root = write_archive(tmp_path / "mnist_c")
    rows = fit_rows.mnist_c_rows(root, without="fog", rows_each=15, num_source=20)
    assert rows.num_tasks == 150
    assert rows.x.shape == (150 * 15, 784)
    assert 0 <= rows.x.min() < rows.x.max() <= 1
    assert set(np.unique(rows.y)) == {0, 1}
    slices = rows.slices()
    assert [own.stop - own.start for own in slices] == [15] * 150
    assert all((rows.task[own] == task).all() for task, own in enumerate(slices))
    with pytest.raises(ValueError, match="were asked for"):
        fit_rows.mnist_c_rows(root, without="fog", rows_each=21, num_source=20)


def test_made_rows_have_the_spectrum_of_images_and_labels_of_low_rank():
    rows = fit_rows.made_rows(30, 200, 40)
    assert rows.x.shape == (6000, 40)
    values = np.linalg.svd(rows.x - rows.x.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(values / values[0], 1 / np.arange(1, 41), rtol=0.1)
    assert rows.y.mean() == pytest.approx(0.1, abs=0.02)
    assert rows.y.std() == pytest.approx(0.3, abs=0.02)
    residuals = [
        rows.y[own] - rows.x[own] @ np.linalg.lstsq(rows.x[own], rows.y[own])[0]
        for own in rows.slices()
    ]
    assert np.std(residuals) == pytest.approx(0.2 * np.sqrt(160 / 200), rel=0.1)


def test_the_fit_alone_and_without_torch(tmp_path, capsys, monkeypatch):
    out = tmp_path / "peers.json"
    monkeypatch.setattr(peers, "has_torch", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "peers", "--quick", "--rounds", "2"])
    sys.argv += ["--only", "fit", "--out", str(out)]
    main()
    printed = capsys.readouterr().out
    assert printed.count(peers.NO_TORCH) == 1
    assert "pip install" in peers.NO_TORCH
    assert printed.count("| amtl_jax |") == 1
    found = json.loads(out.read_text())
    (rows,) = found["tables"].values()
    assert [row["way"] for row in rows] == ["amtl_jax"]
    assert rows[0]["ratio"] == [1, 1, 1]
    assert found["fit"]["objective"] < 1.01 * found["fit"]["optimum"]
    assert found["fit"]["torch_passes_within"] is None
    assert found["fit"]["speeds"]["read"] > 0


def test_an_archive_is_not_quick(capsys):
    with pytest.raises(SystemExit):
        peers.main(["--quick", "--root", "mnist_c"])
    assert "leave --root out" in capsys.readouterr().err
