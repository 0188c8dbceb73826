"""The page of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from amtl_jax.experiment import report
from amtl_jax.experiment.page.document import Section, document
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.numbers import minus
from amtl_jax.experiment.page.png import data_uri, image_png
from amtl_jax.experiment.page.run_counts import counts_of
from amtl_jax.experiment.page.run_curves import run_curves
from amtl_jax.experiment.page.run_relevance import relevance_of
from amtl_jax.experiment.page.run_tables import run_tables
from amtl_jax.experiment.page.runs import Run
from amtl_jax.experiment.page.study_page import duration, origin
from amtl_jax.experiment.page.study_tables import Arms
from amtl_jax.experiment.page.tables import facts, folded, items, paragraph

_ROLES = {"target": "target", "best": "most relevant", "least": "least relevant"}
_LONGEST_SENTENCE = 1500


def run_page(run: Run) -> bytes:
    """Builds the page of a run, the same bytes for the same run.

    Args:
      run: as its workdir holds it.
    """
    result, summary = run.result, run.result.summary
    arms = Arms(list(report.results_of(summary)))
    buying = result.buying_arms
    sections = [
        Section("reading", "What it shows", _reading(summary, run.is_finished)),
        Section("arms", "Arms", _arms(summary, arms, run.is_finished)),
        Section("curves", "Error against samples", _curves(run, arms)),
        Section("relevance", "Relevance", _relevance(run, arms)),
        Section("counts", "Samples bought", _per_arm(run, arms, counts_of, "Samples bought by")),
        Section("examples", "Examples", _examples(run.images)),
        Section(
            "config",
            "Config and versions",
            origin(result.config, summary["versions"], [str(result.workdir)]),
        ),
    ]
    if not buying:
        sections = [one for one in sections if one.name not in ("relevance", "counts")]
    top = [
        paragraph("Run: one target and its sources", "kind"),
        element("h1", None, shortened(summary["name"], 80)),
        *(paragraph(note, "warn") for note in run.notes),
        _facts(run),
    ]
    title = f"{shortened(summary['name'], 60)}: run"
    return document(title, top, sections, arms=arms.names)


def _facts(run: Run) -> Html:
    summary, config = run.result.summary, run.result.config
    rows = summary["evidence"]["test_rows"]
    pairs = [
        ("target", shortened(summary["target"], 40)),
        ("sources", f"{summary['num_sources']:,}"),
        ("arms", f"{len(summary['strategies'])}"),
        ("seeds", ", ".join(map(str, summary["seeds"][:8]))),
        ("budget, samples", _setting(config, "budget")),
        ("target samples", _setting(config, "num_target")),
        ("test rows", f"{rows:,}" if rows else "–"),
        ("computing time", duration(summary["seconds"])),
        ("device", shortened(summary["device"], 40)),
    ]
    return facts(pairs)


def _setting(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    return f"{value:,}" if type(value) in (int, float) else "–"


def _reading(summary: dict[str, Any], is_finished: bool) -> Html:
    if not is_finished:
        return Html("")
    others = [report.rank_sentence(summary), report.diagnosis_sentence(summary)]
    texts = [minus(text[:_LONGEST_SENTENCE]) for text in others if text]
    lead = minus(report.payoff_sentence(summary)[:_LONGEST_SENTENCE])
    return join([paragraph(lead, "lead"), items(texts) if texts else Html("")])


def _arms(summary: dict[str, Any], arms: Arms, is_finished: bool) -> Html:
    if not is_finished:
        return run_tables(summary, arms)
    evidence = summary["evidence"]
    over = " and seeds" if len(summary["seeds"]) > 1 else ", for these draws of samples"
    note = (
        f"Paired {100 * evidence['level']:g}% bootstrap intervals over {evidence['test_rows']:,} "
        f"test rows{over}. Unclear: the interval holds 0. An arrow: beyond the axis."
    )
    return join([paragraph(note, "note"), run_tables(summary, arms)])


def _curves(run: Run, arms: Arms) -> Html:
    drawn = run_curves(run.result.summary, run.result.buying_arms, arms)
    if not drawn:
        return Html("")
    text = "Bars are bootstrap intervals of each arm by itself; paired differences are above. "
    note = text if run.is_finished else ""
    return join([paragraph(note, "note") if note else Html(""), drawn])


def _relevance(run: Run, arms: Arms) -> Html:
    if not run.is_finished:
        return Html("")
    note = paragraph(
        "nu is how much a source helps the target. Bars are intervals over posterior draws of the "
        "heads, given the representation.",
        "note",
    )
    return join([note, _per_arm(run, arms, relevance_of, "Relevance after")])


def _per_arm(run: Run, arms: Arms, draw: Any, title: str) -> Html:
    """The same of every arm: of the chosen one, or the last, at once, of the others folded."""
    found = run.result.buying_arms
    if not found:
        return Html("")
    chosen = run.result.summary["chosen_arm"]
    first = chosen if chosen in found else found[-1]
    parts = [element("h3", None, arms.label(first)), draw(run.result, first)]
    parts += [
        folded(f"{title} {shortened(arm)}", draw(run.result, arm)) for arm in found if arm != first
    ]
    return join(parts)


def _examples(found: tuple[list[str], list[str], np.ndarray] | None) -> Html:
    """Images of the target, and of the most and the least relevant sources."""
    if found is None:
        return Html("")
    parts = []
    for name, role, images in zip(*found, strict=True):
        text = f"{shortened(name, 30)}, {_ROLES.get(role, 'source')}"
        parts.append(element("span", None, text))
        shots = [
            element(
                "img",
                {"src": data_uri(image_png(image)), "alt": f"{shortened(name, 30)}, {place + 1}"},
            )
            for place, image in enumerate(images)
        ]
        parts.append(element("div", None, *shots))
    return element("div", {"class": "shots"}, *parts)
