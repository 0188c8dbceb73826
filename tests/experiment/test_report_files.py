"""Files of a workdir that are missing, damaged or hostile end in one line, never in a page."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from fabricated_study import fabricate
from pages import change

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page import reading
from amtl_jax.experiment.page.writing import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    fabricate(workdir, corruptions=2, digits=2, budgets=(15_000,))
    return workdir


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def assert_refused(workdir, match):
    with pytest.raises(ConfigError, match=match) as found:
        write_report([workdir])
    assert "\n" not in str(found.value)
    assert not (workdir / "report.html").exists()


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"", "is damaged"),
        (b"[1, 2]", "expected names and values"),
        (b'{"kind": "study", "a": NaN}', "NaN is no number of JSON"),
        (b'{"kind": "study"}\xff', "no UTF-8 at byte 17"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "nested more than 24 deep"),
        (b'{"kind": "study", "a": 1' + b"0" * 5000 + b"}", "is damaged"),
    ],
)
def test_json_that_is_none(copied, name, body, match):
    (copied / name).write_bytes(body)
    assert_refused(copied, match)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("cells", 3, r"summary\.cells: expected a list, got 3"),
        ("cells.0.budget", "many", r"cells\[0\]\.budget: expected a finite number"),
        ("cells.0.budget", -5, r"a whole number from 0, got -5"),
        ("cells.0.arms.uniform.metrics.mse", [], r"arms\.uniform\.metrics\.mse: expected a finite"),
        ("cells.0.arms.uniform.metrics", {}, r"metrics\.balanced_accuracy is missing"),
        ("cells.0.arms.uniform.curve", [], "expected 1 to 200 entries, got 0"),
        ("cells.0.arms.alignment.difference", {"best": {}}, "is missing"),
        ("cells.0.arms.uniform.metrics.mse", 1e300, "expected a finite number"),
        ("targets", ["fog_3"], r"targets\[0\]: expected one of its corruptions and digits"),
        ("targets", ["identity_0", "identity_0"], "'identity_0' is there twice"),
        ("arms", ["uniform"], "no arm of this study is 'target_only'"),
        ("arms", ["uniform"] * 41, "expected 0 to 40 entries, got 41"),
        ("level", 2, "expected a level in"),
        ("num_resamples", 10**12, "1 to 1,000,000 resamples"),
        ("reading", [1], r"reading\[0\]: expected text"),
        ("units", None, "expected names and values, got None"),
    ],
)
def test_summaries_of_another_form(copied, path, value, match):
    summary = json.loads((copied / "summary.json").read_text())
    *steps, last = path.split(".")
    place = summary
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    (copied / "summary.json").write_text(json.dumps(summary))
    assert_refused(copied, match)


def test_files_that_are_too_large(copied, monkeypatch):
    monkeypatch.setitem(reading._MOST_BYTES, "summary.json", 1000)
    assert_refused(copied, "has more than 1,000 bytes")


def rewrite(workdir, **changes):
    with np.load(workdir / "arrays.npz") as file:
        arrays = dict(file) | changes
    np.savez(workdir / "arrays.npz", **{key: one for key, one in arrays.items() if one is not None})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"targets": np.array(["identity_0"])}, "expected the 4 of summary.json"),
        ({"targets": np.arange(4)}, "expected 1 to 1,000 names, got int64"),
        ({"tasks": np.array(["a_1", "a_1"])}, "'a_1' is there twice"),
        ({"tasks": np.array(["a_1", "b_1"])}, "expected all targets among them"),
        ({"tasks": None}, "tasks is missing"),
        (
            {"nu/alignment": np.zeros((4, 3))},
            r"nu/alignment: expected numbers of the shape \(4, 4\)",
        ),
        ({"nu/alignment": np.full((4, 4), np.inf)}, "expected finite numbers or NaN"),
        ({"counts/uniform": np.full((4, 2, 4), np.nan)}, "expected finite numbers from 0"),
        ({"counts/uniform": -np.ones((4, 2, 4))}, "expected finite numbers from 0"),
        ({"counts/uniform": np.zeros((4, 0, 4))}, "counts/uniform: expected numbers of the shape"),
        ({"measured/alignment": np.array(["a"] * 4)}, "measured/alignment: expected numbers"),
    ],
)
def test_arrays_of_another_form(copied, changes, match):
    rewrite(copied, **changes)
    assert_refused(copied, match)


def test_arrays_that_no_one_knows_are_left_out(copied, made, tmp_path):
    wanted = write_report([made], out=tmp_path / "wanted.html").page.read_bytes()
    rewrite(copied, **{"nu/nobody": np.zeros(3), "allow_pickle": np.array(False)})
    page = write_report([copied]).page.read_bytes()
    assert page.replace(str(copied).encode(), str(made).encode()) == wanted


def test_pickles_and_headers_that_lie(copied):
    good = (copied / "arrays.npz").read_bytes()
    (copied / "arrays.npz").write_bytes(good[: len(good) // 2])
    assert_refused(copied, r"arrays\.npz is damaged")
    np.savez(copied / "arrays.npz", tasks=np.array([{}], object), allow_pickle=True)
    assert_refused(copied, "holds Python objects, a pickle")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(copied / "arrays.npz", "w") as archive:
        archive.writestr("tasks.npy", stream.getvalue() + b"\0" * 16)
    assert_refused(copied, "its header declares shape")


def test_places_that_hold_nothing(tmp_path, made):
    assert_refused(tmp_path, "holds no run or study")
    with pytest.raises(ConfigError, match="does not exist"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="is a file"):
        write_report([made / "config.json"])
    with pytest.raises(ConfigError, match="is given twice"):
        write_report([made, made / "."], out=tmp_path / "a.html")
    (tmp_path / "units").mkdir()
    assert_refused(tmp_path, "holds a study without results yet")
    (tmp_path / "campaign.json").write_text("{}")
    assert_refused(tmp_path, "holds a campaign")


def test_configs_may_be_of_any_form(copied):
    change(copied / "config.json", fit=[[{"a": None}] * 20, True, 1e-9, "<b>"], budget={})
    page = write_report([copied]).page.read_text()
    assert "&lt;b&gt;" in page
