"""MkDocs hook: one API page per room of the package, an index of all names, and the changelog.

The pages are made from the public names as `amtl_jax/__init__.py` lists them, so none can be
forgotten: a new name appears by itself, and a module that no room names ends the build.
"""

import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Room(NamedTuple):
    """One page: what it is about, and whose names it lists.

    Attributes:
      title: as the navigation shows it.
      about: a sentence or two.
      modules: modules of `amtl_jax`; `data.` stands for all modules of the folder `data`.
      types: the names of the module `types` that belong here.
    """

    title: str
    about: str
    modules: str
    types: str = ""


ROOMS = (
    Room(
        "Learning loop",
        "A round as two pure functions, `ask` and `tell`, and what travels through them.",
        "learner in_memory fitted round_plan packing",
        "Learner LearnerState RoundInfo TaskBatch",
    ),
    Room(
        "Heads and targets",
        "Ridge heads of all tasks at once in closed form, the target's own head, and how well "
        "they are known.",
        "heads head_prior refinement target centred_stats label_noise posterior answer",
        "Heads HeadStats HeadPrior",
    ),
    Room(
        "Relevance and allocation",
        "From heads to relevance, from relevance to whole numbers of samples, and what a split of "
        "the budget is worth.",
        "relevance allocation planning risk best_split sparsity theory design knowledge forecast "
        "plans plan_split plan_ahead plan_money label_alignment diagnosis",
        "Relevance Diagnosis",
    ),
    Room(
        "Strategies",
        "Rules that turn the evidence of a round into the next proposal.",
        "strategies.",
        "Strategy Proposal Evidence",
    ),
    Room(
        "Encoders",
        "Representations `phi: x -> R^K`. [Representations](../representations.md) says which is "
        "for what.",
        "encoders. encoding",
        "Encoder",
    ),
    Room(
        "Fits",
        "How a representation is fitted. [Representations](../representations.md#fits) compares "
        "them.",
        "fitting. streaming",
        "Fitter FitResult",
    ),
    Room("Data and tables", "Where samples come from.", "data."),
    Room(
        "Campaigns",
        "Ask, collect, tell: campaigns of days or weeks, saved in between.",
        "experiment.campaign experiment.campaign_types",
    ),
    Room(
        "Experiments",
        "The commands `amtl run` and `amtl study` as functions: configs, runs, results, models.",
        "experiment. experiment.study.",
    ),
    Room("Estimators", "The same as scikit-learn estimators.", "estimators"),
    Room(
        "Metrics",
        "Errors of predictions, and intervals for them.",
        "metrics bootstrap clustered",
    ),
)


def exports() -> dict[str, str]:
    """Public name to its module below `amtl_jax`, as the checkout has them."""
    sys.path.insert(0, str(ROOT))
    try:
        from amtl_jax import _MODULE_OF
    finally:
        sys.path.remove(str(ROOT))
    return dict(_MODULE_OF)


def names_by_room(modules: dict[str, str]) -> dict[str, list[str]]:
    """Room title to the full paths of its names; every name has one room.

    Raises:
      ValueError: names the public names that no room lists.
    """
    listed: dict[str, list[str]] = {room.title: [] for room in ROOMS}
    homeless = []
    for name, module in modules.items():
        title = _room_of(name, module)
        if title is None:
            homeless.append(f"{module}.{name}")
        else:
            listed[title].append(f"amtl_jax.{module}.{name}")
    if homeless:
        raise ValueError(
            f"No API page lists {', '.join(homeless)}. Add the module, or for a name of `types` "
            "the name, to a room in docs/site/api_pages.py."
        )
    return {title: paths for title, paths in listed.items() if paths}


def _room_of(name: str, module: str) -> str | None:
    """The room that names a module in full goes before one that names its folder."""
    if module == "types":
        return next((room.title for room in ROOMS if name in room.types.split()), None)
    exact = (room.title for room in ROOMS if module in room.modules.split())
    folder = module.rpartition(".")[0] + "."
    return next(exact, None) or next(
        (room.title for room in ROOMS if folder in room.modules.split()), None
    )


def file_of(title: str) -> str:
    """Path of a room's page below docs/."""
    return f"api/{title.lower().replace(' ', '_')}.md"


def page_of(title: str, paths: list[str]) -> str:
    """Text of a room's page: mkdocstrings fills in signatures and docstrings."""
    about = next(room.about for room in ROOMS if room.title == title)
    entries = (
        f"::: {path}\n    options:\n      heading: amtl.{path.rpartition('.')[2]}\n"
        for path in paths
    )
    return f"# {title}\n\n{about}\n\n" + "\n".join(entries)


def index_of(rooms: dict[str, list[str]]) -> str:
    """Text of the index: every name with the first line of its docstring."""
    import griffe

    package = griffe.load("amtl_jax", search_paths=[ROOT])
    text = "# API\n\nEvery name below is one of `amtl_jax` itself: `import amtl_jax as amtl`.\n"
    for title, paths in rooms.items():
        text += f"\n## [{title}]({Path(file_of(title)).name})\n\n| name | what it is |\n|---|---|\n"
        for path in paths:
            thing = package[path.removeprefix("amtl_jax.")]
            first = thing.docstring.value.splitlines()[0] if thing.docstring else f"`{thing.value}`"
            first = first.replace("|", "\\|")
            text += f"| [`{path.rpartition('.')[2]}`][{path}] | {first} |\n"
    return text


def on_config(config):
    """Puts the API pages where the navigation says `API`."""
    from mkdocs.exceptions import PluginError

    try:
        rooms = names_by_room(exports())
    except ValueError as error:
        raise PluginError(str(error)) from error
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = ["api/index.md", *(file_of(title) for title in rooms)]
    return config


def on_files(files, config):
    """Adds the pages that are written nowhere."""
    from mkdocs.structure.files import File

    rooms = names_by_room(exports())
    pages = {file_of(title): page_of(title, paths) for title, paths in rooms.items()}
    pages["api/index.md"] = index_of(rooms)
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files
