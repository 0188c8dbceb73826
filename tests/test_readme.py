"""What the README promises runs."""

import re
from pathlib import Path

import pytest
from doc_pages import blocks_of, commands_of, run_block

README = Path(__file__).parent.parent / "README.md"


def test_python_of_the_readme_prints_an_allocation():
    (block,) = [block for block in blocks_of(README) if block.language == "python"]
    printed = run_block(block, "README.md", {"__name__": "readme"})
    nu, counts = (
        [float(number) for number in re.findall(r"-?\d+\.?\d*", line)]
        for line in re.split(r"\]\s*\[", printed)
    )
    assert nu[2] == pytest.approx(1.0, abs=0.3)
    assert nu[5] == pytest.approx(-0.5, abs=0.3)
    assert sum(counts) == 800
    assert sorted(range(8), key=lambda task: -counts[task])[:2] == [2, 5]


def test_commands_of_the_readme_are_run_by_a_tutorial():
    """There perhaps with more options behind; test_docs.py runs them."""
    pages = sorted((README.parent / "docs").rglob("*.md"))
    run = [words for page in pages for words in _commands(page)]
    for words in _commands(README):
        assert any(one[: len(words)] == words for one in run), words


def _commands(page):
    blocks = [block for block in blocks_of(page) if block.language == "sh" and block.runs]
    return [words for block in blocks for words in commands_of(block)]


def test_readme_stays_short_and_names_the_two_commands():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert len(re.findall(r"^python3 -m venv .*$", text, flags=re.MULTILINE)) == 2
