"""Figures of a study or run for papers: PNG of 300 dpi, one a figure. Needs matplotlib."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from amtl_jax.experiment import figures
from amtl_jax.experiment.examples import read_examples
from amtl_jax.experiment.page.paper_charts import error, histogram, risk, risk_pair
from amtl_jax.experiment.page.paper_maps import heat_maps, relevance
from amtl_jax.experiment.page.runs import Run
from amtl_jax.experiment.page.studies import Study
from amtl_jax.experiment.page.study_tables import FIRST_METRICS, near_arms
from amtl_jax.files import write_atomically

_DPI = 300


def write_figures(found: Study | Run, folder: Path) -> list[Path]:
    """Writes all figures; returns their paths.

    Args:
      found: what to draw.
      folder: where to, made if missing.

    Raises:
      OSError: if a file cannot be written.
    """
    drawn = _of_run(found) if isinstance(found, Run) else _of_study(found)
    paths = []
    for name, figure in drawn:
        path = folder / f"{_file_name(name)}.png"
        if path in paths:  # names of arms that differ in signs alone
            path = path.with_stem(f"{path.stem}-{len(paths)}")
        write_atomically(path, _png(figure))
        paths.append(path)
    return paths


def _of_run(run: Run) -> Iterator[tuple[str, Figure]]:
    result = run.result
    yield "error", figures.error(result)
    for arm in result.buying_arms:
        yield f"counts_{arm}", figures.counts(result, arm)
        if run.is_finished:
            yield f"relevance_{arm}", figures.relevance(result, arm)
    if run.is_finished and read_examples(result.workdir) is not None:
        yield "examples", figures.examples(result)


def _of_study(study: Study) -> Iterator[tuple[str, Figure]]:
    summary, arrays = study.summary, study.arrays
    for cell in summary["cells"]:
        where = f"budget_{cell['budget']}_samples_{cell['target_samples']}"
        for metric in FIRST_METRICS:
            if near_arms(cell):
                yield f"difference_{metric}_{where}", heat_maps(summary, cell, metric)
            yield f"histogram_{metric}_{where}", histogram(cell, metric)
    for given in dict.fromkeys(cell["target_samples"] for cell in summary["cells"]):
        cells = [cell for cell in summary["cells"] if cell["target_samples"] == given]
        for metric in FIRST_METRICS:
            yield f"error_{metric}_samples_{given}", error(cells, metric)
    for arm in summary["arms"]:
        values = arrays.get(f"nu/{arm}")
        if values is not None and np.isfinite(values).any():
            yield f"relevance_{arm}", relevance(arrays, arm)
    if any(risk_pair(arrays, arm) for arm in summary["arms"]):
        yield "predicted_and_measured", risk(arrays, summary["arms"])


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with matplotlib.style.context(["default", {"figure.constrained_layout.use": True}]):
        figure.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()


def _file_name(name: str) -> str:
    """A name of a file that every system takes, whatever an arm is called."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100].strip("-.") or "figure"
