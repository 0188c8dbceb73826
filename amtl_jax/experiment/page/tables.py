"""Tables of a page: headed on both sides, numbers aligned, and wide ones scroll by themselves."""

from collections.abc import Sequence
from typing import Any

from amtl_jax.experiment.page.markup import Html, element, join, shortened


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    kinds: Sequence[str] = (),
    name: str = "",
) -> Html:
    """A table whose first column names the rows.

    Args:
      caption: what it shows.
      head: names of the columns.
      rows: cells; a cell that is `Html` goes in as it is.
      kinds: class of each column; numbers, to the right, unless told.
      name: class of the table.
    """
    kinds = kinds or ("", *["n"] * (len(head) - 1))
    top = [
        element("th", {"scope": "col", "class": kind or None}, one)
        for one, kind in zip(head, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [element("th", {"scope": "row"}, row[0])]
        for cell, kind in zip(row[1:], kinds[1:], strict=True):
            cells.append(element("td", {"class": kind or None}, cell))
        body.append(element("tr", None, *cells))
    return scrolling(
        element(
            "table",
            {"class": name or None},
            caption_of(caption),
            element("thead", None, element("tr", None, *top)),
            element("tbody", None, *body),
        )
    )


def caption_of(text: str) -> Html:
    """The caption of a table, which stays where it is while a wide table scrolls."""
    return element("caption", None, element("span", None, text))


def scrolling(content: str) -> Html:
    """Something wide that scrolls by itself on a narrow screen."""
    return element("div", {"class": "scroll"}, content)


def folded(summary: str, *content: str, is_open: bool = False) -> Html:
    """Content behind a line that opens it."""
    opened = {"open": ""} if is_open else None
    return element("details", opened, element("summary", None, summary), *content)


def paragraph(text: str, kind: str = "") -> Html:
    """A paragraph."""
    return element("p", {"class": kind or None}, text)


def setting_rows(plain: Any, before: str = "") -> list[tuple[str, str]]:
    """Every value of a config by its dotted name, as short text."""
    if isinstance(plain, dict) and plain:
        return [
            pair
            for name, value in plain.items()
            for pair in setting_rows(value, f"{before}.{shortened(str(name))}".lstrip("."))
        ]
    return [(before, _setting_text(plain))]


def settings(config: dict[str, Any], most: int = 400) -> Html:
    """A config as a table of names and values."""
    found = setting_rows(config)
    left = len(found) - most
    rows = [(name, value) for name, value in found[:most]]
    if left > 0:
        rows.append((f"and {left:,} more", "in config.json"))
    return table("Config", ("value", "setting"), rows, kinds=("", "code"), name="settings")


def _setting_text(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(_setting_text(one) for one in value[:12])
        return f"{shown}, … ({len(value):,} in all)" if len(value) > 12 else shown or "none"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shortened(str(value), 200)


def facts(pairs: Sequence[tuple[str, str]]) -> Html:
    """Names and values in a list, beside each other."""
    return element(
        "dl",
        {"class": "facts"},
        *[
            element("div", None, element("dt", None, name), element("dd", None, value))
            for name, value in pairs
        ],
    )


def items(texts: Sequence[str]) -> Html:
    """A list of sentences."""
    return element("ul", {"class": "say"}, join(element("li", None, text) for text in texts))
