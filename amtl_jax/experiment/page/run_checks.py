"""The form of a run's summary and of the lines of its `metrics.jsonl`."""

from typing import Any

from amtl_jax.answer import CANDIDATES
from amtl_jax.experiment.expectation import expectation_form
from amtl_jax.experiment.page.checks import (
    Check,
    Damaged,
    count,
    distinct,
    fields,
    flag,
    listed,
    maybe,
    named,
    number,
    text,
)
from amtl_jax.experiment.page.numbers import KNOWN_METRICS
from amtl_jax.experiment.report import BASES

_MOST_SOURCES = 20_000


def _of(check: Check, known: tuple[str, ...], what: str) -> Check:
    """A mapping whose names are known."""
    inside = named(check)

    def found(value: Any, place: str) -> None:
        inside(value, place)
        for name in value:
            if name not in known:
                raise Damaged(f"{place}: no {what} is called {name!r:.80}")

    return found


def _metrics(check: Check) -> Check:
    return _of(check, KNOWN_METRICS, "metric")


_ENDS = {"low": maybe(number), "high": maybe(number)}
_DIFFERENCE = _of(_metrics(fields({"difference": maybe(number)} | _ENDS)), BASES, "base")
_ARM = {"samples_total": count, "target": _metrics(maybe(number)), "difference": _DIFFERENCE}
_DIAGNOSIS = ("effective_rank", "largest_singular_value", "smallest_singular_value", "unexplained")
_ANSWER = _ARM | {
    "arm": text,
    "shares": _of(maybe(number), CANDIDATES, "part of an answer"),
    "diagnosis": fields(dict.fromkeys(_DIAGNOSIS, maybe(number))),
    "num_features": maybe(number),
}
_SOURCE = {"source": text, "relevance": maybe(number), "samples": number} | _ENDS


def _point(value: Any, place: str) -> None:
    fields({"samples": count})(value, place)
    rest = {name: one for name, one in value.items() if name != "samples"}
    _metrics(fields({"value": maybe(number)} | _ENDS))(rest, place)


_SUMMARY = fields(
    {
        "name": text,
        "target": text,
        "num_sources": count,
        "source_names": listed(text, most=_MOST_SOURCES),
        "seeds": listed(count, least=1, most=1000),
        "evidence": fields({"test_rows": count, "level": number}),
        "chosen_arm": maybe(text),
        "strategies": named(
            fields(_ARM | {"top_sources": listed(named(lambda *_: None))}), most=40
        ),
        "answer": maybe(fields(_ANSWER)),
        "relevance": listed(fields(_SOURCE)),
        "curve": named(listed(_point, least=1, most=1000)),
        "versions": named(text, most=200),
        "device": text,
        "seconds": number,
    }
)
_LINE = fields(
    {
        "seed": count,
        "round": count,
        "strategy": text,
        "counts": listed(number, most=_MOST_SOURCES),
        "nu": listed(maybe(number), most=_MOST_SOURCES),
        "samples_total": count,
        "target": _metrics(maybe(number)),
        "seconds": number,
    }
)
_INTERVALS = {"level": number, "top": text, "tied_with_top": listed(text)}
_INTERVALS |= dict.fromkeys(("middle", "low", "high"), listed(maybe(number)))


def run_form(value: Any, place: str) -> None:
    """A check of `summary.json` of a run."""
    _SUMMARY(value, place)
    distinct(value["source_names"], f"{place}.source_names")
    if not value["strategies"] or set(value["curve"]) != set(value["strategies"]):
        raise Damaged(f"{place}: expected arms, and a curve for each of them")
    if value.get("rank"):
        fields({"is_chosen": flag, "warning": maybe(text)})(value["rank"], f"{place}.rank")
    if value.get("expected"):
        expectation_form(value["expected"], f"{place}.expected")


def line_form(num_sources: int | None) -> Check:
    """A check of a line of `metrics.jsonl`; `num_sources` is None where it is not known yet."""

    def found(value: Any, place: str) -> None:
        _check_line(value, place, num_sources)

    return found


def _check_line(value: Any, place: str, num_sources: int | None) -> None:
    _LINE(value, place)
    sizes = {"counts": len(value["counts"]), "nu": len(value["nu"])}
    known = value.get("relevance")
    if isinstance(known, dict) and "middle" in known:
        fields(_INTERVALS)(known, f"{place}.relevance")
        sizes |= {end: len(known[end]) for end in ("middle", "low", "high")}
    for name, size in sizes.items():
        if size and num_sources is not None and size != num_sources:
            raise Damaged(f"{place}.{name}: expected {num_sources:,} sources, got {size:,}")
