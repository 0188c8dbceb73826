"""The page itself: head, contents, sections. It loads nothing, and says so to the browser."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import amtl_jax
from amtl_jax.experiment.page.colours import variables
from amtl_jax.experiment.page.markup import Html, element, join

# Browsers of before 2025 print closed <details> closed.
_UNFOLD = (
    "let shut=[];"
    "addEventListener('beforeprint',()=>{shut=[...document.querySelectorAll('details:not([open])')];"
    "shut.forEach(one=>{one.open=true})});"
    "addEventListener('afterprint',()=>{shut.forEach(one=>{one.open=false})});"
)


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      name: of the place, for links to it.
      title: in the contents and above it.
      body: what it holds; nothing leaves it out.
    """

    name: str
    title: str
    body: Html


def document(
    title: str,
    top: Sequence[Html],
    sections: Sequence[Section],
    *,
    arms: Sequence[str],
    style: str = "",
) -> bytes:
    """The file of a page.

    Args:
      title: of the window.
      top: what stands above the contents.
      sections: in order.
      arms: whose colours the page needs.
      style: rules of this page alone.
    """
    sections = [section for section in sections if section.body]
    links = [
        element("li", None, element("a", {"href": f"#{one.name}"}, one.title)) for one in sections
    ]
    body = [
        element(
            "header",
            None,
            *top,
            element("nav", {"aria-label": "Contents"}, element("ul", None, *links)),
        ),
        element("main", None, *map(_section, sections)),
        element("footer", None, f"Written by amtl report, amtl_jax {amtl_jax.__version__}."),
        element("script", None, Html(_UNFOLD)),
    ]
    page = element("html", {"lang": "en"}, _head(title, arms, style), element("body", None, *body))
    return f"<!DOCTYPE html>\n{page}\n".encode()


def _section(one: Section) -> Html:
    heading = element("h2", {"id": f"{one.name}-h"}, one.title)
    return element(
        "section", {"id": one.name, "aria-labelledby": f"{one.name}-h"}, heading, one.body
    )


def _head(title: str, arms: Sequence[str], style: str) -> Html:
    sheet = resources.files("amtl_jax.experiment.page").joinpath("style.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(_UNFOLD.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", None, title),
        element("style", None, Html(join([Html(variables(arms)), Html(sheet), Html(style)]))),
    )
