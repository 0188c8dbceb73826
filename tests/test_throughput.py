"""Throughput: counts that a reader can check, rates of them, and the command from end to end."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import amtl_jax as amtl
from amtl_jax.encoders.conv import conv_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.experiment.validation import check
from benchmarks import counts, jobs, machine, throughput, throughput_fits, throughput_study
from benchmarks.counts import Work
from benchmarks.jobs import Job
from benchmarks.timing import Way

ROOT = Path(__file__).parent.parent
CEILING = machine.Ceiling(copy=1e9, matmul=4e9)


def test_counts_of_a_row_of_two_features():
    # φφᵀ 4, φy 2, φ 2 and y² 1: nine products, each with its addition.
    # Read are 2 features, a label and a weight; written 4 + 2 + 1 + 2 + 1 + 1 sums.
    assert counts.statistics(1, 2, 1) == Work(2 * 9, 4 * (4 + 11))
    # With a second output φy takes 2 more, y² one more; of the sums moment and energy and Σy grow.
    assert counts.statistics(1, 2, 1, 2) == Work(2 * 12, 4 * (5 + 15))
    assert counts.statistics(10, 2, 3) == Work(20 * 9, 4 * (10 * 4 + 3 * 11))


def test_counts_of_heads_of_three_features():
    # 27/3 for the factor and as much for its inverse, 18 for means, 18 each for triangles and
    # residuals; 9 + 3 + 1 + 3 + 1 + 1 read, 3 + 1 + 1 written.
    found = counts.solution(2, 3)
    assert found.operations == pytest.approx(2 * (9 + 9 + 18 + 18 + 18))
    assert found.bytes == 2 * 4 * (18 + 5)


def test_counts_of_relevance_share_the_factor():
    # W [3, 2]: 2·9·2 for WWᵀ and 9 for its factor; of a target 18 and 12.
    assert counts.min_norm(2, 1, 3) == Work(36 + 9 + 30, 4 * (6 + 5))
    assert counts.min_norm(2, 4, 3) == Work(45 + 4 * 30, 4 * (6 + 4 * 5))


def test_counts_of_passes():
    # A row of 5 inputs: xᵀθ takes 10, ω x r takes 10; read are x, y and the weight.
    assert counts.linear_pass(3, 5) == Work(3 * 20, 4 * 3 * 7)
    assert counts.linear_pass(3, 5).times(2) == Work(120, 168)
    # 4 → 3 → 2: forward 24 + 12, by weights as much, by the inputs of the second layer 12; heads:
    # predictions and back 16, statistics and heads of one task.
    heads = counts.statistics(1, 2, 1).operations + counts.solution(1, 2).operations
    assert counts.mlp_pass(1, (4, 3, 2), 1) == Work(84 + 16 / 2 + heads, 4 * 6)
    # 4 × 4 pixels, 1 → 2 → 3 channels, 2 features: 2·9·16·2 = 576 and 2·9·16·6 = 1,728 forward,
    # the dense layer 2·12·2 = 48, a head 4. Back twice that, but the first layer once.
    assert counts.conv_pass(1, 4, (2, 3), 2) == Work(2 * 576 + 3 * (1728 + 48 + 4), 4 * 18)
    assert counts.image_pass(2, 9).bytes == 4 * 36
    assert math.isnan(counts.image_pass(2, 9).operations)


def test_a_forward_pass_is_what_the_compiler_counts():
    """Forward is a third of what is counted of a layer, and in the first layer a half."""
    conv = conv_encoder(5, channels=(4, 6))
    first, second, dense = 2 * 9 * 64 * 4, 2 * 9 * 64 * 24, 2 * 16 * 6 * 5
    assert counts.conv_pass(50, 8, (4, 6), 5).operations == 50 * (
        2 * first + 3 * (second + dense + 10)
    )
    assert flops(conv, jnp.ones((50, 8, 8, 1))) == pytest.approx(
        50 * (first + second + dense), rel=0.25
    )


def flops(encoder, x):
    """Operations of a forward pass, biases and pools among them."""
    params = encoder.init(jax.random.key(0), x)
    return jax.jit(encoder.apply).lower(params, x).compile().cost_analysis()["flops"]


def test_a_difference_of_two_ways_is_that_of_their_goes():
    long, short = (Way(lambda seconds=seconds: time.sleep(seconds)) for seconds in (0.2, 0.04))
    plain = Job("a", "", short, 1, "rows")
    difference = Job("b", "", long, 1, "rows", less=short, goes=4)
    found = jobs.time_jobs([plain, difference], rounds=3)
    assert [len(one) for one in found] == [3, 3]
    assert np.median(found[0]) == pytest.approx(0.04, rel=0.5)
    assert np.median(found[1]) == pytest.approx(0.04, rel=0.5)


def test_a_short_job_is_called_for_ten_milliseconds_a_round():
    calls = []
    job = Job("a", "", Way(lambda: calls.append(time.sleep(0.001))), 1, "rows")
    (seconds,) = jobs.time_jobs([job], rounds=2)
    assert len(calls) >= 2 + 3 * 3  # to see how long it takes, then a round to warm and two
    assert (seconds >= 0.001).all()
    assert np.median(seconds) < 0.005


def test_passes_are_those_of_fits_that_make_all_their_steps():
    rng = np.random.default_rng(0)
    x, task = rng.normal(size=(40, 6)), np.arange(40) % 4
    batch = amtl.pack(x, x @ rng.normal(size=6), task, num_tasks=4)
    encoder = linear_encoder(2)

    def joint(steps):
        return amtl.joint_descent_fitter(
            encoder, optax.adadelta(0.01), num_tasks=4, num_steps=steps
        )

    way, less = jobs.passes(joint, batch, first=2, goes=3)
    assert int(way.call().steps) == 5
    assert int(less.call().steps) == 2
    assert way.compile_seconds > 0

    def stops(steps):
        return amtl.lbfgs_fitter(encoder, num_tasks=4, num_steps=steps, tolerance=0.5, window=2)

    with pytest.raises(RuntimeError, match="expects a fit of 50 steps, got one of"):
        jobs.passes(stops, batch, first=10, goes=40)


def test_rates_and_shares_of_a_row():
    way = Way(lambda: None, 1.5, 3e6)
    job = Job("sums", "N = 10", way, 10, "rows", Work(operations=4e6, bytes=3e6))
    row = throughput.row_of(job, np.array([0.001, 0.002, 0.004]), CEILING)
    assert row.seconds == 0.002
    assert row.quartiles == (0.0015, 0.003)
    assert (row.per_second, row.flops, row.bandwidth) == (5000, 2e9, 1.5e9)
    assert (row.compute_share, row.copy_share) == (0.5, 1.5)
    assert throughput.line(row) == (
        "| sums | N = 10 | 2.00 | 5,000 rows | 2.0 | 1.50 | 150% copy | 1.5 | 3.0 |"
    )
    faster = throughput.row_of(job._replace(work=Work(4e6, 1e5)), np.full(3, 0.0005), CEILING)
    assert "| 0.500 | 20,000 rows | 8.0 | 0.20 | 200% matmul |" in throughput.line(faster)


def test_what_is_not_known_is_left_empty():
    job = Job("solver", "", Way(lambda: None), 3, "targets")
    row = throughput.row_of(job, np.full(3, 0.5), CEILING)
    assert throughput.line(row) == "| solver |  | 500.00 | 6 targets |  |  |  |  |  |"
    noise = throughput.row_of(job, np.array([-0.1, -0.1, 0.1]), CEILING)
    assert throughput.line(noise) == "| solver |  | below noise |  |  |  |  |  |  |"
    columns = throughput.header().splitlines()
    assert {one.count("|") for one in (*columns, throughput.line(row))} == {10}


def test_jobs_have_the_sizes_they_say():
    for part in ("heads", "relevance", "corruptions"):
        for job in throughput.jobs_of(part, quick=True):
            assert job.number > 0
            assert str(job.number) in job.sizes, job.what
            assert job.way.compile_seconds > 0
            found = job.way.call()
            nu = getattr(found, "nu", None)
            assert nu is None or (nu.shape == (4, 12) and bool(found.ok.all())), job.what


def test_a_batch_has_the_rows_of_its_budget_and_images_are_square():
    sizes = throughput_fits.FitSizes(4, 16, 3, 120, 20, 40)
    batch = throughput_fits.make_batch(sizes, sizes.budget)
    rows = np.bincount(np.repeat(batch.task, batch.weight.sum(axis=1).astype(int)))
    assert rows.tolist() == [30, 30, 30, 30, 20]
    images = throughput_fits._images(sizes)
    assert images.x.shape[2:] == (4, 4, 1)
    assert throughput_fits._rows_of(images) == 40


def test_a_pass_reads_all_rows():
    sizes = throughput_fits.FitSizes(4, 16, 3, 120, 20, 40)
    batch = throughput_fits.make_batch(sizes, sizes.budget)
    job = throughput_fits.pass_job(batch, 5, 140)
    rows, sums = job.way.call()
    # θ of ones: xᵀθ is the sum of the inputs, and Σ ω x r follows from it.
    np.testing.assert_allclose(rows[0], np.sum(batch.x, axis=-1), rtol=1e-4, atol=1e-5)
    flat = (batch.weight * rows[1])[..., None] * batch.x
    expected = np.zeros((5, 16))
    np.add.at(expected, np.asarray(batch.task), np.asarray(flat.sum(axis=1)))
    np.testing.assert_allclose(sums[1], expected, rtol=1e-4, atol=1e-4)
    assert job.work == counts.linear_pass(140, 16)


def test_seconds_of_a_study_are_those_between_its_contexts(monkeypatch):
    seen, clock = [], iter([100.0, 106.0, 106.0, 108.0] * 2)
    monkeypatch.setattr(throughput_study, "time", SimpleNamespace(perf_counter=clock.__next__))

    def fake(config, workdir, *, observer):
        check(config)
        seen.append(config)
        assert workdir.parent == Path(config.data.root)
        images = np.load(Path(config.data.root) / "fog" / "train_images.npy")
        assert images.shape == (40, 28, 28)
        assert images.dtype == np.uint8
        for _ in range(2):
            observer.working("a context")
            observer.finished(1, 2)

    monkeypatch.setattr(throughput_study, "study", fake)
    sizes = throughput._QUICK_STUDY
    assert throughput_study.study_seconds(sizes).tolist() == [6.0, 2.0]
    (config,) = seen
    assert len(config.study.seeds) == sizes.num_contexts
    row = throughput.study_row(sizes)
    assert (row.seconds, row.compile_seconds) == (2.0, 4.0)
    assert row.per_second == sizes.num_targets / 2


def test_the_command_prints_a_table_and_writes_json(tmp_path):
    out = tmp_path / "throughput.json"
    command = ["-m", "benchmarks", "throughput", "--quick", "--rounds", "2", "--out", str(out)]
    told = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = [line for line in told.stdout.splitlines() if line.startswith("|")]
    found = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert len(found["rows"]) == len(lines) - 2 == 8
    assert "Peak memory of the process" in told.stdout
    assert found["peak_bytes"] > 1e8
    assert found["ceiling"]["precision"] == "float32, HIGHEST"
    assert found["machine"]["jax"]
    by_name = {row["what"]: row for row in found["rows"]}
    assert by_name["lasso"]["flops"] is None
    first = by_name["statistics"]
    assert first["flops"] == pytest.approx(2 * 400 * 36 / first["seconds"])
    assert first["compute_share"] == pytest.approx(first["flops"] / found["ceiling"]["matmul"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "1"], "--rounds expects at least 2, got 1."),
        (["--parts", "nothing"], "invalid choice: 'nothing'"),
        (["--cores", "0"], "--cores expects 1 to"),
        (["--slow"], "unrecognized arguments: --slow"),
    ],
)
def test_wrong_options_are_refused_in_a_line(words, message, capsys):
    with pytest.raises(SystemExit) as error:
        throughput.main(words)
    text = capsys.readouterr().err or str(error.value)
    assert message in text
    assert len(text.strip().splitlines()) == 1
    assert error.value.code not in (0, None)


def test_a_folder_is_no_file(tmp_path, capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--out", str(tmp_path)])
    assert f"--out expects a file, got the folder {tmp_path}." in capsys.readouterr().err
