"""What uniform would need: a power law that is known, bounds, curves that wiggle or lack units."""

import numpy as np
import pytest
from test_study_summary import TARGETS, arms_of, row, summarise

from amtl_jax.experiment.study_needs import samples_for_error


def power_law(samples):
    return 2 * samples**-0.5


def power_law_rows(budgets, *, worth=2.0, given=100, arm="rule", seconds=3.0):
    """Uniform on a power law at 1/4 and all of each budget; an arm worth more samples."""
    for target in TARGETS:
        for budget in budgets:
            for number, samples in enumerate((budget // 4, budget), start=1):
                own = {"budget": budget, "number": number, "samples": samples, "given": given}
                yield row(target, "uniform", 0.5, mse=power_law(samples), seconds=1.0, **own)
                error = power_law(worth * samples)
                yield row(target, arm, 0.5, mse=error, seconds=seconds, **own)


def test_uniform_would_need_what_a_power_law_says():
    budgets = (1000, 10_000)
    rows = [*power_law_rows(budgets), *power_law_rows((100_000,), worth=40, given=7)]
    summary = summarise(rows, budgets=(*budgets, 100_000), target_samples=(100, 7))
    needs = arms_of(summary)["rule"]["uniform_needs"]["mse"]
    np.testing.assert_allclose(needs["samples"], 2000)
    np.testing.assert_allclose(needs["factor"], 2)
    np.testing.assert_allclose(needs["compute_factor"], 2 / 3)  # the arm takes three times as long
    assert (needs["is_bound"], needs["side"]) == (False, None)
    beyond = arms_of(summary, 1)["rule"]["uniform_needs"]["mse"]
    assert (beyond["samples"], beyond["factor"]) == (10_000, 1)
    assert (beyond["is_bound"], beyond["side"]) == (True, "more")
    assert arms_of(summary)["uniform"]["uniform_needs"] == {}


def test_missing_units_do_not_bend_the_curve():
    hardness = dict(zip(TARGETS, (1.0, 1.0, 4.0, 4.0), strict=True))
    rows = [
        one._replace(mse=one.mse * hardness[one.target]) for one in power_law_rows((1000, 4000))
    ]
    easy = [one for one in rows if one.budget == 1000 or hardness[one.target] == 1]
    for some in (rows, easy):  # the mean of the easy targets is far lower than that of all
        found = arms_of(summarise(some, budgets=(1000, 4000)))["rule"]["uniform_needs"]["mse"]
        np.testing.assert_allclose(found["samples"], 2000)


@pytest.mark.parametrize(
    ("error", "samples", "side"),
    [
        (1.0, 10, "less"),
        (0.8, 10, None),
        (0.4, 100, None),
        (0.8 / 2**0.5, 10**1.5, None),
        # From the minimum of 0.4, carried on to 1000, down to 0.1 at 10,000.
        (0.3, 1000 * 10 ** (np.log(0.4 / 0.3) / np.log(4)), None),
        (0.1, 10_000, None),
        (0.09, 10_000, "more"),
    ],
)
def test_samples_for_an_error_follow_the_running_minimum(error, samples, side):
    curve = np.array([10.0, 100, 1000, 10_000]), np.array([0.8, 0.4, 0.5, 0.1])
    found = samples_for_error(*curve, error)
    np.testing.assert_allclose(found.samples, samples)
    assert found.side == side


def test_equal_arms_need_the_same():
    rows = [row(target, arm, 0.7) for target in TARGETS for arm in ("uniform", "rule")]
    needs = arms_of(summarise(rows))["rule"]["uniform_needs"]["mse"]
    assert needs == {
        "samples": 1000,
        "factor": 1,
        "compute_factor": 1,
        "is_bound": False,
        "side": None,
    }
    bit = float(np.finfo(np.float32).eps)  # the arms differ by the last bit of their errors
    near = [one._replace(mse=one.mse * (1 - bit * (one.arm == "rule"))) for one in rows]
    assert arms_of(summarise(near))["rule"]["uniform_needs"]["mse"] == needs
    perfect = [row(target, arm, 1.0) for target in TARGETS for arm in ("uniform", "rule")]
    assert arms_of(summarise(perfect))["rule"]["uniform_needs"]["mse"] == needs


def test_an_error_of_zero_has_no_logarithm():
    found = samples_for_error(np.array([1.0, 100.0]), np.array([0.4, 0.0]), 0.1)
    np.testing.assert_allclose(found.samples, 100**0.75)
    assert samples_for_error(np.array([1.0, 100.0]), np.array([0.4, 0.0]), 0.0) == (100, None)
