"""Reads workdirs, and writes the page and the figures of what is in them."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.reading import read_json
from amtl_jax.experiment.page.run_page import run_page
from amtl_jax.experiment.page.runs import Run, read_run
from amtl_jax.experiment.page.studies import Study, read_studies
from amtl_jax.experiment.page.study_page import study_page
from amtl_jax.experiment.result import NO_MATPLOTLIB
from amtl_jax.experiment.workdir import BOOK
from amtl_jax.files import write_atomically

PAGE = "report.html"
_SUFFIXES = (".html", ".htm")


class Written(NamedTuple):
    """What was written.

    Attributes:
      page: the file of the page.
      figures: files of figures.
      notes: what a reader should know about what was read.
    """

    page: Path
    figures: tuple[Path, ...]
    notes: tuple[str, ...]


def write_report(
    workdirs: Sequence[str | Path], *, out: str | Path | None = None, png: str | Path | None = None
) -> Written:
    """Writes one page on a run or a study, finished or not.

    Args:
      workdirs: a folder of `amtl run` or `amtl study`; or of several shards of one study.
      out: file of the page, `.html`; None: `report.html` in the workdir, where there is one.
      png: folder for figures for papers, which needs matplotlib; None: none are drawn.

    Raises:
      ConfigError: if a workdir holds no run or study, a file of it is damaged, the workdirs do not
        belong together, or `out` is missing or no name of a page. Nothing is written then.
      ImportError: if figures are wanted and matplotlib is not installed. Nothing is written then.
      OSError: if a file cannot be read or written.
    """
    folders = [Path(workdir) for workdir in workdirs]
    page = _page_path(folders, out)
    drawing = None if png is None else _drawing()
    found = _read(folders)
    if isinstance(found, Run):
        body, notes = run_page(found), found.notes
    else:
        names = [str(path) for path in found.workdirs]
        body = study_page(
            found.config, found.summary, found.arrays, workdirs=names, notes=found.notes
        )
        notes = found.notes
    write_atomically(page, body)
    figures = () if drawing is None or png is None else drawing.write_figures(found, Path(png))
    return Written(page, tuple(figures), notes)


def _page_path(folders: Sequence[Path], out: str | Path | None) -> Path:
    if not folders:
        raise ConfigError("Give the folder of a run or study.")
    for place, folder in enumerate(folders):
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise ConfigError(
                f"Workdir {folder} {what}; give a folder that amtl run or amtl study made."
            )
        if folder.resolve() in [other.resolve() for other in folders[:place]]:
            raise ConfigError(f"Workdir {folder} is given twice.")
    if out is None:
        if len(folders) > 1:
            raise ConfigError("Give --out FILE: the page of several workdirs belongs to none.")
        return folders[0] / PAGE
    if Path(out).suffix.lower() not in _SUFFIXES or Path(out).is_dir():
        raise ConfigError(f"--out expects a file called *.html, got {str(out)!r:.200}.")
    return Path(out)


def _read(folders: Sequence[Path]) -> Run | Study:
    """Reads what all folders hold: one run, or one study."""
    kinds = {folder: _kind(folder) for folder in folders}
    if len(folders) == 1 and kinds[folders[0]] == "run":
        return read_run(folders[0])
    runs = [folder for folder, kind in kinds.items() if kind == "run"]
    if runs:
        raise ConfigError(
            f"{runs[0]} holds a run. Several workdirs are shards of one study; give a run alone."
        )
    return read_studies(folders)


def _kind(folder: Path) -> str:
    """Whether a folder holds a run or a study."""
    if (folder / BOOK).exists():
        raise ConfigError(
            f"Workdir {folder} holds a campaign; amtl report is for runs and studies. amtl plan "
            "says where a campaign stands."
        )
    summary = folder / "summary.json"
    if summary.is_file():
        return "study" if read_json(summary).get("kind") == "study" else "run"
    if (folder / "metrics.jsonl").is_file():
        return "run"
    if (folder / "units").is_dir():
        raise ConfigError(
            f"Workdir {folder} holds a study without results yet; amtl study writes them about "
            "every minute, and the same command goes on with one that stopped."
        )
    raise ConfigError(
        f"Workdir {folder} holds no run or study: expected config.json beside summary.json or "
        "metrics.jsonl."
    )


def _drawing() -> ModuleType:
    try:
        from amtl_jax.experiment.page import paper
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise ImportError(NO_MATPLOTLIB) from error
    return paper
