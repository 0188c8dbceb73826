"""Samples bought from every source in every round, for a target that the reader chooses.

Radio buttons and the style sheet do the choosing, so it works without a script; without a style
sheet all targets stand below each other.
"""

import numpy as np

from amtl_jax.experiment.page.colours import BLUE
from amtl_jax.experiment.page.count_pictures import (
    STEPS,
    Bought,
    opacity_of,
    shared_axes,
    target_picture,
)
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.scales import Scale
from amtl_jax.experiment.page.study_tables import Arms
from amtl_jax.experiment.page.tables import caption_of, scrolling, table

_MOST_NAMED = 5


def counts_section(found: Bought, arms: Arms) -> Html:
    """A chooser, and a picture for every target with its most bought sources."""
    has_any = [
        place
        for place in range(len(found.targets))
        if any(found.counts[arm][place].any() for arm in found.arms)
    ]
    if not has_any:
        return Html("")
    low, high = _range(found)
    first = has_any[0]
    radios = [
        element(
            "input",
            {
                "type": "radio",
                "name": "target",
                "id": f"t{place}",
                "checked": "" if place == first else None,
                "class": "choose",
                "aria-label": found.targets[place][:60],
            },
        )
        for place in has_any
    ]
    every = {"type": "checkbox", "id": "every", "class": "every"}
    every["aria-label"] = "Print all targets, not the chosen one alone"
    radios.append(element("input", every))
    wish = element("label", {"for": "every", "class": "wish"}, "print all targets")
    side = [_chooser(found, set(has_any)), _legend(low, high), wish]
    panels = [
        element(
            "article",
            {"id": f"p{place}"},
            element("h3", None, f"Target {shortened(found.targets[place])}"),
            target_picture(found, place, low, high),
            _named(found, place, arms),
        )
        for place in has_any
    ]
    return join(
        [
            shared_axes(found),
            element(
                "div",
                {"class": "counts"},
                *radios,
                element("div", {"class": "side"}, *side),
                element("div", {"class": "panels"}, *panels),
            ),
        ]
    )


def counts_style(found: Bought) -> str:
    """The rules that show the chosen target alone."""
    return "".join(
        f"#t{place}:checked~.panels #p{place}{{display:block}}"
        f"#t{place}:checked~.side label[for=t{place}]"
        "{background:var(--accent);color:var(--paper)}"
        f"#t{place}:focus-visible~.side label[for=t{place}]"
        "{outline:3px solid var(--ink);outline-offset:1px}"
        for place in range(len(found.targets))
    )


def _range(found: Bought) -> tuple[float, float]:
    """The least and the largest number that colours tell apart; 0 is blank."""
    values = np.concatenate([found.counts[arm].ravel() for arm in found.arms])
    values = values[values > 0]
    low, high = float(values.min()), float(values.max())
    return min(max(low, high / 1000), high / 2), high


def _chooser(found: Bought, has_any: set[int]) -> Html:
    place_of = {name: place for place, name in enumerate(found.targets)}
    head = [element("th", {"scope": "col"}, one) for one in ("target", *found.digits)]
    rows = []
    for corruption in found.corruptions:
        cells = []
        for digit in found.digits:
            place = place_of.get(f"{corruption}_{digit}")
            inside = Html("")
            if place in has_any:
                inside = element("label", {"for": f"t{place}"}, shortened(digit, 3))
            cells.append(element("td", None, inside))
        if any(f"{corruption}_{digit}" in place_of for digit in found.digits):
            name = element("th", {"scope": "row"}, shortened(corruption, 20))
            rows.append(element("tr", None, name, *cells))
    return scrolling(
        element(
            "table",
            {"class": "chooser"},
            caption_of("Choose a target by its corruption and digit"),
            element("thead", None, element("tr", None, *head)),
            element("tbody", None, *rows),
        )
    )


def _legend(low: float, high: float) -> Html:
    scale = Scale(1.0, float(STEPS), low, high)
    is_log = high > 10 * low
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        step = 1 + share * (STEPS - 1)
        value = low * (high / low) ** share if is_log else scale.place(step)
        square = element(
            "rect",
            {
                "x": 2,
                "y": 4,
                "width": 12,
                "height": 12,
                "fill": f"rgb{BLUE}".replace(" ", ""),
                "fill-opacity": opacity_of(step),
            },
        )
        picture = element("svg", {"viewBox": "0 0 16 20", "aria-hidden": "true"}, square)
        text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
        parts.append(element("span", None, picture, text))
    return element(
        "p", {"class": "legend keys"}, element("span", {"class": "end"}, "samples"), *parts
    )


def _named(found: Bought, place: int, arms: Arms) -> Html:
    """The sources that were bought most, in words."""
    rows = []
    for arm in found.arms:
        totals = found.counts[arm][place].sum(axis=0)
        order = np.argsort(-totals, kind="stable")[:_MOST_NAMED]
        text = ", ".join(
            f"{shortened(found.tasks[index])} {totals[index]:,.0f}"
            for index in order
            if totals[index] > 0
        )
        rows.append([arms.label(arm), text or "nothing"])
    return table("Most samples over all rounds", ("arm", "sources"), rows, kinds=("", "text"))
