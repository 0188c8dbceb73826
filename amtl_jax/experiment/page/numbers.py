"""How numbers read on a page: true minus signs, and as many decimals down a whole column."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from amtl_jax.experiment import report
from amtl_jax.experiment.evaluate import LOWER_IS_BETTER
from amtl_jax.experiment.study_rows import SHARES

NONE = "–"
KNOWN_METRICS = (  # in the order in which people look
    "balanced_accuracy",
    "mse",
    "accuracy",
    "auc",
    "r2",
    "excess_risk",
    "representation_risk",
)
_CLEAR = {"better": "better", "worse": "worse", report.NO_DIFFERENCE: "unclear"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Unit(NamedTuple):
    """In what differences of a metric are written.

    Attributes:
      factor: takes a difference to the number that is written.
      name: of the unit, for titles; empty where numbers are as they are.
      sign: 1 where more is better, −1 where less is.
      decimals: of the number.
    """

    factor: float
    name: str
    sign: int
    decimals: int = 2

    def text(self, value: float | None) -> str:
        """A difference: it reads as 0 only where it is 0."""
        if value is None:
            return NONE
        return minus(f"{self.factor * value:+.{self.decimals}f}") if value else "0"

    def short_text(self, value: float) -> str:
        """A difference in four characters, where it is below 10,000."""
        size = abs(self.factor * value)
        if not size:
            return "0"
        text = f"{size:.0f}" if size >= 9.95 else f"{size:.1f}"
        if size < 0.995:
            text = f"{size:.2f}".removeprefix("0")
        return ("+" if value > 0 else "−") + text

    def interval_text(self, found: dict[str, Any] | None) -> str:
        """A difference with its interval, or alone where it has none."""
        if found is None:
            return NONE
        if None in (found["difference"], found["low"], found["high"]):
            return self.text(found["difference"])
        return "{} [{}, {}]".format(
            *(self.text(found[end]) for end in ("difference", "low", "high"))
        )


def unit_of(metric: str, differences: Iterable[float | None]) -> Unit:
    """The unit in which differences have few leading zeros.

    Args:
      metric: what differs.
      differences: those that are to be written; the largest of them counts.
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1
    if metric in SHARES:
        return Unit(100.0, "in points", sign)
    largest = max((abs(value) for value in differences if value), default=1.0)
    power = max(0, math.ceil(-math.log10(largest)))
    if power < 2:  # as they are, with one more decimal where they are below 1
        return Unit(1.0, "", sign, 2 + power)
    return Unit(10.0**power, f"in units of 10⁻{raised(power)}", sign)


def raised(number: int) -> str:
    """A whole number as an exponent."""
    return str(number).translate(_RAISED)


def minus(text: str) -> str:
    """Text in which the hyphens of negative numbers are minus signs."""
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def value_text(metric: str, value: float | None) -> str:
    """A metric; shares in percent, others to five decimals where they are below 1."""
    if value is None:
        return NONE
    if metric in SHARES or abs(value) >= 1 or 0 < abs(value) < 1e-4:
        return minus(report.value_text(metric, value))
    return minus(f"{value:.5f}")


def reads_as(metric: str, found: dict[str, Any] | None) -> str:
    """Better, worse, or unclear where the interval holds 0; nothing without an interval."""
    if found is None or found["difference"] is None:
        return ""
    return _CLEAR.get(report.verdict(metric, found), "")


def name_of(metric: str) -> str:
    """What a metric is called on a page."""
    return "balanced accuracy" if metric == "balanced_accuracy" else report.label(metric)


def heading(text: str) -> str:
    """Text that begins a line or a title."""
    return text[:1].upper() + text[1:]


def error_name(metric: str) -> str:
    """What the error of a metric is called: less is better."""
    return name_of(metric) if metric in LOWER_IS_BETTER else f"error, 100% − {name_of(metric)}"


def as_error(metric: str, value: float | None) -> float:
    """A metric as an error: shares in percent; NaN where it is unknown."""
    if value is None:
        return math.nan
    return value if metric in LOWER_IS_BETTER else 100 * (1 - value)


def error_text(metric: str, value: float) -> str:
    """An error; of shares in percent."""
    return value_text(metric, value) if metric in LOWER_IS_BETTER else f"{value:.2f}%"


def error_tick(metric: str, value: float) -> str:
    """An error at a tick."""
    return f"{value:.4g}" if metric in LOWER_IS_BETTER else f"{value:.4g}%"


def signed_tick(value: float) -> str:
    """A difference at a tick."""
    return minus(f"{value:+.4g}") if value else "0"


def thousands(value: float) -> str:
    """A number of samples at a tick."""
    return f"{value:,.0f}"
