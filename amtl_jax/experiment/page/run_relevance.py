"""Relevance of a run's sources, with intervals: the strongest first, a line for every seed."""

from typing import Any

from amtl_jax.experiment.page.colours import MARKERS
from amtl_jax.experiment.page.drawing import segment, words
from amtl_jax.experiment.page.markup import Html, element, join, short_number, shortened
from amtl_jax.experiment.page.numbers import NONE, minus, signed_tick
from amtl_jax.experiment.page.scales import Scale, padded, ticks
from amtl_jax.experiment.page.tables import items, table
from amtl_jax.experiment.result import RunResult

_MOST_SOURCES = 15
_WIDTH, _EDGE, _LINE, _MARGIN = 420, 12, 14, 6
_CROSS = "M-3-3L3 3M-3 3L3-3"


def relevance_of(result: RunResult, arm: str) -> Html:
    """The table of an arm's strongest sources, and what cannot be told apart.

    Args:
      result: of a finished run.
      arm: that buys samples.
    """
    rows = result.relevance_table(arm)
    names = _shown(rows)
    shown = [row for row in rows if row["source"] in names]
    ends = [row[name] for row in shown for name in ("nu", "middle", "low", "high")]
    known = [end for end in ends if end is not None]
    scale = Scale(*padded([0.0, *known]), _EDGE, _WIDTH - _EDGE)
    seeds = result.summary["seeds"]
    cells = []
    for name in names:
        own = sorted((row for row in shown if row["source"] == name), key=lambda row: row["seed"])
        samples = sum(row["samples"] for row in own) / len(own)
        cells.append([shortened(name, 30), _bars(scale, own), _text(own), f"{samples:,.0f}"])
    last = result.rounds_of(arm)[-1]["relevance"]
    level = f"{100 * last['level']:g}%"
    caption = f"{len(names)} of {len(result.source_names)} sources, strongest first"
    of_seeds = "; mean of medians, widest ends" if len(seeds) > 1 else ""
    head = ("source", _ticks(scale), f"median [{level}]{of_seeds}", "samples")
    return join(
        [
            items(tie_lines(result, arm)),
            _key(),
            table(caption, head, cells, kinds=("", "plot wideplot", "n", "n")),
        ]
    )


def _shown(rows: list[dict[str, Any]]) -> list[str]:
    """The first sources of the table, and with them whatever is strongest in a seed."""
    names = list(dict.fromkeys(row["source"] for row in rows))
    tops = {row["source"] for row in rows if row["is_top"]}
    missing = [name for name in names[_MOST_SOURCES:] if name in tops]
    first = names[:_MOST_SOURCES]
    others = [name for name in first if name not in tops]
    left_out = others[max(len(others) - len(missing), 0) :]
    return [name for name in first if name not in left_out] + missing


def tie_lines(result: RunResult, arm: str) -> list[str]:
    """Says for each seed how many sources cannot be told apart from the strongest one."""
    others, seeds = len(result.source_names) - 1, result.summary["seeds"]
    last = {one["seed"]: one["relevance"] for one in result.rounds_of(arm)}
    lines = []
    for seed, known in last.items():
        top, tied = shortened(known["top"]), len(known["tied_with_top"])
        start = f"Seed {seed}: " if len(seeds) > 1 else ""
        if not tied:
            lines.append(f"{start}{top} is told apart from all {others} others.")
        elif tied == others:
            lines.append(f"{start}none of {others} others can be told apart from {top}.")
        else:
            lines.append(f"{start}{tied} of {others} others cannot be told apart from {top}.")
    return lines


def _bars(scale: Scale, rows: list[dict[str, Any]]) -> Html:
    """Intervals of a source, a line for every seed, around the line of no relevance."""
    height = 2 * _MARGIN + _LINE * len(rows)
    zero = scale.place(0.0)
    parts = [segment(zero, -2, zero, height + 2, "zero")]
    for place, row in enumerate(rows):
        y = _MARGIN + _LINE * (place + 0.5)
        if row["low"] is not None and row["high"] is not None:
            parts.append(segment(scale.place(row["low"]), y, scale.place(row["high"]), y, "span"))
        if row["middle"] is not None:
            parts.append(_marker(row, scale.place(row["middle"]), y))
        if row["nu"] is not None:
            parts.append(_path(_CROSS, "fitted", scale.place(row["nu"]), y))
    size = {"viewBox": f"0 0 {_WIDTH} {height}", "width": _WIDTH, "height": height}
    return element("svg", {"class": "in", **size, "aria-hidden": "true"}, *parts)


def _marker(row: dict[str, Any], x: float, y: float) -> Html:
    if row["is_top"]:
        return _path(MARKERS["star"], "filled", x, y)
    if row["told_apart"]:
        return _path(MARKERS["circle"], "filled", x, y)
    return _path(MARKERS["square"], "hollow", x, y)


def _path(path: str, kind: str, x: float, y: float) -> Html:
    move = f"translate({short_number(x)} {short_number(y)})"
    return element("path", {"class": kind, "d": path, "transform": move})


def _ticks(scale: Scale) -> Html:
    parts = []
    for value in ticks(scale.low, scale.high, 7):
        parts.append(words(scale.place(value), 13, signed_tick(value), "m"))
        parts.append(segment(scale.place(value), 17, scale.place(value), 21, "axis"))
    size = {"viewBox": f"0 0 {_WIDTH} 21", "width": _WIDTH, "height": 21}
    return element("svg", {"class": "in", **size, "aria-hidden": "true"}, *parts)


def _text(rows: list[dict[str, Any]]) -> str:
    """Mean of the medians and the widest ends, as the closing table of a run has them."""
    found = [[row[name] for row in rows] for name in ("middle", "low", "high")]
    if any(None in values for values in found):
        return NONE
    middle = sum(found[0]) / len(rows)
    return "{} [{}, {}]".format(*map(_signed, (middle, min(found[1]), max(found[2]))))


def _signed(value: float) -> str:
    return minus(f"{value:+.2f}") if value else "0"


def _key() -> Html:
    """What the markers say."""
    kinds = (
        (MARKERS["star"], "filled", "strongest"),
        (MARKERS["circle"], "filled", "told apart from it"),
        (MARKERS["square"], "hollow", "not told apart from it"),
        (_CROSS, "fitted", "nu of the fitted heads, which the counts follow"),
    )
    return element(
        "p",
        {"class": "legend keys"},
        *[
            element(
                "span",
                None,
                element(
                    "svg", {"viewBox": "0 0 16 20", "aria-hidden": "true"}, _path(path, kind, 8, 10)
                ),
                text,
            )
            for path, kind, text in kinds
        ],
    )
