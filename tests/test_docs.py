"""What the guides promise runs, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_a_module_of_ones_own(capsys):
    text = (ROOT / "docs/representations.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(code, "representations.md", "exec"), {"__name__": "representations"})
    counts = [int(number) for number in re.findall(r"\d+", capsys.readouterr().out)]
    assert sum(counts) == 800
    assert sorted(sorted(range(8), key=lambda task: -counts[task])[:2]) == [0, 4]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
