"""The dry run: what it counts is what a run does, and it leaves nothing behind."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from tiny_runs import BUDGETS, NUM_ROUNDS, metrics_of, tiny

from amtl_jax.experiment import preview as module
from amtl_jax.experiment.config import ConfigError, EncoderConfig, FitConfig, SyntheticConfig
from amtl_jax.experiment.dry_run import describe
from amtl_jax.experiment.preview import Cost, Preview, preview, seconds_range


@pytest.fixture(scope="module")
def found(whole):
    return preview(tiny())  # `whole` compiled its round


@pytest.fixture
def untimed(monkeypatch):
    """Traces what would be timed, and neither compiles nor runs it."""

    def timed(function, *arguments):
        jax.eval_shape(function, *arguments)
        return Cost(1.0, False, 1.0, None)

    monkeypatch.setattr(module, "_timed", timed)


def test_counts_are_those_of_the_run(found, whole):
    lines = metrics_of(whole[0])
    assert found.num_rounds == NUM_ROUNDS
    assert found.num_seeds * sum(found.num_rounds.values()) == len(lines)
    assert found.budgets == BUDGETS
    for line in lines:
        if line["counts"]:
            assert sum(line["counts"]) == found.budgets[line["round"]]
            assert min(line["counts"]) >= found.floors[line["round"]]
    assert (found.num_sources, found.num_target, found.num_test) == (5, 20, 50)
    assert (found.target, found.available, found.has_prices) == ("dup target", None, False)
    # Seeds × (the shared first round's fits + two later rounds of four arms), λ from two; every
    # round fits the sources, and then all tasks.
    assert found.num_fits == (2 * (2 + 2 + 16), 2 * (2 + 2 + 16))


def test_memory_is_that_of_the_batch(found):
    blocks, rows, inputs = found.batch_shape
    assert inputs == 6
    assert blocks * rows >= 220
    assert found.batch_bytes == 4 * (blocks * rows * (6 + 1 + 1) + blocks)
    assert found.cost.work_bytes > 0


def test_time_is_measured(found):
    low, high = seconds_range(found)
    assert found.cost.seconds > 0
    assert found.cost.compile_seconds > 0
    assert not found.cost.is_bound
    assert low == high >= found.cost.compile_seconds + 40 * found.cost.seconds


def test_a_long_fit_is_extrapolated_not_run(monkeypatch):
    """A fit of s steps takes 1 + 2 s seconds: 201 for a hundred, of which 5 + 25 are run."""
    asked = []

    def short_fit(setting, num_steps, batch):
        asked.append(num_steps)
        return Cost(1.0 + 2.0 * num_steps, False, 3.0, 7)

    monkeypatch.setattr(module, "_short_fit", short_fit)
    monkeypatch.setattr(module, "_timed", pytest.fail)
    config = tiny(fit=FitConfig(num_steps=100, penalties=(1e-2, 1e-3)))
    cost = preview(config).cost
    assert asked == [2, 12]
    assert cost == Cost(201.0, True, 3.0, 7)


def test_one_given_penalty_is_one_fit_a_round(untimed):
    config = tiny(fit=FitConfig(num_steps=20, penalty=1e-3), arms=("uniform",), seeds=(0, 1, 2))
    assert preview(config).num_fits == (18, 18)


@pytest.mark.parametrize(
    ("in_fit", "in_final_fit", "weigh_noise", "fits"),
    [(False, False, False, 1), (True, True, False, 2), (False, True, True, 3)],
)
def test_fits_of_a_round_are_those_of_the_learner(
    in_fit, in_final_fit, weigh_noise, fits, untimed, monkeypatch
):
    """Every fit of a round is a call of the fitter while `tell` is traced."""
    config = tiny(
        target_in_fit=in_fit,
        target_in_final_fit=in_final_fit,
        fit=FitConfig(num_steps=20, penalty=1e-3, weigh_noise=weigh_noise),
        arms=("uniform",),
        seeds=(0,),
    )
    calls, build_fitter = [], module.build.build_fitter

    def counted(*arguments):
        fitter = build_fitter(*arguments)

        def fit(params, batch, penalty):
            calls.append(1)
            return fitter.fit(params, batch, penalty)

        return fitter._replace(fit=fit)

    monkeypatch.setattr(module.build, "build_fitter", counted)
    setting = module.prepare(config, module.Observer())
    state = module._state(setting)
    jax.eval_shape(setting.learner.tell, jax.random.key(0), state, module._whole_batch(setting))
    # The path over λ traces its one fit twice: for its shapes, and in its loop.
    assert len(calls) == fits + 1
    assert preview(config).num_fits == (3 * fits, 3 * fits)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": SyntheticConfig(scenario="noise", num_tasks=5, input_dim=6, num_features=3)},
        {"encoder": EncoderConfig(kind="mlp", num_features=3, widths=(4,))},
        {"encoder": EncoderConfig(kind="identity")},
    ],
    ids=["prices", "mlp", "identity"],
)
def test_every_kind_is_described(changes, untimed):
    config = tiny(fit=FitConfig(num_steps=2, penalty=1e-3), seeds=(0,), **changes)
    found = preview(config)
    text = describe(found)
    assert found.has_prices == ("money for" in text)
    assert f"{found.batch_shape[0]} blocks" in text


def test_without_an_arm_that_buys():
    found = preview(tiny(arms=("target_only",), seeds=(0,)))
    assert (found.cost, found.batch_shape, found.budgets) == (None, None, ())
    assert seconds_range(found) == (0.0, 0.0)
    assert "target_only 1 round; with 1 seed 1 round\n" in describe(found)


def test_wrong_numbers_are_told():
    with pytest.raises(ConfigError, match="at least one sample in each of 3 rounds"):
        preview(tiny(budget=2))


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preview(tiny(arms=("target_only",)))
    assert os.listdir(tmp_path) == []


GOLDEN = Preview(
    name="job",
    target="fog_3",
    device="cpu",
    num_sources=150,
    available=525_000,
    num_target=400,
    num_test=1000,
    num_seeds=3,
    num_rounds={"target_only": 1, "uniform": 2},
    budgets=(4500, 10_500),
    floors=(6, 14),
    has_prices=False,
    batch_shape=(389, 64, 784),
    batch_bytes=78_274_580,
    num_fits=(15, 30),
    cost=Cost(seconds=2.0, is_bound=False, compile_seconds=12.0, work_bytes=30_286_067),
    draw_seconds=0.1,
)


def test_words():
    assert describe(GOLDEN).splitlines() == [
        "job: target fog_3, 400 rows to learn from and 1,000 to test on, on cpu",
        "sources  150, 525,000 samples in all",
        "arms     target_only 1 round, uniform 2 rounds; with 3 seeds 9 rounds",
        "round 1  4,500 samples an arm, of these at least 6 a source",
        "round 2  10,500 samples an arm, of these at least 14 a source",
        "memory   packed batch of 389 blocks × 64 rows × 784 inputs: 78.3 MB; a round needs "
        "30.3 MB besides it, as the compiler plans",
        "         not counted: the data on the host, the test rows, and JAX itself",
        "time     about 40 s to 70 s: 15 to 30 fits, each 2 s, after 12 s of compiling, as "
        "measured now",
        "         not counted: loading the data, checkpoints, and the final intervals",
        "A dry run: nothing was started, nothing written.",
    ]
    bound = GOLDEN._replace(
        cost=GOLDEN.cost._replace(seconds=600.0, is_bound=True, work_bytes=None)
    )
    text = describe(bound)
    assert "at most about 5.0 h: 15 to 30 fits, each 600 s if it takes all steps" in text
    assert "not known before it runs" in text


def test_the_fullest_batch_holds_the_whole_budget(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_cost", lambda setting, batch: seen.append(batch))
    preview(dataclasses.replace(tiny(), budget=203))
    (batch,) = seen
    per_task = jax.ops.segment_sum(batch.weight.sum(axis=1), batch.task, 6)
    np.testing.assert_array_equal(per_task, [41, 41, 41, 40, 40, 20])
