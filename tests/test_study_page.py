"""The documentation's page of a study holds what the study's files hold."""

import collections
import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from amtl_jax.experiment.config import ConfigError, StudyConfig, to_plain
from amtl_jax.experiment.loading import load_config
from amtl_jax.experiment.page.studies import read_studies
from benchmarks.__main__ import main
from benchmarks.study_page import command_of, expectations, merged

sys.path.append(str(Path(__file__).parent / "experiment"))
from fabricated_study import fabricate

DOCS = Path(__file__).parents[1] / "docs"
_NUMBER = r"([+−-]?\d*\.?\d+(?:e-\d+)?)"
_INTERVAL = re.compile(rf"{_NUMBER}\s+\[{_NUMBER},\s*{_NUMBER}\]")


def test_the_page_has_every_study_with_its_command_and_numbers(tmp_path, monkeypatch):
    summary = fabricate(tmp_path / "study", corruptions=2, digits=2, name="mnist_c_linear")
    config = load_config("mnist_c_linear")
    config = dataclasses.replace(config, study=StudyConfig(seeds=(4, 5)))
    (tmp_path / "study" / "config.json").write_text(json.dumps(to_plain(config)))
    out = tmp_path / "page.md"
    words = ["benchmarks", "study_page", "--out", str(out), str(tmp_path / "study")]
    monkeypatch.setattr(sys, "argv", words)
    main()
    text = out.read_text()
    assert "## mnist_c_linear" in text
    assert "--study.seeds 4 5" in text
    accuracy = summary["cells"][0]["arms"]["uniform"]["metrics"]["accuracy"]
    assert f"{100 * accuracy:.2f}%" in text
    for sentence in summary["reading"]:
        assert sentence[:30] in text


def test_a_command_names_what_differs_from_the_shipped_config_alone():
    config = load_config("mnist_c_linear")
    assert command_of(to_plain(config)) == "amtl study mnist_c_linear --data.root mnist_c"
    changed = dataclasses.replace(config, budget=20, num_target=100)
    command = command_of(json.loads(json.dumps(to_plain(changed))))
    assert command.split("\\\n    ")[1:] == ["--num-target 100 ", "--budget 20"]
    with pytest.raises(ConfigError, match="'own' is of no shipped config"):
        command_of(to_plain(dataclasses.replace(config, name="own")))


def test_a_page_keeps_the_studies_that_are_not_at_hand():
    def part(command, number):
        return f"## study\n\n```sh\namtl study {command}\n```\n\n### Budget\n\n{number}\n"

    page = merged("", [part("one", 1), part("two", 2)])
    assert page == merged(page, [])
    page = merged(page, [part("three", 3), part("one", 4)])
    assert page.startswith("# Tables of the MNIST-C studies\n")
    numbers = [line for line in page.splitlines() if line.isdigit()]
    assert numbers == ["4", "2", "3"]


def test_the_page_says_what_came_of_what_leave_one_out_expected(tmp_path):
    summary = fabricate(tmp_path, corruptions=2, digits=2, budgets=(1000,))
    study = read_studies([tmp_path])
    targets = summary["targets"]
    differences = [
        summary["cells"][0]["arms"]["alignment"]["per_target"][name]["mse"]["difference"]
        for name in targets
    ]
    arrays = study.arrays | {
        "loo/uniform": np.full(4, 0.5),
        "predicted/alignment": np.array([-0.03, -0.019, 0.1, -0.02]),  # 6, 3.8, -20 and 4 %
    }
    text = expectations(study._replace(arrays=arrays))
    rows = {
        tuple(cells[1:3]): cells[3:]
        for cells in (
            [cell.strip() for cell in line.split("|")]
            for line in text.splitlines()
            if line.startswith("| alignment")
        )
    }
    for key, places in (("4% below", [0, 3]), ("others", [1, 2])):
        own = np.array(differences)[places]
        targets_of, share, mse, _, _ = rows["alignment", key]
        assert int(targets_of) == 2
        assert share == f"{100 * np.mean(own < 0):.0f}%"
        assert float(mse) == pytest.approx(own.mean(), abs=6e-6)
    assert "all_data" not in text
    assert "target_only" not in text
    assert expectations(study._replace(arrays={})) == ""


def intervals_in(text):
    """Differences with their intervals, and half a unit in the last place of each number."""
    for found in _INTERVAL.finditer(text):
        words = [word.replace("−", "-") for word in found.groups()]
        halves = [0.5001 * 10.0 ** -len(word.partition(".")[2]) for word in words]
        yield found.group(), [float(word) for word in words], halves


def sections_of(tables):
    """The parts of the page of tables, by the anchors that the site gives their headings."""
    sections, seen = {}, collections.Counter()
    for part in tables.split("\n## ")[1:]:
        name = part.split("\n", 1)[0]
        sections[f"{name}_{seen[name]}" if seen[name] else name] = part
        seen[name] += 1
    return sections


def test_every_interval_in_the_words_is_in_the_tables_that_they_link():
    """What is written on docs/mnist_c.md was read off files that a study wrote."""
    sections = sections_of((DOCS / "mnist_c_tables.md").read_text("utf-8"))
    checked = 0
    for part in (DOCS / "mnist_c.md").read_text("utf-8").split("\n## ")[1:]:
        anchors = set(re.findall(r"mnist_c_tables\.md#(\w+)\)", part))
        assert anchors <= set(sections)
        known = [value for name in anchors for _, value, _ in intervals_in(sections[name])]
        known += [[-middle, -high, -low] for middle, low, high in known]  # "lowers by"
        for text, value, halves in intervals_in(part):
            near = np.abs(np.array(known).reshape(-1, 3) - value) <= halves
            assert near.all(axis=1).any(), f"{text}: in no table of {sorted(anchors)}"
            checked += 1
    assert checked > 40
