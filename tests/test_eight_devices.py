"""Eight devices find what one finds: statistics and heads bit for bit, fits up to rounding.

One process computes all of it, `eight_devices.py`; its programs are compiled as users' are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from eight_devices import BUDGET, FEATURES, FITS, MESHES, NUM_SOURCES, NUM_TARGET, ROUNDS

from amtl_jax.types import Heads, HeadStats, TaskBatch

DEVICES = 8
NAMES = TaskBatch._fields
SHARED = [name for name in MESHES if name != "none"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Arrays by `<mesh>/<name>`, and what else is known of every mesh."""
    folder = tmp_path_factory.mktemp("eight")
    flag = f"--xla_force_host_platform_device_count={DEVICES}"
    environment = dict(os.environ, XLA_FLAGS=f"{os.environ['XLA_FLAGS']} {flag}", NPROC="32")
    del environment["JAX_DISABLE_MOST_OPTIMIZATIONS"]
    script = Path(__file__).with_name("eight_devices.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,  # devices that wait for each other for ever fail, and do not hang
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "arrays.npz") as arrays:
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["devices"] == DEVICES
        return dict(arrays), facts


@pytest.mark.parametrize("mesh", SHARED)
def test_statistics_and_heads_are_bit_equal(found, mesh):
    """Also where the largest task, a fifth of all rows, lies in three of the eight parts."""
    arrays, facts = found
    assert facts["none/statistics"]["parts_of_largest"] == 3
    for name in (*HeadStats._fields, *Heads._fields):
        alone = arrays[f"none/{name}"]
        assert np.isfinite(alone).all()
        assert alone.any()
        np.testing.assert_array_equal(arrays[f"{mesh}/{name}"], alone, err_msg=name)


@pytest.mark.parametrize("mesh", MESHES)
def test_statistics_take_one_sum_over_the_devices_and_gather_nothing(found, mesh):
    facts = found[1][f"{mesh}/statistics"]
    has_several = mesh not in ("none", "data_1")
    assert facts["sums"] == int(has_several)
    assert facts["others"] == []


@pytest.mark.parametrize("kind", ["lbfgs", "gram"])
def test_fits_agree_up_to_rounding(found, kind):
    arrays = found[0]
    alone, shared = FITS
    for name in ("objective", "theta", "bias"):
        one, other = (arrays[f"{mesh}/{kind}_{name}"] for mesh in (alone, shared))
        assert np.abs(other - one).max() <= 1e-4 * np.abs(one).max(), name


def test_features_agree(found):
    alone, shared = (found[0][f"{mesh}/features"] for mesh in FEATURES)
    assert (alone.std(axis=0) > 0).all()
    np.testing.assert_allclose(shared, alone, rtol=1e-5, atol=1e-6)


def test_rounds_buy_the_same(found):
    """The rule has an opinion, and a round's counts differ by 1 % of the round at most."""
    alone, shared = (found[0][f"{mesh}/counts"] for mesh in ROUNDS)
    assert alone.sum() < BUDGET
    assert alone[1].max() > 2 * np.median(alone[1])
    np.testing.assert_array_equal(shared.sum(axis=1), alone.sum(axis=1))
    assert (np.abs(shared - alone).sum(axis=1) <= 0.01 * alone.sum(axis=1)).all()
    one, other = (found[0][f"{mesh}/relevance"] for mesh in ROUNDS)
    np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("mesh", ROUNDS)
def test_a_second_round_compiles_nothing(found, mesh):
    facts = found[1][f"{mesh}/programs"]
    assert facts["traced"] == [1, 0]
    assert facts["compiled"][0] >= 1
    assert facts["compiled"][1] == 0


def test_campaigns_of_a_study_are_dealt_to_devices_that_send_each_other_nothing(found):
    arrays, facts = found
    alone = arrays["campaigns/alone"]
    assert len(set(alone.tolist())) == 3
    np.testing.assert_allclose(arrays["campaigns/dealt"], alone, rtol=1e-5)
    assert facts["campaigns"] == {"sums": 0, "others": []}


def test_devices_get_the_blocks_of_one_device_and_no_row_is_asked_for_twice(found):
    arrays, facts = found
    alone, facts = {name: arrays[f"purchases/alone/{name}"] for name in NAMES}, facts["purchases"]
    rows = 200
    assert alone["weight"].sum() == rows + NUM_TARGET
    for lengths in (1, 8):
        own = {name: arrays[f"purchases/{lengths}/{name}"] for name in NAMES}
        most = min(len(own["task"]), len(alone["task"]))
        assert len(own["task"]) % DEVICES == 0
        for name in NAMES:
            np.testing.assert_array_equal(own[name][:most], alone[name][:most], err_msg=name)
        assert own["weight"].sum() == alone["weight"].sum()
        assert (np.diff(own["task"]) >= 0).all()
    assert facts["asked"] == facts["asked_on_mesh"] == rows
    assert facts["twice"] == 0


def test_with_more_lengths_early_rounds_keep_the_devices_busy(found):
    """Blocks with rows on each device, when half of the budget is spent."""
    live = found[1]["purchases"]["live"]
    assert live == {"1": [14, 14, 14, 14, 1, 0, 0, 0], "8": [9, 9, 9, 9, 9, 9, 3, 0]}


def test_a_dry_run_times_a_round_on_the_devices(found):
    facts = found[1]["dry_run"]
    room = NUM_SOURCES + 1 + (BUDGET + NUM_TARGET - NUM_SOURCES - 1) // 4
    assert facts["blocks"] == room + -room % DEVICES
    assert facts["seconds"] > 0
