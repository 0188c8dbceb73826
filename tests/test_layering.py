"""The arrows between the rooms, and a public surface that resolves lazily."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import amtl_jax as amtl

PACKAGE = Path(amtl.__file__).parent
# A room may import the rooms named here, and modules of its own.
ALLOWED = {
    "types": set(),
    "files": set(),
    "packing": {"types"},
    "tiles": {"types"},
    "sharded": {"types"},
    "block_sums": {"types", "tiles", "sharded"},
    "cholesky": {"types", "_l1"},
    "heads": {"types", "block_sums", "cholesky", "tiles", "sharded"},
    "refinement": {"types", "heads"},
    "encoding": {"types", "sharded"},
    "chunks": {"types"},
    "target": {"types", "heads", "encoding"},
    "label_alignment": {"types", "centred_stats"},
    "head_prior": {"types"},
    "answer": {"types", "target", "head_prior"},
    "diagnosis": {"types"},
    "_l1": {"types"},
    "_pursuit": {"types", "_l1", "tiles"},
    "relevance": {"types", "_l1", "_pursuit"},
    "centred_stats": {"types"},
    "label_noise": {"types", "centred_stats"},
    "posterior": {"types", "heads", "centred_stats"},
    "allocation": {"types"},
    "planning": {"types", "allocation"},
    "risk": {"types"},
    "best_split": {"types", "relevance", "risk"},
    "sparsity": {"types", "relevance", "risk"},
    "theory": {"types", "risk", "sparsity"},
    "metrics": {"types"},
    "bootstrap": {"types"},
    "clustered": set(),
    "encoders": {"types"},
    "data": {"types", "files"},
    "design": {"types"},
    "knowledge": {"types", "centred_stats", "label_noise", "posterior"},
    "forecast": {"types", "knowledge"},
    "head_calibration": {"types", "centred_stats", "forecast", "knowledge"},
    "paired_risk": {"types", "forecast", "knowledge"},
    "strategies": {"types", "relevance", "diagnosis", "design", "knowledge"},
    "fitting": {"types", "encoders", "heads", "encoding", "sharded"},
    "streaming": {"types", "encoding", "fitting", "heads", "packing"},
    "round_plan": {"types", "planning"},
    "plan_split": {"types", "design", "knowledge", "relevance"},
    "plan_search": {"types", "forecast", "knowledge", "plan_split"},
    "plans": {"types", "forecast", "knowledge", "paired_risk", "plan_search", "plan_split"},
    "plan_money": {"types", "knowledge", "plan_search", "plan_split"},
    "plan_simulation": {"types", "design", "forecast", "knowledge", "paired_risk"},
    "plan_ahead": {"types", "plan_simulation", "planning", "round_plan"},
    "purse": {"types", "allocation", "round_plan"},
    "noise_weights": {"types", "heads", "label_noise"},
    "round_moments": {"types", "fitting"},
    "round_parts": {"types", "purse"},
    "source_fit": {"types", "fitting", "noise_weights", "round_moments", "round_parts"},
    "round_fit": {
        "types",
        "fitting",
        "noise_weights",
        "round_moments",
        "round_parts",
        "source_fit",
        "target",
    },
    "streamed_round": {
        "types",
        "fitting",
        "packing",
        "round_moments",
        "source_fit",
        "streaming",
    },
    "one_round": {
        "types",
        "round_fit",
        "round_moments",
        "round_parts",
        "label_alignment",
        "head_prior",
        "diagnosis",
    },
    "learner": {
        "types",
        "fitting",
        "one_round",
        "purse",
        "round_fit",
        "round_moments",
        "round_parts",
        "round_plan",
    },
    "rank_choice": {"types", "encoders", "fitting", "noise_weights", "sharded"},
    "fitted": {"chunks", "types", "answer", "data", "rank_choice"},
    "default_fit": {"types", "encoders", "fitting", "rank_choice"},
    "compiled_round": {"types", "learner", "round_plan"},
    "in_memory": {
        "types",
        "answer",
        "compiled_round",
        "data",
        "default_fit",
        "fitted",
        "packing",
        "rank_choice",
        "round_plan",
        "strategies",
    },
    "target_only": {"types", "answer", "target"},
    "_sklearn": set(),
    "estimators": {
        "types",
        "_sklearn",
        "answer",
        "data",
        "encoders",
        "fitted",
        "in_memory",
        "round_plan",
        "strategies",
        "target_only",
    },
}
ALLOWED["scale"] = {"types", "sharded", "cpu_threads"}
LIBRARY = set(ALLOWED)
ALLOWED["experiment"] = LIBRARY | {"__init__", "cpu_threads"}
ALLOWED["commands"] = {"experiment", "data", "files", "scale"}
ALLOWED["cli"] = {"commands", "cpu_threads", "experiment", "__init__"}
ALLOWED["cpu_threads"] = set()
ALLOWED["__init__"] = set()


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path):
    """Top-level names and rooms of ours that a file imports anywhere in it."""
    outside, rooms = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = submodules if node.module == "amtl_jax" else [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "amtl_jax":
                room = parts[1] if len(parts) > 1 else "__init__"
                rooms.add(room if room in ALLOWED else "__init__")
            else:
                outside.add(parts[0])
    return outside, rooms


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(path)
    assert room in ALLOWED, f"a new room: say in this test what {room} may import"
    outside, rooms = imported(path)
    assert rooms - {room} <= ALLOWED[room]
    if room != "encoders":
        assert "flax" not in outside
    if path.parent.name != "scalars":
        assert not outside & {"tensorboardX", "wandb"}
    if room in LIBRARY - {"data", "files"}:
        assert not outside & {"logging", "json", "os", "pathlib", "tyro"}


def test_every_public_name_resolves_and_is_documented():
    for name in amtl.__all__:
        value = getattr(amtl, name)
        if callable(value):
            assert value.__doc__, name
    # importing a submodule of the same name would hide the function
    assert not {path.stem for path in PACKAGE.glob("*.py")} & set(amtl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = amtl.nothing


def test_importing_the_package_imports_nothing_heavy():
    heavy = (
        "{'jax', 'numpy', 'flax', 'optax', 'scipy', 'tyro', 'pandas', 'mlxtend', 'tensorboardX', "
        "'wandb'}"
    )
    code = f"import sys, amtl_jax, amtl_jax.cli; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
