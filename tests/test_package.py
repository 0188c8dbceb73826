"""What an installed package says about itself, and what a type checker sees of it."""

import ast
import re
import tomllib
from importlib import metadata, resources
from pathlib import Path

import amtl_jax as amtl
from amtl_jax.experiment.loading import shipped_configs

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = dict(re.findall(r"^(\w[\w-]*): *(\S.*)$", (ROOT / "CITATION.cff").read_text(), re.M))


def public_names():
    """`(module, name)` of every public name, as `__init__.py` resolves them."""
    return [
        (f"amtl_jax.{module}", name)
        for module, names in amtl._EXPORTS.items()
        for name in names.split()
    ]


def declared_names():
    """`(module, name)` of every name that `__init__.pyi` hands on by `import name as name`."""
    tree = ast.parse(resources.files("amtl_jax").joinpath("__init__.pyi").read_text("utf-8"))
    return [
        (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # only these are public to a type checker
    ]


def test_type_checkers_see_exactly_the_public_names():
    public, declared = public_names(), declared_names()
    missing = [f"from {m} import {name} as {name}" for m, name in sorted({*public} - {*declared})]
    surplus = [f"from {m} import {name} as {name}" for m, name in sorted({*declared} - {*public})]
    assert not missing, "add to amtl_jax/__init__.pyi:\n" + "\n".join(missing)
    assert not surplus, "not in _EXPORTS, remove from amtl_jax/__init__.pyi:\n" + "\n".join(surplus)
    assert len(set(public)) == len(public) == len({name for _, name in public})
    assert amtl.__all__ == ["__version__", *sorted(name for _, name in public)]


def test_every_name_resolves_to_the_object_of_its_module():
    for module, name in public_names():
        value = getattr(amtl, name)
        # A function or class is listed where it is written, not where it is passed through.
        assert getattr(value, "__module__", module) == module, name


def test_the_package_is_marked_as_typed():
    assert resources.files("amtl_jax").joinpath("py.typed").is_file()


def test_metadata_agrees_with_the_package():
    assert metadata.version("amtl-jax") == amtl.__version__
    assert "version" in PROJECT["dynamic"]  # read from __init__.py, written nowhere else
    scripts = metadata.entry_points(group="console_scripts", name="amtl")
    assert [script.value for script in scripts] == [PROJECT["scripts"]["amtl"]]


def test_the_citation_agrees_with_the_package():
    assert CITATION["title"] == "amtl_jax"
    assert PROJECT["name"] == CITATION["title"].replace("_", "-")
    assert CITATION["version"] == amtl.__version__
    assert CITATION["license"] == PROJECT["license"]


def test_every_config_of_the_repository_is_shipped():
    written = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert written
    assert set(shipped_configs()) == written
