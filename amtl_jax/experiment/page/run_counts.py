"""Samples that a run bought: numbers in coloured cells, a map a round or a column a round."""

import numpy as np

from amtl_jax.experiment.page.colours import SEQUENTIAL
from amtl_jax.experiment.page.heatmap import grid
from amtl_jax.experiment.page.markup import Html, element, shortened
from amtl_jax.experiment.result import RunResult

_MOST_ROWS = 20
_MOST_COLUMNS = 12
_MOST_MAPS = 40  # rounds that are drawn as maps


def counts_of(result: RunResult, arm: str) -> Html:
    """What an arm bought in each round, the mean over seeds.

    Sources called `<corruption>_<digit>` make a map a round; others, the 20 that were bought most,
    rows of one table with a column a round.

    Args:
      result: of a run.
      arm: that buys samples.
    """
    bought = bought_by(result, arm)
    shade = _Shade(bought)
    names = result.source_names
    pairs = [name.rpartition("_")[::2] for name in names]
    kinds, digits = (list(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    is_map = len(kinds) * len(digits) <= 1.2 * len(names) and all(kinds)
    is_map = is_map and len(kinds) > 1 and 1 < len(digits) <= _MOST_COLUMNS
    if is_map and len(bought) <= _MOST_MAPS:
        return _maps(bought, pairs, kinds, digits, shade)
    return _columns(bought, names, shade)


def bought_by(result: RunResult, arm: str) -> np.ndarray:
    """`[R, M]` samples in each round; a seed that stopped before bought nothing more."""
    records = [one for one in result.rounds_of(arm) if one["counts"]]
    number = 1 + max(one["round"] for one in records)
    seeds = len({one["seed"] for one in records})
    bought = np.zeros((number, len(result.source_names)))
    for one in records:
        bought[one["round"]] += np.asarray(one["counts"], float) / seeds
    return bought


class _Shade:
    """Colours of counts; logarithmic where they span more than tenfold."""

    def __init__(self, bought: np.ndarray) -> None:
        known = bought[bought > 0]
        self.low, self.high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        self.is_log = self.low > 0 and self.high > 10 * self.low

    def cell(self, value: float) -> Html:
        if not value:
            return element("td", {"class": "s0"}, "0")
        share = value / self.high
        if self.is_log:
            share = float(np.log(value / self.low) / np.log(self.high / self.low))
        step = round((len(SEQUENTIAL["light"]) - 1) * min(max(share, 0.0), 1.0))
        return element(
            "td",
            {"class": f"s{step}"},
            f"{value:.0f}" if value < 9999.5 else f"{value / 1000:.0f}k",
        )


def _maps(
    bought: np.ndarray,
    pairs: list[tuple[str, str]],
    kinds: list[str],
    digits: list[str],
    shade: _Shade,
) -> Html:
    places = {pair: place for place, pair in enumerate(pairs)}
    maps = []
    for index, counts in enumerate(bought):
        cells = [
            [
                shade.cell(float(counts[places[kind, digit]]))
                if (kind, digit) in places
                else element("td", {"class": "none"})
                for digit in digits
            ]
            for kind in kinds
        ]
        head = ["", *(shortened(digit, 6) for digit in digits)]
        caption = f"Round {index + 1}: {counts.sum():,.0f} samples"
        maps.append(
            grid(caption, head, [shortened(kind, 20) for kind in kinds], cells, kind="heat")
        )
    return element("div", {"class": "maps"}, *maps)


def _columns(bought: np.ndarray, names: tuple[str, ...], shade: _Shade) -> Html:
    order = np.argsort(-bought.sum(axis=0), kind="stable")
    shown, rest = order[:_MOST_ROWS], order[_MOST_ROWS:]
    labels = [shortened(names[place], 30) for place in shown]
    rows = [bought[:, place] for place in shown]
    if len(rest):
        labels.append(f"mean of {len(rest):,} others")
        rows.append(bought[:, rest].mean(axis=1))
    cells = [[shade.cell(float(value)) for value in row] for row in rows]
    head = ["", *(f"round {place + 1}" for place in range(len(bought)))]
    return grid("Samples, the sources bought most first", head, labels, cells, kind="heat roomy")
