"""What the pages promise runs, their links lead somewhere, and the API pages list every name."""

import dataclasses
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from doc_pages import Block, blocks_of, commands_of, difference, run_block

import amtl_jax as amtl
from amtl_jax.commands.words import load_words
from amtl_jax.experiment.table_problem import table_problem

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
}
API = runpy.run_path(str(DOCS / "site/api_pages.py"))
# Blocks that no test runs: the README's two commands, which .ci/run runs, and those that say why.
NOT_RUN = {
    "docs/allocation.md": 1,
    "README.md": 2,
    "docs/data_sets.md": 6,
    "docs/index.md": 1,
    "docs/mnist_c.md": 3,
    "docs/mnist_c_tables.md": 14,
    "docs/results.md": 1,
    "docs/reproducibility.md": 2,
    "docs/scaling.md": 5,
    "docs/tables.md": 2,
}
# Words behind the options that a command has beside its config's.
OWN_OPTIONS = {
    "--workdir": 1,
    "--shard": 1,
    "--distributed": 0,
    "--coordinator": 1,
    "--num-processes": 1,
    "--process-id": 1,
}
# Pages that go on where another one ended.
CONTINUED = {"docs/tutorials/own_table.md": "docs/tutorials/model.md"}
RUN = [  # test_readme.py runs the README
    name
    for name, path in PAGES.items()
    if name not in ("README.md", *CONTINUED.values())
    and any(block.runs for block in blocks_of(path))
]


@pytest.mark.parametrize("page", RUN)
def test_code_of_a_page_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page == "docs/data_sets.md":
        write_stand_ins()
    namespace = {"__name__": "page"}
    for name in filter(None, (page, CONTINUED.get(page))):
        for block in filter(lambda block: block.runs, blocks_of(PAGES[name])):
            printed = run_block(block, name, namespace)
            if block.output is not None:
                wrong = difference(block.output, printed)
                assert not wrong, f"{name}:{block.line}: {wrong}"
    if page == "docs/representations.md":
        counts = np.asarray(namespace["counts"])
        assert counts.sum() == 800
        assert {*np.argsort(counts)[-2:]} == {0, 4}
    if page == "docs/data_sets.md":
        for config, path in (("school", "school.csv"), ("parkinsons", "parkinsons_updrs.csv")):
            problem = problem_of(config, path)
            assert len(problem.source.names) == {"school": 138, "parkinsons": 41}[config]
            assert problem.source.input_shape == {"school": (28,), "parkinsons": (19,)}[config]


def write_stand_ins():
    """Writes files laid out as those that users download."""
    rng = np.random.default_rng(0)
    pupils, scores = np.empty((2, 1, 139), object)
    for school in range(139):
        pupils[0, school] = rng.integers(0, 2, size=(40, 28)).astype(float)
        scores[0, school] = rng.integers(1, 71, size=(40, 1)).astype(float)
    scipy.io.savemat("school.mat", {"X": pupils, "Y": scores})
    columns = (
        "subject#,age,sex,test_time,motor_UPDRS,total_UPDRS,Jitter(%),Jitter(Abs),Jitter:RAP,"
        "Jitter:PPQ5,Jitter:DDP,Shimmer,Shimmer(dB),Shimmer:APQ3,Shimmer:APQ5,Shimmer:APQ11,"
        "Shimmer:DDA,NHR,HNR,RPDE,DFA,PPE"
    )
    subjects = np.repeat(np.arange(1, 43), 40)
    rows = [f"{subject},{','.join(map(str, rng.random(21)))}" for subject in subjects]
    Path("parkinsons_updrs.data").write_text("\n".join([columns, *rows]) + "\n")


def problem_of(name, path):
    """The tasks that a config makes of a table."""
    config = amtl.load_config(name)
    data = dataclasses.replace(config.data, path=path)
    return table_problem(dataclasses.replace(config, data=data), data)


def test_what_is_not_run_is_listed():
    not_run = {
        page: sum(block.is_code and not block.runs for block in blocks_of(path))
        for page, path in PAGES.items()
    }
    assert {page: count for page, count in not_run.items() if count} == NOT_RUN


def test_commands_that_are_not_run_are_well_formed():
    blocks = [block for path in PAGES.values() for block in blocks_of(path)]
    not_run = [b for b in blocks if b.note.startswith("not run") and b.code.startswith("amtl ")]
    commands = [words for block in not_run for words in commands_of(block)]
    assert commands
    for command, *words in commands:
        assert command in ("run", "study", "report")
        if command == "report":
            continue
        for option, taken in OWN_OPTIONS.items():  # of the command, the rest are the config's
            if option in words:
                place = words.index(option)
                del words[place : place + 1 + taken]
        load_words(words, (), "")


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page):
    text = PAGES[page].read_text("utf-8")
    fences = len(re.findall(r"^```\w+$", text, flags=re.MULTILINE))
    blocks = blocks_of(PAGES[page])
    assert fences == len(blocks) + sum(block.output is not None for block in blocks)
    assert not [b.line for b in blocks if b.language == "text"], "output without a command"
    assert len(re.findall(r"^ *```", text, flags=re.MULTILINE)) == 2 * fences
    assert text.count("<!--") == sum(block.note != "" for block in blocks)


@pytest.mark.parametrize(
    ("expected", "printed", "agrees"),
    [
        ("a 1.00 b\n", "a  1.02 b", True),
        ("a 1.00 b\n", "a 1.06 b", False),
        ("a 1.00 b\n", "a 1.00 c", False),
        ("0.00 ... end", "−0.01 any\nthing end", True),
        ("1,000 rows", "1,060 rows", False),
        ("2 rows of 10", "2 rows of 11", True),
        ("2 rows", "3 rows", False),
        ("round 1 ... round 4: 80 ...", "round 1: 20\nround 2: 40\nround 4: 81 paid", True),
        ("round 1 ... round 4: 90 ...", "round 1: 20\nround 2: 90\nround 4: 81 paid", False),
        ("id r1-...: ok", "id r1-12ab: ok", True),
    ],
)
def test_comparing_outputs(expected, printed, agrees):
    assert (difference(expected, printed) is None) == agrees


def test_a_command_that_should_fail_must_fail():
    block = Block("sh", "amtl configs\n", None, "fails", 1)
    with pytest.raises(AssertionError, match="exit code 0"):
        run_block(block, "page.md", {})


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page(page):
    path = PAGES[page]
    made = {"api/index.md", "changelog.md", *(API["file_of"](room.title) for room in API["ROOMS"])}
    for target in re.findall(r"\]\(([^)#:]+)[#)]", path.read_text("utf-8")):
        linked = (path.parent / target).resolve()
        made_by_the_build = linked.is_relative_to(DOCS) and (
            linked.relative_to(DOCS).as_posix() in made
        )
        assert linked.exists() or made_by_the_build, target


def test_api_pages_list_every_public_name_once():
    rooms = API["names_by_room"](amtl._MODULE_OF)
    pages = [API["page_of"](title, paths) for title, paths in rooms.items()]
    listed = re.findall(r"^::: (\S+)$", "\n".join(pages), flags=re.MULTILINE)
    public = [f"amtl_jax.{module}.{name}" for name, module in amtl._MODULE_OF.items()]
    assert sorted(listed) == sorted(public)
    assert set(amtl.__all__) == {"__version__", *(path.rpartition(".")[2] for path in listed)}


def test_a_name_without_a_page_is_named():
    with pytest.raises(ValueError, match=r"nowhere\.lost.*types\.Lost"):
        API["names_by_room"]({"lost": "nowhere", "Lost": "types", "pack": "packing"})
