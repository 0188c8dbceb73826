"""The plain-words reading of a study, on numbers made by hand: it claims no more than they show."""

import pytest

from amtl_jax.experiment.study_reading import best_rule, reading
from amtl_jax.experiment.study_rows import METRICS


def compared(difference, low, high, counts=(3, 1, 0)):
    ends = {"difference": difference, "low": low, "high": high}
    return ends | dict(zip(("wins", "ties", "losses"), counts, strict=True))


def arm(
    accuracy, *, uniform=None, target_only=None, groups=None, side=None, samples=3000.0, num=10
):
    """An arm by its balanced accuracy and its differences in it; MSE moves by a tenth of that."""
    bases = {"uniform": uniform, "target_only": target_only}
    difference = {}
    for base, ends in bases.items():
        if ends:
            low, high = ends[1:]
            error = [None if end is None else -end / 10 for end in (ends[0], high, low)]
            found = {"balanced_accuracy": compared(*ends), "mse": compared(*error)}
            difference[base] = found | {name: compared(*ends) for name in METRICS[2:]}
    names = groups or dict.fromkeys((f"c{index}" for index in range(num)), 0.0)
    parts = {
        name: {"balanced_accuracy": {"value": 0.5, "difference": value}}
        for name, value in names.items()
    }
    needs = {
        "samples": samples,
        "factor": samples / 1000,
        "compute_factor": None,
        "is_bound": side is not None,
        "side": side,
    }
    return {
        "metrics": {"balanced_accuracy": accuracy, "mse": 0.1, "accuracy": accuracy, "auc": None},
        "difference": difference,
        "per_corruption": parts,
        "per_digit": {"0": parts[next(iter(parts))]},
        "uniform_needs": {"mse": needs},
    }


def study(arms, *, seeds=(0, 1), corruptions=10, done=10):
    names = [f"c{index}" for index in range(corruptions)]
    return {
        "targets": [f"{name}_0" for name in names],
        "corruptions": names,
        "arms": list(arms),
        "seeds": list(seeds),
        "level": 0.95,
        "units": {"done": done, "of": 10},
        "cells": [{"budget": 1000, "target_samples": 100, "arms": arms}],
    }


CLEAR, NONE, HARM = (0.02, 0.01, 0.03), (0.001, -0.002, 0.004), (-0.02, -0.03, -0.01)


def whole_study(**changes):
    arms = {
        "target_only": arm(0.70, uniform=(-0.1, -0.11, -0.09)),
        "uniform": arm(0.80, target_only=(0.1, 0.09, 0.11)),
        "a_mtrl": arm(0.801, uniform=NONE, target_only=(0.101, 0.09, 0.11)),
        "alignment": arm(
            0.82, uniform=CLEAR, target_only=(0.12, 0.1, 0.14), groups={"fog": 0.05, "shear": -0.01}
        ),
        "same_digit": arm(0.84, uniform=(0.04, 0.03, 0.05), target_only=(0.14, 0.1, 0.2)),
        "all_data": arm(0.86, uniform=(0.06, 0.05, 0.07), target_only=(0.16, 0.1, 0.2)),
    }
    return study(arms | changes)


def test_reading_of_a_study():
    assert reading(whole_study()) == [
        "The study is whole: 10 targets of 10 corruptions, 6 arms, 2 seeds.",
        "Balanced accuracy against uniform's 80.00%, with wins/ties/losses over targets. "
        "Better: alignment +2.00 [+1.00, +3.00] points, 3/1/0; same_digit +4.00 [+3.00, +5.00] "
        "points, 3/1/0; all_data +6.00 [+5.00, +7.00] points, 3/1/0. Worse: target_only -10.00 "
        "[-11.00, -9.00] points, 3/1/0. No measurable difference: a_mtrl +0.10 [-0.20, +0.40] "
        "points, 3/1/0.",
        "MSE against uniform's 0.1, with wins/ties/losses over targets. Better: alignment -0.002 "
        "[-0.003, -0.001], 3/1/0; same_digit -0.004 [-0.005, -0.003], 3/1/0; all_data -0.006 "
        "[-0.007, -0.005], 3/1/0. Worse: target_only +0.01 [+0.009, +0.011], 3/1/0. No measurable "
        "difference: a_mtrl -0.0001 [-0.0004, +0.0002], 3/1/0.",
        "For the MSE of alignment uniform would have needed 3,000 samples (3.00 times as many); "
        "read off its curve of error against samples, without an interval.",
        "For the MSE of same_digit uniform would have needed 3,000 samples (3.00 times as many); "
        "read off its curve of error against samples, without an interval.",
        "The rule to look at is alignment, the best of 2 by this number, which flatters it: "
        "balanced accuracy +2.00 [+1.00, +3.00] points against uniform, measurably better. Its "
        "difference goes over corruptions from -1.00 (shear) to +5.00 (fog) points, without "
        "intervals.",
        "Against no sources at all (target_only) uniform has balanced accuracy +10.00 [+9.00, "
        "+11.00] points, the sources paid; MSE -0.01 [-0.011, -0.009], the sources paid.",
        "Against no sources at all (target_only) alignment has balanced accuracy +12.00 [+10.00, "
        "+14.00] points, the sources paid; MSE -0.012 [-0.014, -0.01], the sources paid.",
        "In balanced accuracy over uniform, alignment gains +2.00 [+1.00, +3.00] points and "
        "same_digit +4.00 [+3.00, +5.00] points: it reaches about 50% of that gain.",
        "In balanced accuracy over target_only, alignment gains +12.00 [+10.00, +14.00] points and "
        "all_data +16.00 [+10.00, +20.00] points: it reaches about 75% of that gain.",
        "Intervals draw from as few as 2 corruptions, and with fewer than 8 they are too short: "
        "take what they show as a hint.",
        "Each 95% interval is for one comparison: of 5 with uniform in one metric, about 0.25 "
        "would exclude 0 by chance alone.",
    ]


def text_of(summary):
    return "\n".join(reading(summary))


@pytest.mark.parametrize(
    ("uniform", "expected", "refused"),
    [
        (CLEAR, "uniform, measurably better.", "no share"),
        (NONE, "uniform, no measurable difference.", "would have needed"),
        ((0.0, 0.0, 0.0), "uniform, no measurable difference.", "Better: alignment"),
        (HARM, "uniform, measurably worse.", "would have needed"),
        (
            (0.02, None, None),
            "+2.00 points without an interval against uniform, so nothing is",
            "[+",
        ),
        ((None, None, None), "(no unit that both have) against uniform, so nothing is", "Better"),
    ],
)
def test_no_claim_without_an_interval_that_excludes_0(uniform, expected, refused):
    arms = {
        "uniform": arm(0.8),
        "alignment": arm(0.82, uniform=uniform),
        "same_digit": arm(0.84, uniform=CLEAR if uniform == CLEAR else NONE),
    }
    text = text_of(study(arms))
    assert expected in text
    assert refused not in text
    if uniform != CLEAR:
        assert "not both are measurable gains, so no share of it is stated" in text


@pytest.mark.parametrize(("own", "most"), [(NONE, CLEAR), (CLEAR, NONE), (HARM, CLEAR)])
def test_a_share_needs_two_measurable_gains(own, most):
    arms = {
        "uniform": arm(0.8),
        "rule": arm(0.8, uniform=own),
        "same_digit": arm(0.8, uniform=most),
    }
    text = text_of(study(arms))
    assert "not both are measurable gains, so no share of it is stated" in text
    assert "it reaches" not in text


def test_what_uniform_never_reached_is_called_a_bound():
    text = text_of(whole_study(alignment=arm(0.82, uniform=CLEAR, target_only=CLEAR, side="more")))
    assert (
        "uniform would have needed more than 3,000 samples, the most it was given (more than 3.00 "
        "times as many); read off"
    ) in text


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        (HARM, "the sources did harm"),
        (NONE, "the sources made no measurable difference"),
        ((0.1, None, None), "so nothing is claimed"),
    ],
)
def test_sources_need_not_pay(ends, verdict):
    text = text_of(study({"target_only": arm(0.7), "uniform": arm(0.8, target_only=ends)}))
    line = next(line for line in text.splitlines() if line.startswith("Against no sources"))
    assert line.count(verdict) == 2


def test_few_clusters_and_one_seed_are_named():
    seeds = "There is one seed"
    clusters = "Intervals draw from as few as 7 corruptions"
    alone = "There are arms with targets of one corruption only"
    arms = {"uniform": arm(0.8), "rule": arm(0.8, uniform=CLEAR, num=7)}
    text = text_of(study(arms, seeds=(5,)))
    assert seeds in text
    assert clusters in text
    text = text_of(study({"uniform": arm(0.8, num=8)}))
    assert not any(start in text for start in (seeds, "Intervals draw", alone))
    assert alone in text_of(study({"uniform": arm(0.8, num=1)}))


def test_a_study_that_is_not_finished_or_lacks_uniform_says_so():
    text = text_of(study({"rule": arm(0.8, target_only=CLEAR)}, done=3))
    assert "The study is not finished: 3 of 10 units hold every arm" in text
    assert "There is no uniform arm, so nothing says what choosing sources gained." in text


def test_sentences_of_several_cells_say_which():
    summary = whole_study()
    summary["cells"] = summary["cells"] * 2
    named = [text for text in reading(summary) if text.startswith("At a budget of 1,000 and 100 ")]
    assert len(named) == 18


def test_the_best_rule_is_one_that_could_be_used():
    arms = whole_study()["cells"][0]["arms"]
    assert best_rule(arms) == "alignment"
    assert best_rule({name: arms[name] for name in ("uniform", "same_digit", "all_data")}) is None
