"""The page of a run, whole or not, and the command that writes it."""

import json
import shutil
import sys

import numpy as np
import pytest
from fabricated_study import fabricate
from pages import (
    assert_loads_nothing,
    assert_well_formed,
    change,
    number,
    numbers,
    tables,
    text_of,
    tree,
)
from tiny_runs import files_of

from amtl_jax import cli
from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.examples import Examples, write_examples
from amtl_jax.experiment.page.writing import write_report
from amtl_jax.experiment.report import payoff_sentence
from amtl_jax.experiment.result import read_result


@pytest.fixture(scope="module")
def page(whole, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "run.html"
    return write_report([whole[0]], out=out).page.read_bytes()


def test_is_well_formed_loads_nothing_and_leaves_the_workdir(whole, page, tmp_path):
    root = assert_well_formed(page)
    assert_loads_nothing(root)
    before = files_of(whole[0])
    assert write_report([whole[0]], out=tmp_path / "again.htm").page.read_bytes() == page
    assert files_of(whole[0]) == before


def test_numbers_are_those_of_the_summary(whole, page):
    summary, found = whole[1], tables(tree(page))
    title = next(title for title in found if title.startswith("MSE, less is better"))
    factor = 1 if title.endswith("differences") else None
    for row in found[title][1:]:
        own = summary["answer"] if row[0] == "answer" else summary["strategies"][row[0]]
        assert number(row[1]) == pytest.approx(own["target"]["mse"], rel=1e-3)
        for base, text, word in (("uniform", *row[3:5]), ("target_only", *row[5:7])):
            one = own["difference"].get(base, {}).get("mse")
            if one is None:
                assert (text, word) == ("–", "")
                continue
            ends = [one[end] for end in ("difference", "low", "high")]
            if factor:
                assert numbers(text) == pytest.approx(ends, abs=0.006)
            assert (word == "unclear") == (ends[1] <= 0 <= ends[2])
    values = found["On the test rows, means over seeds"]
    assert values[0] == ["arm", "samples", "MSE", "R²", "excess risk", "repr. risk"]
    assert [row[0] for row in values[1:]] == [*summary["strategies"], "answer"]


def test_says_what_the_run_says(whole, page):
    words = text_of(tree(page)).replace("−", "-")
    assert payoff_sentence(whole[1]) in words
    config = dict(tables(tree(page))["Config"][1:])
    assert config["num_target"] == "20"


def test_relevance_and_counts_are_those_of_the_run(whole, page):
    result, root = read_result(whole[0]), tree(page)
    chosen = whole[1]["chosen_arm"]
    section = next(one for one in root.iter("section") if one.get("id") == "relevance")
    rows = tables(section)["5 of 5 sources, strongest first"]
    wanted = [one["source"] for one in whole[1]["relevance"]]
    assert [row[0] for row in rows[1:]] == wanted
    for row, one in zip(rows[1:], whole[1]["relevance"], strict=True):
        ends = [one["relevance"], one["low"], one["high"]]
        assert numbers(row[2]) == pytest.approx(ends, abs=0.0051)
        assert number(row[3]) == pytest.approx(one["samples"], abs=0.51)
    section = next(one for one in root.iter("section") if one.get("id") == "counts")
    rows = tables(section)["Samples, the sources bought most first"]
    counts = result.counts_table(chosen)
    for row in rows[1:]:
        for place, text in enumerate(row[1:], start=1):
            own = [
                one["samples"] for one in counts if (one["source"], one["round"]) == (row[0], place)
            ]
            assert number(text) == pytest.approx(np.mean(own), abs=0.51)


def test_an_unfinished_run_has_a_page(copied):
    (copied / "summary.json").unlink()
    lines = (copied / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copied / "metrics.jsonl").write_text("".join(lines[:9]) + lines[9][:40])
    written = write_report([copied])
    assert written.notes[0].startswith("Not finished: 9 rounds are there")
    root = assert_well_formed(written.page.read_bytes())
    words = text_of(root)
    assert written.notes[0] in words
    assert "source 5" in words
    assert tables(root)["On the test rows"][1][0] == "target_only"
    (copied / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="holds no finished round yet"):
        write_report([copied])


def test_means_of_an_unfinished_run_are_over_seeds_that_all_arms_have(copied):
    (copied / "summary.json").unlink()
    lines = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    kept = [one for one in lines if (one["seed"], one["strategy"]) != (1, "c_optimal")]
    (copied / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    rows = tables(tree(write_report([copied]).page.read_bytes()))["On the test rows"]
    first = {one["strategy"]: one["target"]["mse"] for one in lines if one["seed"] == 0}
    for row in rows[1:]:
        assert number(row[2]) == pytest.approx(first[row[0]], rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 3)])
def test_examples_are_on_the_page(copied, shape):
    images = np.arange(2 * np.prod(shape), dtype=np.uint8).reshape(2, *shape)
    names, roles = np.asarray(["fog_3", "<b>"]), np.asarray(["target", "best"])
    write_examples(copied, Examples(names, roles, images))
    root = assert_well_formed(write_report([copied]).page.read_bytes())
    assert [one.get("alt") for one in root.iter("img")] == [
        "fog_3, 1",
        "fog_3, 2",
        "<b>, 1",
        "<b>, 2",
    ]
    assert "<b>, most relevant" in text_of(root)
    write_examples(copied, Examples(names, roles, images.astype(np.float32)))
    with pytest.raises(ConfigError, match=r"examples\.npz is damaged: expected names, roles"):
        write_report([copied])


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "y" * 10_000])
def test_names_are_never_markup(copied, name):
    for file in ("summary.json", "metrics.jsonl", "config.json"):
        text = (copied / file).read_text()
        for old in ("dup target", "source_0", "c_optimal"):
            text = text.replace(old, json.dumps(name)[1:-1])
        (copied / file).write_text(text)
    change(copied / "summary.json", device=name, name=name)
    page = write_report([copied]).page.read_bytes()
    root = assert_well_formed(page)
    assert_loads_nothing(root)
    assert len(list(root.iter("script"))) == 1
    assert not list(root.iter("img"))
    assert b"y" * 1501 not in page


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        ("metrics.jsonl", '"seed": 0', '"seed": 7', "no arm 'target_only' with seed 7"),
        ("metrics.jsonl", '"counts": [20', '"counts": [1, 20', "expected 5 sources, got 6"),
        ("metrics.jsonl", '"nu": []', '"nu": ["a"]', r"round\.nu\[0\]: expected a finite number"),
        ("metrics.jsonl", "{", "", "line 1 is damaged"),
        ("metrics.jsonl", '"middle"', '"muddle"', "expected a last round of arm"),
        ("summary.json", '"mse"', '"msw"', "no metric is called 'msw'"),
        ("summary.json", '"uniform"', '"unifirm"', "expected arms, and a curve|no base is called"),
        ("summary.json", '"shares"', '"share"', r"answer\.shares is missing"),
        ("summary.json", '"source_names"', '"names"', "source_names is missing"),
    ],
)
def test_damaged_files_end_in_a_line(copied, file, old, new, match):
    text = (copied / file).read_text()
    assert old in text
    (copied / file).write_text(text.replace(old, new, 1 if file == "metrics.jsonl" else -1))
    with pytest.raises(ConfigError, match=match) as found:
        write_report([copied])
    assert "\n" not in str(found.value)


def amtl(capsys, *argv):
    code = cli.main(["report", *map(str, argv)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_the_command_writes_the_page(copied, capsys, tmp_path):
    code, out, err = amtl(capsys, copied)
    assert (code, err) == (0, "")
    assert out.startswith(f"Written: {copied / 'report.html'} (")
    code, out, err = amtl(capsys, copied, "--out", tmp_path / "new" / "page.html")
    assert (code, err) == (0, "")
    assert (tmp_path / "new" / "page.html").read_bytes() == (copied / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], "Give WORKDIR: amtl report WORKDIR"),
        (["{run}", "--outt", "x"], "Did you mean --out?"),
        (["{run}", "--out", ""], "--out expects a file, got ''."),
        (
            ["{run}", "--out", "results.csv"],
            "--out expects a file called *.html, got 'results.csv'",
        ),
        (["{run}", "--png", "{run}/config.json"], "--png expects a folder, got the file"),
        (["{run}", "{study}"], "Give --out FILE: the page of several workdirs belongs to none."),
        (["{run}", "{study}", "--out", "x.html"], "holds a run. Several workdirs are shards"),
        (["{run}/nothing"], "does not exist; give a folder"),
    ],
)
def test_what_the_command_refuses(copied, tmp_path, capsys, argv, part):
    study = tmp_path / "study"
    fabricate(study, corruptions=2, digits=1, budgets=(1000,), arms=("uniform", "a_mtrl"))
    code, out, err = amtl(capsys, *(one.format(run=copied, study=study) for one in argv))
    assert (code, out) == (2, "")
    assert err.startswith("amtl: ")
    assert err.count("\n") == 1
    assert part in err


def test_help_and_a_note_on_what_is_missing(copied, capsys):
    code, out, _ = amtl(capsys, "--help")
    assert code == 0
    assert "--png" in out
    (copied / "summary.json").unlink()
    code, _, err = amtl(capsys, copied)
    assert code == 0
    assert err.startswith("amtl: note: Not finished")


def test_figures_for_papers(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason='figures need pip install "amtl-jax[demo]"')
    arms = ("target_only", "uniform", "alignment", "<my>/arm")
    study, folder = tmp_path / "study", tmp_path / "png"
    fabricate(study, corruptions=3, digits=2, budgets=(1000,), arms=arms)
    code, out, err = amtl(capsys, study, "--png", folder)
    assert (code, err) == (0, "")
    where = "budget_1000_samples_400.png"
    wanted = {
        f"{what}_{metric}_{where}"
        for what in ("difference", "histogram")
        for metric in ("balanced_accuracy", "mse")
    }
    wanted |= {f"error_{metric}_samples_400.png" for metric in ("balanced_accuracy", "mse")}
    wanted |= {"relevance_alignment.png", "predicted_and_measured.png"}
    assert {path.name for path in folder.iterdir()} == wanted
    assert f"Written: {len(wanted)} figures in {folder}" in out
    for path in folder.iterdir():
        body = path.read_bytes()
        assert body.startswith(b"\x89PNG")
        place = body.index(b"pHYs") + 4
        assert int.from_bytes(body[place : place + 4], "big") == 11811  # a metre: 300 dpi


def test_figures_of_a_run(copied, tmp_path):
    pytest.importorskip("matplotlib", reason='figures need pip install "amtl-jax[demo]"')
    written = write_report([copied], png=tmp_path / "png")
    names = {path.stem for path in written.figures}
    assert {"error", "counts_c_optimal", "relevance_c_optimal"} <= names


def test_without_matplotlib_the_page_is_written_and_figures_are_refused(
    copied, monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("paper", "paper_charts", "paper_maps"):
        monkeypatch.delitem(sys.modules, f"amtl_jax.experiment.page.{name}", raising=False)
    for name in ("figures", "charts", "canvas"):
        monkeypatch.delitem(sys.modules, f"amtl_jax.experiment.{name}", raising=False)
    monkeypatch.delattr("amtl_jax.experiment.page.paper", raising=False)
    code, out, err = amtl(capsys, copied, "--png", tmp_path / "png")
    assert (code, out) == (2, "")
    assert 'pip install "amtl-jax[demo]"' in err
    assert not (copied / "report.html").exists()
    assert amtl(capsys, copied)[0] == 0


def test_the_copy_of_a_finished_run_elsewhere_has_the_same_page(copied, page, whole, tmp_path):
    moved = shutil.move(copied, tmp_path / "elsewhere")
    found = write_report([moved], out=tmp_path / "a.html").page.read_bytes()
    assert found.replace(str(moved).encode(), str(whole[0]).encode()) == page
