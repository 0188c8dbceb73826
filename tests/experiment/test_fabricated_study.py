"""The fabricated study that other tests stand on: its files say the same, in every call."""

import json

import numpy as np
from fabricated_study import fabricate

from amtl_jax.experiment.study_rows import read_rows
from amtl_jax.experiment.study_summary import summarise_study


def test_a_fabricated_study_is_what_its_files_say(tmp_path):
    summary = fabricate(tmp_path, corruptions=3, digits=2, seeds=(0, 1), target_samples=(100, 400))
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    again = summarise_study(
        read_rows(tmp_path / "results.csv"),
        **{name: summary[name] for name in ("name", "targets", "arms", "seeds", "num_resamples")},
        budgets=(15_000, 121_875),
        target_samples=(100, 400),
    )
    assert again["cells"] == summary["cells"]
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays["tasks"].tolist() == summary["targets"]
        assert arrays["nu/a_mtrl"].shape == (6, 6)
        assert arrays["counts/uniform"].shape == (6, 4, 6)
        np.testing.assert_allclose(arrays["counts/uniform"].sum((1, 2)), 121_875, rtol=1e-5)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fabricate(tmp_path, corruptions=3, digits=2, seeds=(0, 1), target_samples=(100, 400))
    again = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    del files["arrays.npz"], again["arrays.npz"]  # its archive holds the time
    assert files == again


def test_arms_and_budgets_are_those_asked_for(tmp_path):
    summary = fabricate(
        tmp_path, corruptions=2, digits=1, arms=("uniform", "a_mtrl"), budgets=(500,)
    )
    (cell,) = summary["cells"]
    assert cell["budget"] == 500
    assert list(cell["arms"]) == ["uniform", "a_mtrl"]
    assert len(summary["targets"]) == 2
