"""The page of a study: every number and every target is on it, and nothing of a file is markup."""

import json
import shutil

import numpy as np
import pytest
from fabricated_study import fabricate
from pages import assert_loads_nothing, assert_well_formed, number, numbers, tables, text_of, tree

from amtl_jax.experiment.page.study_page import study_page
from amtl_jax.experiment.page.writing import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small study: workdir, summary, page."""
    workdir = tmp_path_factory.mktemp("study")
    summary = fabricate(workdir, corruptions=3, digits=4, seeds=(0, 1), target_samples=(400, 100))
    page = write_report([workdir]).page
    assert page == workdir / "report.html"
    return workdir, summary, page.read_bytes()


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "copy")


def page_of(workdir):
    return write_report([workdir]).page.read_bytes()


def test_is_well_formed_and_loads_nothing(made):
    root = assert_well_formed(made[2])
    assert_loads_nothing(root)
    (policy,) = (one.get("content") for one in root.iter("meta") if one.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert b"http" not in made[2].replace(b"http-equiv", b"")


def test_is_the_same_for_the_same_study(made):
    assert write_report([made[0]]).page.read_bytes() == made[2]


def test_drawings_can_be_told_and_tables_are_headed(made):
    root = tree(made[2])
    for drawing in root.iter("svg"):
        if drawing.get("role") == "img":
            title, description = drawing.get("aria-labelledby").split()
            assert text_of(drawing.find(f"title[@id='{title}']"))
            assert text_of(drawing.find(f"desc[@id='{description}']"))
        else:
            assert drawing.get("aria-hidden") == "true"
    for table in root.iter("table"):
        assert text_of(table.find("caption"))
        assert all(cell.get("scope") == "col" for cell in table.find("thead").iter("th"))
        assert all(cell.get("scope") == "row" for cell in table.find("tbody").iter("th"))


def test_numbers_are_those_of_the_summary(made):
    summary, found = made[1], tables(tree(made[2]))
    arms = summary["cells"][0]["arms"]
    rows = next(
        rows for title, rows in found.items() if title.startswith("Balanced accuracy, more")
    )
    for row, (arm, own) in zip(rows[1:], arms.items(), strict=True):
        assert row[0] == arm
        assert number(row[1]) == pytest.approx(100 * own["metrics"]["balanced_accuracy"], abs=0.005)
        for base, text, counts, place in (
            ("uniform", row[3], row[4], 5),
            ("target_only", row[6], row[7], None),
        ):
            if base == arm:
                assert (text, counts) == ("–", "–")
                continue
            one = own["difference"][base]["balanced_accuracy"]
            wanted = [100 * one[end] for end in ("difference", "low", "high")]
            assert numbers(text) == pytest.approx(wanted, abs=0.00501)
            assert numbers(counts) == [one["wins"], one["ties"], one["losses"]]
            if place:
                is_clear = one["low"] > 0 or one["high"] < 0
                word = ("better" if one["low"] > 0 else "worse") if is_clear else "unclear"
                assert row[place] == word


def test_small_differences_have_a_unit_in_which_they_can_be_read(made):
    summary, found = made[1], tables(tree(made[2]))
    title = next(title for title in found if title.startswith("MSE, less"))
    assert title.endswith("in units of 10⁻³")
    row = next(row for row in found[title] if row[0] == "alignment")
    one = summary["cells"][0]["arms"]["alignment"]["difference"]["uniform"]["mse"]
    wanted = [1000 * one[end] for end in ("difference", "low", "high")]
    assert numbers(row[3]) == pytest.approx(wanted, abs=0.00501)


def test_heat_maps_hold_every_targets_difference(made):
    summary, root = made[1], tree(made[2])
    own = summary["cells"][0]["arms"]["alignment"]
    first = next(
        table
        for table in root.iter("table")
        if table.get("class") == "heat sums" and text_of(table.find("caption")) == "alignment"
    )
    rows = [[text_of(cell) for cell in row] for row in first.iter("tr")]
    assert rows[0] == ["", "0", "1", "2", "3", "mean"]
    for row, corruption in zip(rows[1:], summary["corruptions"], strict=False):
        wanted = [
            100 * own["per_target"][f"{corruption}_{digit}"]["balanced_accuracy"]["difference"]
            for digit in range(4)
        ]
        wanted.append(100 * own["per_corruption"][corruption]["balanced_accuracy"]["difference"])
        assert [number(text) for text in row[1:]] == pytest.approx(wanted, abs=0.051)
    bold = {text_of(cell)[0] for cell in first.iter("b")}
    plain = {text_of(cell)[0] for cell in first.iter("td") if cell.find("b") is None}
    assert bold == {"+"}
    assert plain <= {"−", "0"}


def test_every_target_can_be_chosen(made):
    summary, root = made[1], tree(made[2])
    radios = {one.get("id"): one for one in root.iter("input") if one.get("type") == "radio"}
    labels = {one.get("for") for one in root.iter("label")}
    assert len(radios) == len(summary["targets"])
    assert set(radios) <= labels
    assert sum(one.get("checked") is not None for one in radios.values()) == 1
    titles = [text_of(one.find("h3")) for one in root.iter("article")]
    assert titles == [f"Target {target}" for target in summary["targets"]]
    style = text_of(root.find("head/style"))
    for name in radios:
        assert f"#{name}:checked~.panels #p{name[1:]}" in style


def test_most_bought_sources_are_named(made):
    with np.load(made[0] / "arrays.npz") as arrays:
        totals = arrays["counts/alignment"][5].sum(axis=0)
        best = str(arrays["tasks"][np.argmax(totals)])
    article = next(
        one
        for one in tree(made[2]).iter("article")
        if text_of(one.find("h3")).endswith("_1")
        and text_of(one.find("h3")) == f"Target {made[1]['targets'][5]}"
    )
    rows = tables(article)["Most samples over all rounds"]
    row = next(row for row in rows if row[0] == "alignment")
    assert row[1].startswith(f"{best} {totals.max():,.0f}")


def test_the_reading_is_there_word_for_word(made):
    section = next(one for one in tree(made[2]).iter("section") if one.get("id") == "reading")
    words = text_of(section).replace("−", "-")
    start = "At a budget of 15,000 and 100 target samples: "
    assert sum(text.startswith(start) for text in made[1]["reading"]) > 1
    for text in made[1]["reading"]:
        cell, colon, rest = text.partition("target samples: ")
        assert (rest if colon else cell) in words


def test_curves_end_where_the_summary_says(made):
    root = tree(made[2])
    drawing = next(
        one
        for one in root.iter("svg")
        if one.get("aria-labelledby") == "curve-400-mse-t curve-400-mse-d"
    )
    told = text_of(drawing.find("desc"))
    own = made[1]["cells"][2]["arms"]["alignment"]  # the larger budget, 400 target samples
    assert f"alignment {own['metrics']['mse']:.4g} at 121,875 samples" in told


def test_config_and_versions(made):
    found = tables(tree(made[2]))
    config = dict(found["Config"][1:])
    assert config["budget"] == "15000"
    assert config["fit.intercept"] == "yes"
    assert config["study.seeds"] == "0, 1"
    assert dict(found["Versions"][1:]) == made[1]["versions"]


def test_of_a_study_of_full_size_is_small(tmp_path):
    summary = fabricate(tmp_path)
    page = page_of(tmp_path)
    assert len(page) < 3_000_000
    root = assert_well_formed(page)
    titles = [text_of(one.find("h3")) for one in root.iter("article")]
    assert titles == [f"Target {target}" for target in summary["targets"]]
    drawing = next(
        one for one in root.iter("svg") if one.get("aria-labelledby", "").startswith("nu-")
    )
    labels = {text.text for text in drawing.iter("text")}
    assert set(summary["targets"]) <= labels
    assert {"digit 3", "digit 8"} <= labels  # neighbours of one digit are named


def test_arrays_that_are_missing_are_left_out_with_a_sentence(copied):
    (copied / "arrays.npz").unlink()
    written = write_report([copied])
    assert "arrays.npz does not exist" in written.notes[0]
    words = text_of(assert_well_formed(written.page.read_bytes()))
    assert "holds no predictions of risk" in words
    assert "No arm of this study estimates the relevance" in words
    assert "No arm of this study chooses what to buy" in words


def test_an_unfinished_study_says_so(copied):
    summary = json.loads((copied / "summary.json").read_text())
    summary["units"]["done"] = 7
    (copied / "summary.json").write_text(json.dumps(summary))
    with np.load(copied / "arrays.npz") as file:
        arrays = dict(file)
    for name, values in arrays.items():
        if "/" in name:
            values[3:] = 0 if name.startswith("counts/") else np.nan
    np.savez(copied / "arrays.npz", **arrays)
    root = assert_well_formed(page_of(copied))
    words = text_of(root)
    assert "Not finished: 7 of 96 units" in words
    assert "9 targets are not there yet" in words
    assert len(list(root.iter("article"))) == 3


@pytest.mark.parametrize("arms", [("uniform",), ("target_only", "a_mtrl"), ("alignment", "mine")])
def test_studies_without_some_arms(tmp_path, arms):
    fabricate(tmp_path, corruptions=2, digits=2, arms=arms, budgets=(15_000,))
    root = assert_well_formed(page_of(tmp_path))
    for arm in arms:
        assert arm in text_of(root)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "a\nb\x07c\u202ed'&amp;]]>",
    "x" * 10_000,
)


@pytest.mark.parametrize("name", HOSTILE, ids=["script", "attribute", "controls", "long"])
def test_names_are_never_markup(copied, name):
    """Arms, corruptions, versions and sentences that try to break out."""

    def other(value):
        if isinstance(value, dict):
            return {other(key): other(one) for key, one in value.items()}
        if isinstance(value, list):
            return [other(one) for one in value]
        if isinstance(value, str):
            return value.replace("alignment", name).replace("shot_noise", name)
        return value

    for file in ("summary.json", "config.json"):
        plain = other(json.loads((copied / file).read_text()))
        if file == "summary.json":
            plain |= {"name": name, "device": name, "versions": {name: name}}
            plain["reading"].append(name)
        (copied / file).write_text(json.dumps(plain))
    with np.load(copied / "arrays.npz") as arrays:
        changed = {
            key: np.array([other(str(one)) for one in value]) if value.dtype.kind == "U" else value
            for key, value in arrays.items()
        }
    np.savez(copied / "arrays.npz", **changed)
    page = page_of(copied)
    root = assert_well_formed(page)
    assert_loads_nothing(root)
    assert len(list(root.iter("script"))) == 1
    assert not [one for one in root.iter("img") if one.get("src") == "x"]
    assert "\x07" not in page.decode()
    assert "\u202e" not in page.decode()
    assert len(page) < 2_000_000
    assert b"x" * 3001 not in page


def test_pages_of_plain_data_need_no_files(made):
    config = json.loads((made[0] / "config.json").read_text())
    page = study_page(config, made[1], {}, workdirs=["somewhere"])
    assert "somewhere" in text_of(tree(page))
