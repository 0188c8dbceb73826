"""What the README promises runs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_python_of_the_readme_prints_an_allocation(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    nu, counts = (
        [float(number) for number in re.findall(r"-?\d+\.?\d*", line)]
        for line in re.split(r"\]\s*\[", capsys.readouterr().out)
    )
    assert nu[2] == pytest.approx(1.0, abs=0.3)
    assert nu[5] == pytest.approx(-0.5, abs=0.3)
    assert sum(counts) == 800
    assert sorted(range(8), key=lambda task: -counts[task])[:2] == [2, 5]


def test_readme_stays_short_and_names_the_two_commands():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert len(re.findall(r"^python3 -m venv .*$", text, flags=re.MULTILINE)) == 2
