"""Reads pages back as a strict parser does, and makes the workdirs that they are made of."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from amtl_jax.experiment.study_rows import read_rows, write_rows
from amtl_jax.experiment.study_summary import summarise_study

VOID = {"meta", "input", "img"}


def tree(page: bytes) -> ElementTree.Element:
    """The page as XML; raises where it is not well-formed."""
    start, _, rest = page.decode().partition("\n")
    assert start == "<!DOCTYPE html>"
    return ElementTree.fromstring(rest)


def text_of(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def tables(root: ElementTree.Element) -> dict[str, list[list[str]]]:
    """Rows of text of every table, its head first, by caption; of equal captions, the first."""
    found = {}
    for table in root.iter("table"):
        rows = [[text_of(cell) for cell in row] for row in table.iter("tr")]
        found.setdefault(text_of(table.find("caption")), rows)
    return found


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "").rstrip("%"))


def numbers(text: str) -> list[float]:
    return [number(one) for one in re.findall(r"[+−]?\d*\.?\d+", text)]


class Balanced(HTMLParser):
    """Sees whether an HTML parser, which forgives, sees the elements that the strict one does."""

    def __init__(self):
        super().__init__()
        self.open, self.names = [], []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def assert_well_formed(page: bytes) -> ElementTree.Element:
    root, other = tree(page), Balanced()
    other.feed(page.decode())
    assert other.open == []
    wanted = [element.tag.lower() for element in root.iter()]
    assert [name for name in other.names if name not in VOID] == [
        name for name in wanted if name not in VOID
    ]
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(names)) == len(names)
    return root


def assert_loads_nothing(root: ElementTree.Element) -> None:
    """No attribute of any element names something outside of the page."""
    names = {element.get("id") for element in root.iter()}
    for element in root.iter():
        assert element.tag not in ("link", "iframe", "object", "embed", "form", "base")
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on"), (element.tag, key)
            if key in ("href", "src", "xlink:href"):
                if value.startswith("#"):
                    assert value[1:] in names, value
                else:
                    assert value.startswith("data:image/png;base64,")
    style = text_of(root.find("head/style"))
    assert "@import" not in style
    assert "url(" not in style


def shard(whole: Path, folder: Path, keep) -> Path:
    """A workdir that holds some of the units of another one, as a shard of its study would."""
    folder.mkdir(parents=True)
    shutil.copy(whole / "config.json", folder)
    summary = json.loads((whole / "summary.json").read_text())
    rows = [row for row in read_rows(whole / "results.csv") if keep(row)]
    write_rows(folder / "results.csv", rows)
    cells = summary["cells"]
    found = summarise_study(
        rows,
        **{name: summary[name] for name in ("name", "targets", "arms", "seeds", "level")},
        budgets=list(dict.fromkeys(cell["budget"] for cell in cells)),
        target_samples=list(dict.fromkeys(cell["target_samples"] for cell in cells)),
        num_resamples=summary["num_resamples"],
        versions=summary["versions"],
        device=summary["device"],
        seconds=sum(row.seconds for row in rows),
    )
    (folder / "summary.json").write_text(json.dumps(found))
    largest = max(cell["budget"] for cell in cells)
    given = cells[0]["target_samples"]
    there = {row.target for row in rows if (row.budget, row.target_samples) == (largest, given)}
    with np.load(whole / "arrays.npz") as file:
        arrays = dict(file)
    missing = [place for place, name in enumerate(arrays["targets"]) if name not in there]
    for name, values in arrays.items():
        if "/" in name:
            values[missing] = 0 if name.startswith("counts/") else np.nan
    np.savez(folder / "arrays.npz", **arrays)
    return folder


def change(path: Path, **changes) -> None:
    """Writes other values into a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
