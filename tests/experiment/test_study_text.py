"""The tables of a study, which a reader can check by eye, in a terminal and in Markdown."""

import pytest
from fabricated_study import fabricate
from test_study_summary import golden_rows, summarise

from amtl_jax.experiment.study_text import closing, difference_text, markdown, tables


def lines_of(table):
    return ["  ".join(row) for row in table.rows]


def golden_tables(rows=None, **changes):
    summary = summarise(golden_rows() if rows is None else rows, **changes)
    return {table.title: lines_of(table) for table in tables(summary, summary["cells"][0])}


def test_golden_tables():
    found = golden_tables()
    assert found["Means over targets and seeds"] == [
        "arm  targets  samples  balanced acc.  MSE  accuracy  AUC  seconds",
        "target_only  4  0  50.00%  0.5  50.00%  50.00%  4.0",
        "uniform  4  1,000  68.75%  0.3125  68.75%  68.75%  4.0",
        "rule  4  1,000  75.00%  0.25  75.00%  75.00%  4.0",
    ]
    assert found["Difference in balanced acc., points"] == [
        "arm  against uniform  W/T/L  against target_only  W/T/L",
        "target_only  -18.75 [-25.00, -12.50]  0/1/3    ",
        "uniform      +18.75 [+12.50, +25.00]  3/1/0",
        "rule  +6.25 [+0.00, +12.50]  2/1/1  +25.00 [+25.00, +25.00]  3/1/0",
    ]
    assert found["Difference in MSE"][-1] == (
        "rule  -0.0625 [-0.125, +0]  2/1/1  -0.25 [-0.25, -0.25]  3/1/0"
    )
    title = "Balanced acc. of uniform by corruption, and the others' difference to it in points"
    assert found[title] == [
        "corruption  uniform  target_only  rule",
        "fog  62.50%  -12.50  +12.50",
        "zigzag  75.00%  -25.00  +0.00",
    ]
    assert found["MSE of uniform by digit, and the others' difference to it"] == [
        "digit  uniform  target_only  rule",
        "0  0.1875  +0.312  -0.0625",
        "1  0.4375  +0.0625  -0.0625",
    ]
    assert found[
        "Samples that uniform would need to do as well, and times the arm's own; no intervals"
    ] == [
        "arm  balanced acc.  MSE  accuracy  computing, MSE",
        "target_only  < 1,000  < 1,000  < 1,000  < 1.00×",
        "rule  > 1,000 (1.00×)  > 1,000 (1.00×)  > 1,000 (1.00×)  > 1.00×",
    ]


def test_tables_come_in_the_order_in_which_people_look():
    assert [title.split(" by ")[0].split(",")[0] for title in golden_tables()] == [
        "Means over targets and seeds",
        *(f"Difference in {name}" for name in ("balanced acc.", "MSE", "accuracy", "AUC")),
        "Samples that uniform would need to do as well",
        *("Balanced acc. of uniform", "MSE of uniform"),
        *("Balanced acc. of uniform", "MSE of uniform"),
    ]


def test_without_uniform_tables_show_values():
    found = golden_tables([one for one in golden_rows() if one.arm != "uniform"])
    assert found["Balanced acc. by digit"] == [
        "digit  target_only  rule",
        "0  50.00%  87.50%",
        "1  50.00%  62.50%",
    ]
    assert found["Difference in MSE"][0] == "arm  against target_only  W/T/L"
    assert not [title for title in found if "would need" in title]


def test_one_arm_alone_and_undefined_metrics_have_tables_too():
    rows = [one._replace(auc=None) for one in golden_rows() if one.arm == "rule"]
    found = golden_tables(rows)
    assert found["Means over targets and seeds"][1] == (
        "rule  4  1,000  75.00%  0.25  75.00%  -  4.0"
    )
    assert not [title for title in found if title.startswith("Difference")]


def test_units_that_are_missing_are_dashes():
    rows = [one for one in golden_rows() if (one.corruption, one.arm) != ("fog", "rule")]
    found = golden_tables(rows)
    title = "Balanced acc. of uniform by corruption, and the others' difference to it in points"
    assert found[title][1] == "fog  62.50%  -12.50  -"
    assert found["Difference in balanced acc., points"][-1] == "rule  +0.00  1/0/1  +25.00  1/1/0"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.00125, "+0.12"),
        ("accuracy", -0.5, "-50.00"),
        ("accuracy", 0.0, "+0.00"),
        ("accuracy", -1e-6, "-0.0001"),
        ("mse", -0.000123456, "-0.000123"),
        ("mse", 0.0, "+0"),
        ("mse", None, "-"),
    ],
)
def test_a_difference_reads_as_nothing_only_where_it_is(metric, value, text):
    assert difference_text(metric, value) == text


def test_the_closing_fits_a_terminal_and_breaks_no_interval(tmp_path):
    text = closing(fabricate(tmp_path, corruptions=16, digits=2, seeds=(0, 1)))
    assert text.startswith(
        "Budget 15,000, 400 target samples\n\nMeans over targets and seeds\n  arm"
    )
    assert "\n\nBudget 121,875, 400 target samples\n\n" in text
    assert "95% bootstrap over 16 corruptions and 2 seeds, 200 resamples." in " ".join(text.split())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert all(line.count("[") == line.count("]") for line in lines)


def test_markdown_is_tables_that_hold_any_name():
    rows = [one._replace(arm="a|<b>*") if one.arm == "rule" else one for one in golden_rows()]
    text = markdown(summarise(rows, arms=("target_only", "uniform", "a|<b>*")), heading="###")
    assert text.startswith(
        "### Budget 1,000, 100 target samples\n\nMeans over targets and seeds:\n"
    )
    assert (
        "| arm | targets | samples | balanced acc. | MSE | accuracy | AUC | seconds |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| target_only | 4 | 0 | 50.00% | 0.5 | 50.00% | 50.00% | 4.0 |\n"
    ) in text
    assert "\n| a\\|&lt;b>\\* | 4 | 1,000 | 75.00% |" in text
    assert "\n- There is one seed: the intervals do not cover other draws of samples.\n" in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1


def test_a_study_without_rows_says_so():
    assert closing(summarise([])).startswith("The study is not finished: 0 of 4 units hold every")
