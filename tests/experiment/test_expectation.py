"""What leave-one-out on the target's sample says of an arm: who is expected to pay."""

import json

import pytest

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.expectation import (
    expectation_of,
    expectation_sentence,
    expected_to_pay,
    least_share,
)


def strategies(**errors):
    return {arm: {"target_loo": error} for arm, error in errors.items()}


def test_the_share_saved_is_that_of_uniforms_error():
    errors = {"target_only": 0.1, "uniform": 0.5, "pooled": 0.2, "a_mtrl": 0.48, "alignment": 0.6}
    found = expected_to_pay(strategies(**errors, none=None), 100)
    assert found["saved"] == pytest.approx({"a_mtrl": 0.04, "alignment": -0.2})
    assert found["least"] == least_share(100) == pytest.approx(0.08)
    assert least_share(400) == 0.04


@pytest.mark.parametrize(
    "errors",
    [{"a_mtrl": 0.5}, {"uniform": None, "a_mtrl": 0.5}, {"uniform": 0.0, "a_mtrl": 0.5},
     {"uniform": 0.5, "target_only": 0.1}],
)  # fmt: skip
def test_nothing_is_expected_where_nothing_can_be_compared(errors):
    found = expected_to_pay(strategies(**errors), 400)
    assert found is None
    assert expectation_sentence({"expected": found}) == ""
    assert expectation_sentence({}) == ""


def test_arms_that_save_enough_are_named_best_first():
    saved = {"a_mtrl": 0.04, "c_optimal": 0.04 - 1e-6, "alignment": 0.0625}
    assert expectation_sentence({"expected": {"saved": saved, "least": 0.04}}) == (
        "Expected to pay over uniform, by leave-one-out error on the target's sample alone: "
        "alignment (6.2% below uniform's), a_mtrl (4.0% below uniform's)."
    )


@pytest.mark.parametrize(("saved", "words"), [(0.03, "3.0% below"), (-0.02, "2.0% above")])
def test_where_none_saves_enough_the_best_is_told(saved, words):
    text = expectation_sentence(
        {"expected": {"saved": {"a_mtrl": saved, "c_optimal": -0.5}, "least": 0.0404}}
    )
    assert text.startswith("No rule is expected to pay over uniform, by leave-one-out error")
    assert f"that of a_mtrl is {words} uniform's, and 4% below would count." in text


def test_a_workdir_says_what_its_summary_holds(tmp_path):
    assert expectation_of(tmp_path) == ""
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"expected": {"saved": {"alignment": 0.1}, "least": 0.04}}))
    assert "alignment (10.0% below uniform's)" in expectation_of(tmp_path)
    path.write_text("{}")
    assert expectation_of(tmp_path) == ""
    for bad in ({}, {"alignment": "x"}, {"al\u001bignment": 0.1}):
        path.write_text(json.dumps({"expected": {"saved": bad, "least": 0.1}}))
        with pytest.raises(ConfigError, match=r"summary\.json is damaged: expected\.saved"):
            expectation_of(tmp_path)
