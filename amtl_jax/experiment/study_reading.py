"""A plain-words reading of a study, computed from its numbers: no claim without an interval."""

from collections.abc import Iterator
from typing import Any

from amtl_jax.experiment.report import (
    NO_DIFFERENCE,
    UNDEFINED,
    interval_text,
    label,
    value_text,
    verdict,
)
from amtl_jax.experiment.study_checks import UNBOUND
from amtl_jax.experiment.study_outcomes import BASES
from amtl_jax.experiment.study_rows import METRICS, SHARES
from amtl_jax.experiment.study_text import difference_text

_UNIFORM, _TARGET_ONLY = BASES
_CEILING = "all_data"  # every source row there is, whatever it costs
_INFORMED = "same_digit"  # knows the classes of the tasks
_CHOOSER = "clairvoyant"  # knows which arm is best
_NO_RULES = UNBOUND | {_UNIFORM, _INFORMED, _CHOOSER}  # all others are rules that one could use
_FEW_CLUSTERS = 8
_MANY_COMPARISONS = 5
_FIRST, _SECOND = METRICS[:2]
_VERDICTS = {
    "better": "measurably better",
    "worse": "measurably worse",
    NO_DIFFERENCE: NO_DIFFERENCE,
    UNDEFINED: "so nothing is claimed",
}
_PAID = {
    "better": "the sources paid",
    "worse": "the sources did harm",
    NO_DIFFERENCE: "the sources made no measurable difference",
    UNDEFINED: "so nothing is claimed",
}


def reading(summary: dict[str, Any]) -> list[str]:
    """Says in sentences what the numbers of `summarise_study` show, and what they do not.

    Args:
      summary: content of `summary.json`; its own reading is not looked at.

    Returns:
      Paragraphs of a sentence or a few, each to be understood by itself.
    """
    cells = summary["cells"]
    sentences = [_extent(summary)]
    for cell in cells:
        where = f"At a budget of {cell['budget']:,} and {cell['target_samples']:,} target samples: "
        sentences += [(where if len(cells) > 1 else "") + text for text in _cell(cell["arms"])]
    return sentences + list(_cautions(summary))


def best_rule(arms: dict[str, Any]) -> str | None:
    """The arm of highest mean balanced accuracy among the rules that a budget bounds.

    Uniform is none of them, nor is an arm that knows the tasks' classes or which arm is best, or
    takes all rows.

    Args:
      arms: of a cell, as in `summary.json`.
    """
    values = {
        arm: found["metrics"][_FIRST]
        for arm, found in arms.items()
        if arm not in _NO_RULES and found["metrics"][_FIRST] is not None
    }
    return max(values, key=values.get, default=None)


def _extent(summary: dict[str, Any]) -> str:
    """What the study covers, and whether it is whole."""
    units = summary["units"]
    axes = ("target", "corruption", "arm", "seed")
    targets, corruptions, arms, seeds = (
        f"{len(summary[f'{axis}s']):,} {axis}{'s' * (len(summary[f'{axis}s']) != 1)}"
        for axis in axes
    )
    over = f"{targets} of {corruptions}, {arms}, {seeds}"
    if units["done"] == units["of"]:
        return f"The study is whole: {over}."
    return (
        f"The study is not finished: {units['done']:,} of {units['of']:,} units hold every arm "
        f"({over}); means are over what is there, differences over what both arms have."
    )


def _cell(arms: dict[str, Any]) -> Iterator[str]:
    """Sentences on a cell."""
    best = best_rule(arms)
    if _UNIFORM in arms:
        yield from (_against_uniform(arms, metric) for metric in (_FIRST, _SECOND))
        yield from _needs(arms)
        if best:
            yield _where(arms, best)
    else:
        yield "There is no uniform arm, so nothing says what choosing sources gained."
    if _TARGET_ONLY in arms:
        for arm in filter(arms.__contains__, (_UNIFORM, best)):
            yield _against_target_only(arms, arm)
    if best:
        yield from _shares(arms, best)


def _against_uniform(arms: dict[str, Any], metric: str) -> str:
    """Which arms differ measurably from uniform in a metric, and by how much."""
    groups: dict[str, list[str]] = {"better": [], "worse": [], NO_DIFFERENCE: [], UNDEFINED: []}
    for arm in arms:
        found = _difference(arms, arm, _UNIFORM, metric)
        if found:
            counts = "/".join(str(found[name]) for name in ("wins", "ties", "losses"))
            groups[verdict(metric, found)].append(f"{arm} {_gain(metric, found)}, {counts}")
    parts = [f"{name}: {'; '.join(texts)}" for name, texts in groups.items() if texts]
    uniform = value_text(metric, arms[_UNIFORM]["metrics"][metric])
    start = f"{_capital(_name(metric))} against uniform's {uniform}"
    if not parts:
        return f"{start}: there is no other arm."
    return f"{start}, with wins/ties/losses over targets. {'. '.join(map(_capital, parts))}."


def _needs(arms: dict[str, Any]) -> Iterator[str]:
    """What uniform would have needed for the errors of the arms that are measurably better."""
    for arm, found in arms.items():
        interval = _difference(arms, arm, _UNIFORM, _SECOND)
        needs = found["uniform_needs"].get(_SECOND)
        is_better = interval and verdict(_SECOND, interval) == "better"
        if not needs or not is_better or arm in UNBOUND:
            continue
        bound = {"more": "more than ", "less": "less than ", None: ""}[needs["side"]]
        end = {"more": ", the most it was given", "less": ", the least it was given", None: ""}
        factors = [
            f"{bound}{needs[name]:.2f} times {what}"
            for name, what in (("factor", "as many"), ("compute_factor", "the computing"))
            if needs[name]
        ]
        times = f" ({', '.join(factors)})" if factors else ""
        yield (
            f"For the {_name(_SECOND)} of {arm} uniform would have needed {bound}"
            f"{needs['samples']:,.0f} samples{end[needs['side']]}{times}; read off its curve of "
            "error against samples, without an interval."
        )


def _where(arms: dict[str, Any], best: str) -> str:
    """What the best rule gains, and on which corruptions and digits most and least."""
    num_rules = sum(arm not in _NO_RULES for arm in arms)
    chosen = f", the best of {num_rules} by this number, which flatters it" * (num_rules > 1)
    found = _difference(arms, best, _UNIFORM, _FIRST)
    text = (
        f"The rule to look at is {best}{chosen}: {_name(_FIRST)} {_gain(_FIRST, found)} against "
        f"uniform, {_VERDICTS[verdict(_FIRST, found)]}."
    )
    groups = (("per_corruption", "corruptions"), ("per_digit", "digits"))
    spans = list(filter(None, (_span(arms[best][key], what) for key, what in groups)))
    if spans:
        text += f" Its difference goes {' and '.join(spans)}, without intervals."
    return text


def _span(groups: dict[str, Any], what: str) -> str:
    """From the smallest to the largest difference of some groups; empty where all are alike."""
    values = {
        name: found[_FIRST]["difference"]
        for name, found in groups.items()
        if found[_FIRST]["difference"] is not None
    }
    if len(set(values.values())) < 2:
        return ""
    ends = min(values, key=values.get), max(values, key=values.get)
    low, high = (f"{difference_text(_FIRST, values[name])} ({name})" for name in ends)
    return f"over {what} from {low} to {high} points"


def _against_target_only(arms: dict[str, Any], arm: str) -> str:
    """Whether the sources of an arm paid at all."""
    parts = []
    for metric in (_FIRST, _SECOND):
        found = _difference(arms, arm, _TARGET_ONLY, metric)
        parts.append(f"{_name(metric)} {_gain(metric, found)}, {_PAID[verdict(metric, found)]}")
    return f"Against no sources at all ({_TARGET_ONLY}) {arm} has {'; '.join(parts)}."


def _shares(arms: dict[str, Any], best: str) -> Iterator[str]:
    """What share of the gains of the informed arm and of the ceiling the best rule reaches."""
    for top, base in ((_INFORMED, _UNIFORM), (_CHOOSER, _UNIFORM), (_CEILING, _TARGET_ONLY)):
        if top not in arms or base not in arms:
            continue
        found = [_difference(arms, arm, base, _FIRST) for arm in (best, top)]
        own, most = (_gain(_FIRST, one) for one in found)
        start = f"In {_name(_FIRST)} over {base}, {best} gains {own} and {top} {most}"
        if all(verdict(_FIRST, one) == "better" for one in found):
            share = found[0]["difference"] / found[1]["difference"]
            yield f"{start}: it reaches about {100 * share:.0f}% of that gain."
        else:
            yield f"{start}: not both are measurable gains, so no share of it is stated."


def _cautions(summary: dict[str, Any]) -> Iterator[str]:
    """What the intervals do not know."""
    found = [one for cell in summary["cells"] for one in cell["arms"].values()]
    clusters, level = (
        min((len(one["per_corruption"]) for one in found), default=0),
        summary["level"],
    )
    if clusters == 1:
        yield (
            "There are arms with targets of one corruption only, which share test images: without "
            "an interval nothing is claimed."
        )
    elif 1 < clusters < _FEW_CLUSTERS:
        yield (
            f"Intervals draw from as few as {clusters} corruptions, and with fewer than "
            f"{_FEW_CLUSTERS} they are too short: take what they show as a hint."
        )
    if len(summary["seeds"]) == 1:
        yield "There is one seed: the intervals do not cover other draws of samples."
    compared = sum(_UNIFORM in one["difference"] for one in found)
    if compared >= _MANY_COMPARISONS:
        yield (
            f"Each {100 * level:g}% interval is for one comparison: of {compared} with uniform in "
            f"one metric, about {(1 - level) * compared:.2g} would exclude 0 by chance alone."
        )


def _difference(arms: dict[str, Any], arm: str, base: str, metric: str) -> dict[str, Any] | None:
    return arms[arm]["difference"].get(base, {}).get(metric)


def _gain(metric: str, found: dict[str, Any]) -> str:
    """A difference with its interval and unit, or what is missing."""
    if found["difference"] is None:
        return "(no unit that both have)"
    unit = " points" if metric in SHARES else ""
    if found["low"] is None or found["high"] is None:
        return f"{difference_text(metric, found['difference'])}{unit} without an interval"
    return f"{interval_text(metric, found)}{unit}"


def _name(metric: str) -> str:
    return "balanced accuracy" if metric == "balanced_accuracy" else label(metric)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
