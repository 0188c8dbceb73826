"""The look of all figures, and how they become PNG. Needs matplotlib.

Shapes, line styles and text say everything: colour only repeats it, in palettes that people with
colour-vision deficiency and grey printers can read (cividis; Okabe and Ito).
"""

import functools
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.style
from matplotlib.figure import Figure

_STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


class Look(NamedTuple):
    """How an arm is drawn, the same in every figure."""

    colour: str
    marker: str
    line: str


_LOOKS = {
    "uniform": Look("#000000", "s", "--"),
    "a_mtrl": Look("#0072B2", "o", "-"),
    "l1_a_mtrl": Look("#D55E00", "^", "-."),
    "c_optimal": Look("#009E73", "D", (0, (5, 1))),
    "alignment": Look("#CC79A7", "v", (0, (3, 1, 1, 1))),
}
_OTHERS = (
    Look("#56B4E9", "P", ":"),
    Look("#E69F00", "X", (0, (1, 1))),
)


def looks(arms: list[str]) -> dict[str, Look]:
    """Gives every arm its look."""
    others = [arm for arm in arms if arm not in _LOOKS]
    return _LOOKS | {arm: _OTHERS[index % len(_OTHERS)] for index, arm in enumerate(others)}


class Picture(Figure):
    """A figure that notebooks show, whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        return png(self)


def styled(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draws in our style, whatever a person has set up for their own figures."""

    @functools.wraps(draw)
    def wrapped(*arguments: Any, **options: Any) -> Picture:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*arguments, **options)

    return wrapped


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    stream = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure.savefig(stream, format="png")
    return stream.getvalue()
