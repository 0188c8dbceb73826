"""Runs whose rank AIC chooses, whose given rank looks too small, and whose fits are told more."""

import json

import numpy as np
import pytest
from tiny_runs import assert_same_results, metrics_of, summary_of, tiny

import amtl_jax as amtl
from amtl_jax.experiment import report
from amtl_jax.experiment.build import build_learner
from amtl_jax.experiment.config import (
    ConfigError,
    DigitsConfig,
    EncoderConfig,
    FitConfig,
    SyntheticConfig,
)
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.overrides import override
from amtl_jax.experiment.representation import build_encoder
from amtl_jax.experiment.rounds import prepare
from amtl_jax.experiment.run import run

DATA = SyntheticConfig(num_tasks=6, input_dim=8, num_features=3, num_test=50, noise=0.3)
ONE_ARM = {
    "data": DATA,
    "budget": 600,
    "num_target": 30,
    "arms": ("target_only", "uniform"),
    "seeds": (0,),
}


class Notes(Observer):
    def __init__(self):
        self.texts = []

    def noted(self, text):
        self.texts.append(text)


def aic(**changes):
    return tiny(**ONE_ARM | {"encoder": EncoderConfig(num_features="aic")} | changes)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("aic") / "run"
    return workdir, run(aic(), workdir, observer=Observer())


def test_aic_finds_the_rank_and_the_run_says_so(chosen):
    workdir, result = chosen
    rounds = [one for one in metrics_of(workdir) if one["counts"]]
    assert rounds[-1]["num_features"] == 3
    assert all("rank_warning" not in one for one in rounds)
    smallest = rounds[-1]["diagnosis"]["smallest_singular_value"]
    assert smallest > 1e-3 * rounds[-1]["diagnosis"]["largest_singular_value"]
    summary = summary_of(workdir)
    assert summary["rank"] == {"is_chosen": True, "warning": None}
    assert summary["answer"]["num_features"] == 3
    assert "AIC chose K = 3 features.\n" in str(result)
    assert "of 3 directions" in str(result)


def test_its_model_is_loaded_without_aic(chosen):
    workdir, _ = chosen
    model = amtl.load(workdir)
    assert model.card["num_features"] == 3
    assert model.card["encoder"]["num_features"] == 7  # one less than there are inputs
    features = model.transform(np.eye(8, dtype=np.float32))
    assert (np.abs(features).max(axis=0) > 0).tolist() == [True] * 3 + [False] * 4


def test_it_resumes_to_the_same_numbers(chosen, tmp_path):
    workdir, _ = chosen
    copy = tmp_path / "run"
    run(aic(), copy, observer=Observer())
    last = max((copy / "checkpoints").glob("seed_0/uniform/*"))
    last.unlink()
    (copy / "summary.json").unlink()
    run(aic(), copy, observer=Observer())
    assert_same_results(copy, workdir)


def test_a_rank_that_looks_too_small_is_told_once_and_in_the_end(tmp_path):
    observer = Notes()
    config = tiny(**ONE_ARM | {"encoder": EncoderConfig(num_features=2), "seeds": (0, 1)})
    result = run(config, tmp_path / "run", observer=observer)
    warnings = [text for text in observer.texts if "looks too small" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith("K = 2 looks too small: AIC wants 3 features")
    assert f"Warning: {warnings[0]}\n" in str(result)
    rounds = [one for one in metrics_of(tmp_path / "run") if one["counts"]]
    found = [one.get("rank_warning") for one in rounds]
    assert found[:3] == [None, None, warnings[0]]
    assert found[3:5] == [None, None]
    assert found[5].startswith("K = 2 looks too small")
    again = run(config, tmp_path / "run", observer=Observer())  # from the checkpoints
    assert again.summary["rank"] == {"is_chosen": False, "warning": warnings[0]}


def test_earlier_runs_have_no_rank_to_speak_of():
    assert report.rank_sentence({"seeds": [0], "answer": None}) == ""


def test_seeds_may_choose_different_ranks():
    summary = {
        "rank": {"is_chosen": True, "warning": None},
        "answer": {"num_features": 3.5},
        "seeds": [0, 1],
    }
    assert report.rank_sentence(summary) == "AIC chose K = 3.5 features, the mean over seeds."


def test_the_command_takes_a_number_or_aic():
    config = tiny()
    assert override(config, ["--encoder.num-features", "aic"]).encoder.num_features == "aic"
    assert override(config, ["--encoder.num-features", "7"]).encoder.num_features == 7
    assert override(config, ["--encoder.num-features", "None"]).encoder.num_features is None
    with pytest.raises(ConfigError, match="num-features expects INT or aic or None, got 'bic'"):
        override(config, ["--encoder.num-features", "bic"])
    assert override(config, ["--fit.weigh-noise", "True"]).fit.weigh_noise
    assert override(config, ["--target-in-final-fit", "True"]).target_in_final_fit


def test_a_plan_beforehand_needs_a_number():
    with pytest.raises(ConfigError, match=r"not known beforehand\. Plan with a number"):
        amtl.plan_config(aic())


def test_digits_have_too_many_pixels_to_choose_a_rank():
    config = tiny(data=DigitsConfig(), encoder=EncoderConfig(num_features="aic"), num_target=50)
    problem = type("Problem", (), {})()
    problem.source = type("Source", (), {"names": range(150), "input_shape": (784,)})()
    with pytest.raises(ValueError, match="371 MB, more than the 134 MB"):
        build_learner(config, problem, build_encoder(config, (784,)))


@pytest.mark.parametrize(
    "changes",
    [{"target_in_final_fit": True}, {"fit": FitConfig(num_steps=20, weigh_noise=True)}],
    ids=["target_in_final_fit", "weigh_noise"],
)
def test_what_a_fit_is_told_changes_it(changes, chosen, tmp_path):
    observer = Notes()
    config = tiny(**ONE_ARM | {"encoder": EncoderConfig(num_features=3)} | changes)
    run(config, tmp_path / "run", observer=observer)
    plain = tiny(**ONE_ARM | {"encoder": EncoderConfig(num_features=3)})
    run(plain, tmp_path / "plain", observer=Observer())
    last, other = (metrics_of(tmp_path / name)[-1] for name in ("run", "plain"))
    assert last["target"] != other["target"]
    assert json.loads((tmp_path / "run" / "config.json").read_text()) != json.loads(
        (tmp_path / "plain" / "config.json").read_text()
    )
    told = [text for text in observer.texts if "leave-one-out errors" in text]
    assert len(told) == config.target_in_final_fit


def test_the_note_counts_the_rows_of_the_target():
    few, many = Notes(), Notes()
    prepare(tiny(target_in_final_fit=True), few)
    prepare(tiny(target_in_final_fit=True, num_target=30), many)
    assert "fewer than 5 rows an input" in few.texts[0]
    assert "fewer than" not in many.texts[0]
