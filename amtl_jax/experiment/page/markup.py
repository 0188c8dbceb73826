"""Markup that escapes what it is given: only what is `Html` already goes in as it is.

Pages are well-formed XML beside being HTML: every element is closed and every attribute quoted, so
that a strict parser can prove that nothing from a file became markup.
"""

import html
from collections.abc import Iterable, Mapping
from typing import Any

_SPACES = "\xa0\u2009\u202f"  # not printable to Python, but meant
_VOID = frozenset({"meta", "input", "img"})  # HTML elements that have no end


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Returns plain text as markup; an `Html` as it is."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text)))


def printable(text: str) -> str:
    """Text in which control characters, half of a surrogate pair and the like are written out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in _SPACES else one.encode("unicode_escape").decode()
        for one in text
    )


def shortened(text: str, most: int = 40) -> str:
    """A name of a file that may be of any length, for a place that holds `most` characters."""
    text = printable(" ".join(text[: 4 * most].split()) or "(no name)")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def element(name: str, attributes: Mapping[str, Any] | None = None, *children: str) -> Html:
    """An element.

    Args:
      name: of the element.
      attributes: numbers are rounded to a hundredth; None leaves one out.
      *children: its content, in order; what is not `Html` is escaped.
    """
    head = name + "".join(
        f' {key}="{escape(_value(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    if not children and name in _VOID:
        return Html(f"<{head} />")
    return Html(f"<{head}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Markup of all parts, one after the other."""
    return Html(escape(between).join(map(escape, parts)))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else short_number(value)


def short_number(value: float) -> str:
    """A number of a drawing, to a hundredth."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
