"""Predicted against measured difference to uniform, a point for every target."""

from collections.abc import Mapping

import numpy as np

from amtl_jax.experiment.page.drawing import Frame, axis_below, axis_left, picture, segment, words
from amtl_jax.experiment.page.markup import Html, element, join, short_number, shortened
from amtl_jax.experiment.page.numbers import minus, raised, signed_tick
from amtl_jax.experiment.page.scales import Scale, padded
from amtl_jax.experiment.page.study_tables import Arms

_SIZE, _LEFT, _TOP, _BOTTOM, _RIGHT = 350, 62, 46, 46, 10
_CUT = 2  # percent of the points on either side that the panel may leave to its edge
_SIDE = 5.5


def scatters(arrays: Mapping[str, np.ndarray], arms: Arms) -> Html:
    """A panel for every arm that has predictions; empty where none has.

    Args:
      arrays: of `arrays.npz`.
      arms: of the page.
    """
    panels = []
    for arm in arms.names:
        pair = [arrays.get(f"{kind}/{arm}") for kind in ("predicted", "measured")]
        if pair[0] is None or pair[1] is None:
            continue
        known = np.isfinite(pair[0]) & np.isfinite(pair[1])
        if known.any():
            panels.append(_panel(arm, pair[0][known], pair[1][known], arms))
    return element("div", {"class": "thirds"}, join(panels)) if panels else Html("")


def _panel(arm: str, predicted: np.ndarray, measured: np.ndarray, arms: Arms) -> Html:
    power = _power(np.concatenate([predicted, measured]))
    x, y = predicted * 10.0**power, measured * 10.0**power
    frame = Frame(
        _scale(x, _LEFT, _SIZE - _RIGHT),
        _scale(y, _SIZE - _BOTTOM, _TOP),
    )
    unit = f" × 10{raised(power)}" if power else ""
    text = _in_words(predicted, measured)
    parts = [
        words(0, 14, shortened(arm, 24), "head"),
        words(0, 31, text, "lab"),
        axis_left(frame, signed_tick, 6),
        axis_below(frame, signed_tick, f"predicted difference in MSE{unit}", 6),
        words(14, (_TOP + _SIZE - _BOTTOM) / 2, f"measured difference{unit}", "m lab", -90),
        *_guides(frame),
        element("g", {"class": f"a{arms.index[arm]}"}, *map(_point, x, y, [frame] * len(x))),
    ]
    name = f"risk-{arms.index[arm]}"
    title = f"{shortened(arm)}: predicted and measured difference to uniform in MSE"
    return element("figure", None, picture(name, title, f"{text}.", _SIZE, _SIZE, *parts))


def _power(values: np.ndarray) -> int:
    largest = float(np.percentile(np.abs(values), 100 - _CUT))
    return max(0, -int(np.floor(np.log10(largest)))) if 0 < largest < 0.1 else 0


def _scale(values: np.ndarray, start: float, stop: float) -> Scale:
    """A scale that holds 0 and nearly all values: single ones must not press the others flat."""
    low, high = np.percentile(values, [_CUT, 100 - _CUT])
    return Scale(*padded([0.0, float(low), float(high)], 0.1), start, stop)


def _guides(frame: Frame) -> list[Html]:
    """Nothing predicted, nothing measured, and where both agree."""
    x, y = frame
    parts = [
        segment(x.start, y.place(0.0), x.stop, y.place(0.0), "zero"),
        segment(x.place(0.0), y.start, x.place(0.0), y.stop, "zero"),
    ]
    low, high = max(x.low, y.low), min(x.high, y.high)
    if low < high:
        parts.append(segment(x.place(low), y.place(low), x.place(high), y.place(high), "same"))
    return parts


def _point(x: float, y: float, frame: Frame) -> Html:
    """A point; at the edge, as a triangle, where it lies beyond."""
    clipped = [min(max(v, s.low), s.high) for v, s in ((x, frame.x), (y, frame.y))]
    left, top = frame.x.place(clipped[0]), frame.y.place(clipped[1])
    if clipped != [x, y]:
        left = min(max(left, frame.x.start + 4), frame.x.stop - 4)
        top = min(max(top, frame.y.stop + 4), frame.y.start - 4)
        path = f"M{short_number(left)} {short_number(top - 3)}l3 {_SIDE}h-6z"
        return element("path", {"class": "k", "d": path})
    return element("circle", {"class": "dot", "cx": left, "cy": top, "r": 2.8})


def _in_words(predicted: np.ndarray, measured: np.ndarray) -> str:
    """How often the sign was right, and the rank correlation."""
    right = int(np.sum(np.sign(predicted) == np.sign(measured)))
    text = f"sign right on {right} of {len(predicted)}"
    correlation = rank_correlation(predicted, measured)
    return text if correlation is None else minus(f"{text}; rank correlation {correlation:.2f}")


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's, ties sharing their mean rank; None where one of them never changes."""
    ranks = [_ranks(values) for values in (one, other)]
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
