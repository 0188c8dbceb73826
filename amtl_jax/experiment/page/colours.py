"""Colours in light and dark, and what says the same without colour.

Arms have a marker and a dash pattern beside their colour. Better is blue and worse is orange, in
steps of equal lightness; a sign or a weight says which, and a number says how much.
"""

from collections.abc import Sequence
from typing import NamedTuple

_NAMES = ("paper", "ink", "muted", "line", "panel", "accent", "warn")
LIGHT = dict(
    zip(
        _NAMES,
        ("#ffffff", "#1a1f26", "#565f6b", "#d5dae0", "#f4f6f8", "#0a5fa5", "#fdf3df"),
        strict=True,
    )
)
DARK = dict(
    zip(
        _NAMES,
        ("#14181d", "#e4e8ed", "#a2acb8", "#39424d", "#1c2229", "#7cbcf2", "#3a2f16"),
        strict=True,
    )
)

NUM_STEPS = 4  # of a difference, on either side of nothing
# From the largest gain to the largest loss, 0 in the middle; text on them is black or white.
DIVERGING = {
    "light": (
        *("#1f6cb0", "#6aa5d8", "#a8cbea", "#d9e8f5"),
        "#f4f5f6",
        *("#fbe6d0", "#f5c595", "#e39a52", "#b35c00"),
    ),
    "dark": (
        *("#8cc4f2", "#4593d1", "#2a6496", "#20405c"),
        "#23292f",
        *("#4a3319", "#7a4d17", "#bf7322", "#f2ab62"),
    ),
}
SEQUENTIAL = {
    "light": ("#f4f5f6", "#dfe9f2", "#bdd5ea", "#8fb8dc", "#5b94c8", "#2f6ea8", "#12467c"),
    "dark": ("#1d232a", "#213345", "#264a68", "#2f6692", "#4389bd", "#71b1de", "#b4dbf7"),
}
# Of images, which lie on light and dark paper alike: as dark on one as light on the other.
BLUE, ORANGE = (46, 128, 196), (204, 108, 24)


class Look(NamedTuple):
    """How an arm is drawn, the same everywhere.

    Attributes:
      light: colour on light paper.
      dark: colour on dark paper.
      marker: key of `MARKERS`.
      dash: pattern of its lines, as SVG writes it; empty for a whole line.
    """

    light: str
    dark: str
    marker: str
    dash: str


# Paths around the origin that are all about as large.
MARKERS = {
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "up": "M0-4.8L4.6 3.4H-4.6z",
    "down": "M0 4.8L4.6-3.4H-4.6z",
    "diamond": "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "plus": "M-1.6-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z",
    "cross": "M-4.6-2.4L-2.4-4.6L0-2.2L2.4-4.6L4.6-2.4L2.2 0L4.6 2.4L2.4 4.6L0 2.2L-2.4 4.6"
    "L-4.6 2.4L-2.2 0z",
    "bar": "M-4.8-1.8h9.6v3.6h-9.6z",
    "star": "M0-5.6L1.6-1.8L5.6-1.6L2.5 1L3.6 5L0 2.8L-3.6 5L-2.5 1L-5.6-1.6L-1.6-1.8z",
    "hexagon": "M-2.4-4.4H2.4L4.8 0L2.4 4.4H-2.4L-4.8 0z",
}
_LOOKS = {
    "uniform": Look("#1a1f26", "#e4e8ed", "square", "6 3"),
    "target_only": Look("#68727e", "#97a2ae", "bar", "1.5 2.5"),
    "pooled": Look("#68727e", "#97a2ae", "hexagon", "9 3"),
    "all_data": Look("#7d6338", "#c8aa76", "star", "9 2.5 2 2.5"),
    "a_mtrl": Look("#0072b2", "#58aee6", "circle", ""),
    "l1_a_mtrl": Look("#c65102", "#f09257", "up", "8 2.5 1.5 2.5"),
    "c_optimal": Look("#008561", "#3fc79d", "diamond", "11 3"),
    "alignment": Look("#a83f83", "#e391c2", "down", "4 2 1 2"),
    "same_digit": Look("#6a52c4", "#ab9bf2", "plus", "3 2"),
    "clairvoyant": Look("#8f5a00", "#e8b45c", "cross", "1 3"),
    "answer": Look("#1a1f26", "#e4e8ed", "star", "1 2"),
}
_OTHERS = (
    Look("#2678a8", "#7fc4ea", "cross", "2 2"),
    Look("#8a6a00", "#e0bd52", "hexagon", "7 2 2 2 2 2"),
    Look("#a03a3a", "#eb8f8f", "up", "12 2 1 2"),
    Look("#4c6b2f", "#a6cc80", "diamond", "5 5"),
)


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """The look of every arm; arms that nobody knows take turns."""
    others = [arm for arm in arms if arm not in _LOOKS]
    turns = {arm: _OTHERS[index % len(_OTHERS)] for index, arm in enumerate(others)}
    return {arm: _LOOKS.get(arm) or turns[arm] for arm in arms}


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour: a contrast of 4.5 at least."""
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours after WCAG, from 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def variables(arms: Sequence[str]) -> str:
    """CSS of all colours: light, and dark on screens that want it."""
    found = looks(arms)
    light = _block(LIGHT, "light", [look.light for look in found.values()])
    dark = _block(DARK, "dark", [look.dark for look in found.values()])
    steps = "".join(
        f".d{index}{{background:var(--d{index});color:var(--e{index})}}"
        for index in range(2 * NUM_STEPS + 1)
    )
    steps += "".join(
        f".s{index}{{background:var(--s{index});color:var(--t{index})}}"
        for index in range(len(SEQUENTIAL["light"]))
    )
    own = "".join(f".a{index}{{--c:var(--a{index})}}" for index in range(len(found)))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{steps}{own}\n"
    )


def _block(named: dict[str, str], theme: str, arms: list[str]) -> str:
    pairs = dict(named)
    for letter, text, colours in (
        ("d", "e", DIVERGING[theme]),
        ("s", "t", SEQUENTIAL[theme]),
    ):
        for index, colour in enumerate(colours):
            pairs[f"{letter}{index}"] = colour
            pairs[f"{text}{index}"] = text_on(colour)
    pairs |= {f"a{index}": colour for index, colour in enumerate(arms)}
    return ";".join(f"--{name}:{colour}" for name, colour in pairs.items())
