"""The parts of a study's page that draw its arrays: relevance, predictions and counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from amtl_jax.experiment.page.count_pictures import Bought
from amtl_jax.experiment.page.counts import counts_section
from amtl_jax.experiment.page.markup import Html, element, join, shortened
from amtl_jax.experiment.page.matrix import limit_of, matrix_figure, matrix_legend, ordered
from amtl_jax.experiment.page.scatter import scatters
from amtl_jax.experiment.page.study_tables import Arms
from amtl_jax.experiment.page.tables import folded, paragraph
from amtl_jax.experiment.study_reading import best_rule


def pictured(summary: dict[str, Any]) -> str:
    """Which cell the arrays are of."""
    if not summary["cells"]:
        return ""
    budget = max(cell["budget"] for cell in summary["cells"])
    given = summary["cells"][0]["target_samples"]
    seeds = ", mean over seeds" if len(summary["seeds"]) > 1 else ""
    return f"budget {budget:,}, {given:,} target samples{seeds}"


def relevance_section(
    summary: dict[str, Any], arrays: Mapping[str, np.ndarray], arms: Arms, what: str
) -> Html:
    """The relevance matrix of every arm that has one.

    Args:
      summary: content of `summary.json`.
      arrays: of `arrays.npz`.
      arms: of the page.
      what: says which cell the arrays are of.
    """
    found = [arm for arm in arms.names if f"nu/{arm}" in arrays]
    if not found:
        return paragraph("No arm of this study estimates the relevance of sources.")
    best = best_rule(summary["cells"][-1]["arms"]) if summary["cells"] else None
    first = best if best in found else found[0]
    targets, tasks = (tuple(map(str, arrays[name])) for name in ("targets", "tasks"))
    values = arrays[f"nu/{first}"]
    is_there = np.isfinite(values).any(axis=1)
    if not is_there.any():
        return paragraph("No target has relevance of its sources yet.")
    kept = [name for name, known in zip(targets, is_there, strict=True) if known]
    main = ordered(values[is_there], kept, tasks)
    rows = [targets.index(name) for name in main.targets]
    columns = [tasks.index(name) for name in main.sources]
    parts = [
        paragraph(
            f"How much each source (column) helps each target (row), nu that the last round was "
            f"bought by: {what}. Alike tasks are neighbours: the order is average linkage on the "
            f"rows and columns of {shortened(first)}, the same for all arms. The strips mark digit "
            "and corruption of each row, brackets name neighbours of one kind; hatched: the "
            "target's own corruption, which is no source.",
            "note",
        )
    ]
    if len(kept) < len(targets):
        parts.append(paragraph(f"{len(targets) - len(kept):,} targets are not there yet.", "note"))
    for arm in [first, *(arm for arm in found if arm != first)]:
        own = main._replace(values=arrays[f"nu/{arm}"][np.ix_(rows, columns)])
        drawn = [matrix_legend(limit_of(own.values)), matrix_figure(own, arm, arms.index[arm])]
        if arm == first:
            parts += [element("h3", None, arms.label(arm)), *drawn]
        else:
            parts.append(folded(f"Relevance by {shortened(arm)}", *drawn))
    return join(parts)


def risk_section(arrays: Mapping[str, np.ndarray], arms: Arms, what: str) -> Html:
    """Predicted against measured difference to uniform, or a sentence on why there is none."""
    drawn = scatters(arrays, arms)
    if not drawn:
        return paragraph(
            "This study holds no predictions of risk, so nothing is drawn here: they need uniform "
            "beside another arm."
        )
    return join(
        [
            paragraph(
                f"The difference to uniform in MSE that was predicted from the target's own sample "
                f"(left to right) and that the test rows show (bottom to top), a point for every "
                f"target: {what}. On the dashed line both agree; left of 0 a gain was "
                "predicted, below 0 there was one. Triangles lie beyond the panel.",
                "note",
            ),
            drawn,
        ]
    )


def counts_part(bought: Bought | None, arms: Arms, what: str) -> Html:
    """Samples bought for a chosen target, or a sentence on why there are none."""
    drawn = counts_section(bought, arms) if bought else Html("")
    if not drawn:
        return paragraph("No arm of this study chooses what to buy.")
    return join(
        [
            paragraph(
                f"Samples bought of every source in every round: {what}. Rows are corruptions, "
                "columns digits; blank: nothing was bought; hatched: the target's own corruption, "
                "which is no source; the square marks the target. Uniform buys the same of every "
                "source.",
                "note",
            ),
            drawn,
        ]
    )
