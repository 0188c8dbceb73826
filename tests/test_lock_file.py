"""requirements.lock: the environment of `pip install "amtl-jax[demo]"`, pinned with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"(?P<what>[^\s#][^\\\n]*)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def wanted(extra=None):
    """Requirements of the package with an extra, its own extras among them resolved."""
    listed = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    for text in listed:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"].replace("_", "-"):
            for own in requirement.extras:
                yield from wanted(own)
        else:
            yield requirement


def pins(python):
    """Versions by name that are installed on Linux with that Python."""
    place = {"python_version": python, "python_full_version": f"{python}.0"}
    place |= {"sys_platform": "linux", "platform_system": "Linux"}
    found = {}
    for match in PIN.finditer(TEXT):
        requirement = Requirement(match["what"].strip())
        (only,) = requirement.specifier
        assert only.operator == "==", requirement
        if requirement.marker is None or requirement.marker.evaluate(place):
            assert requirement.name not in found, requirement
            found[requirement.name.lower()] = only.version
    return found


def test_every_line_is_a_comment_a_pin_or_its_hash():
    rest = PIN.sub("", TEXT)
    assert all(line.startswith("#") for line in rest.splitlines()), rest
    assert "://" not in TEXT  # no address of an index


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_pins_are_what_the_project_admits(python):
    found = pins(python)
    for requirement in wanted("demo"):
        version = found[requirement.name.lower()]
        assert requirement.specifier.contains(version, prereleases=True), (requirement, version)
