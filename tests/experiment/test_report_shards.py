"""Shards of a study become one again; workdirs that do not belong together are refused."""

import json
import shutil

import numpy as np
import pytest
from fabricated_study import fabricate
from pages import change, shard

from amtl_jax.experiment.config import ConfigError
from amtl_jax.experiment.page.studies import read_one, read_studies
from amtl_jax.experiment.page.writing import write_report
from amtl_jax.experiment.study_rows import read_rows, write_rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    fabricate(workdir, corruptions=3, digits=2, seeds=(0, 1))
    return workdir


def contexts(rows):
    return list(dict.fromkeys((row.corruption, row.seed, row.budget) for row in rows))


@pytest.fixture
def shards(whole, tmp_path):
    """Three parts of it, of whole contexts, as --shard makes them."""
    every = contexts(read_rows(whole / "results.csv"))
    own = [set(every[place::3]) for place in range(3)]

    def keep(place):
        return lambda row: (row.corruption, row.seed, row.budget) in own[place]

    return [shard(whole, tmp_path / f"part_{place}", keep(place)) for place in range(3)]


def test_all_shards_are_the_study(whole, shards):
    found, wanted = read_studies(shards[::-1]), read_one(whole)
    assert found.summary["units"] == {"done": 24, "of": 24}
    for name in ("cells", "reading", "targets", "arms", "versions"):
        assert found.summary[name] == wanted.summary[name], name
    assert found.config == wanted.config
    assert found.arrays.keys() == wanted.arrays.keys()
    for name, values in wanted.arrays.items():
        if "/" in name:
            np.testing.assert_allclose(found.arrays[name], values, rtol=1e-6, err_msg=name)
    assert found.notes == ()
    assert set(found.workdirs) == set(shards)


def test_some_shards_are_an_unfinished_study(shards):
    found = read_studies(shards[:2])
    assert found.summary["units"] == {"done": 16, "of": 24}
    assert found.summary["reading"][0].startswith("The study is not finished")


def test_the_page_of_shards_names_all_of_them(shards, tmp_path):
    page = write_report(shards, out=tmp_path / "all.html").page.read_text()
    for folder in shards:
        assert str(folder) in page


def test_units_that_occur_twice_count_once(whole, shards):
    assert read_studies([whole, *shards]).summary["cells"] == read_one(whole).summary["cells"]
    rows = read_rows(shards[0] / "results.csv")
    slower = [row._replace(seconds=row.seconds + 1) for row in rows]
    write_rows(shards[0] / "results.csv", slower)  # seconds may differ, numbers may not
    assert read_studies([whole, shards[0]]).summary["cells"] == read_one(whole).summary["cells"]


def test_units_that_occur_twice_must_agree(whole, shards):
    rows = read_rows(shards[0] / "results.csv")
    rows[9] = rows[9]._replace(mse=rows[9].mse + 1e-3)
    write_rows(shards[0] / "results.csv", rows)
    with pytest.raises(ConfigError, match=f"disagree on target {rows[9].target}, seed .*mse of"):
        read_studies([whole, shards[0]])
    rows[9] = rows[9]._replace(mse=rows[9].mse - 1e-3)
    write_rows(shards[0] / "results.csv", rows[:-1])
    with pytest.raises(ConfigError, match="arms, rounds or samples differ"):
        read_studies([whole, shards[0]])


def test_means_over_seeds_are_weighed_by_their_number(whole, tmp_path):
    """A shard with two seeds and one with the third: arrays are the mean over all three."""
    three = tmp_path / "three"
    fabricate(three, corruptions=2, digits=2, seeds=(0, 1, 2), budgets=(1000,))
    parts = [
        shard(three, tmp_path / "two_seeds", lambda row: row.seed < 2),
        shard(three, tmp_path / "one_seed", lambda row: row.seed == 2),
    ]
    for folder, value in zip(parts, (1.0, 4.0), strict=True):
        with np.load(folder / "arrays.npz") as file:
            arrays = dict(file)
        arrays["measured/alignment"] = np.full(4, value, np.float32)
        np.savez(folder / "arrays.npz", **arrays)
    np.testing.assert_allclose(read_studies(parts).arrays["measured/alignment"], 2.0)
    # Seeds 0 and 1 are in both: the larger shard's mean stands, and it is said.
    found = read_studies([shard(three, tmp_path / "first", lambda row: row.seed == 0), *parts])
    np.testing.assert_allclose(found.arrays["measured/alignment"], 2.0)
    assert found.notes == ()
    found = read_studies([shard(three, tmp_path / "later", lambda row: row.seed > 0), parts[0]])
    assert "share some seeds of 4 targets" in found.notes[0]


def test_other_configs_and_versions_are_refused(whole, shards):
    config = json.loads((shards[1] / "config.json").read_text())
    change(shards[1] / "config.json", fit=config["fit"] | {"num_steps": 7})
    with pytest.raises(ConfigError, match=r"fit\.num_steps: first 100, then 7\. Give workdirs"):
        read_studies(shards)
    shutil.copy(whole / "config.json", shards[1])
    change(shards[1] / "summary.json", versions={"amtl_jax": "9.9"})
    with pytest.raises(ConfigError, match=r"version of amtl_jax: first '0\.1\.0', then '9\.9'"):
        read_studies(shards)
    change(shards[1] / "summary.json", versions={"amtl_jax": "0.1.0", "jax": "0.11"})
    assert read_studies(shards).summary["versions"]["jax"] == "0.10.0, 0.11"


def test_rows_of_another_study_are_refused(whole, shards, tmp_path):
    other = tmp_path / "other"
    fabricate(other, corruptions=4, digits=2, budgets=(1000,))
    shutil.copy(other / "results.csv", shards[2])
    with pytest.raises(ConfigError, match="are of no one study"):
        read_studies(shards)


def test_rows_are_read_strictly(shards):
    text = (shards[0] / "results.csv").read_text()
    (shards[0] / "results.csv").write_text(text.replace("fog", "FOG").replace("0.05", "five", 1))
    with pytest.raises(ConfigError, match=r"results\.csv, line \d+"):
        read_studies(shards)
    (shards[0] / "results.csv").unlink()
    with pytest.raises(ConfigError, match=r"results\.csv does not exist"):
        read_studies(shards)


def test_arrays_of_other_tasks_are_refused(shards):
    with np.load(shards[1] / "arrays.npz") as file:
        arrays = dict(file)
    order = np.argsort(-np.arange(len(arrays["tasks"])))
    arrays["tasks"] = arrays["tasks"][order]
    np.savez(shards[1] / "arrays.npz", **arrays)
    with pytest.raises(ConfigError, match=r"their arrays\.npz have other tasks"):
        read_studies(shards)
