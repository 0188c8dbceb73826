"""Blocks: every row lands once, in its task's block, whatever the allocation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import amtl_jax as amtl
from amtl_jax.packing import default_block_rows, pack_index

pytestmark = pytest.mark.usefixtures("full_compiles")


def unpacked(batch):
    """Rows of a batch with weight, sorted by task, as NumPy."""
    weight = np.asarray(batch.weight)
    kept = weight > 0
    task = np.broadcast_to(np.asarray(batch.task)[:, None], weight.shape)[kept]
    return np.asarray(batch.x)[kept], np.asarray(batch.y)[kept], task


def test_golden():
    batch = amtl.pack(
        np.array([10.0, 20, 11, 30, 12])[:, None],
        np.array([1.0, 2, 3, 4, 5]),
        np.array([0, 1, 0, 2, 0]),
        num_tasks=4,
        block_rows=2,
    )
    # 3 rows of task 0 fill one block and half of another; task 3 has none.
    assert batch.task.tolist() == [0, 0, 1, 2]
    assert batch.x[..., 0].tolist() == [[10, 11], [12, 0], [20, 0], [30, 0]]
    assert batch.y[..., 0].tolist() == [[1, 3], [5, 0], [2, 0], [4, 0]]
    assert batch.weight.tolist() == [[1, 1], [1, 0], [1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("num_rows", "num_tasks", "block_rows", "expected"),
    [(0, 3, 4, 0), (2, 3, 4, 2), (3, 3, 4, 3), (12, 3, 4, 5), (13, 3, 4, 5), (15, 3, 4, 6)],
)
def test_max_blocks_golden(num_rows, num_tasks, block_rows, expected):
    assert amtl.max_blocks(num_rows, num_tasks, block_rows) == expected


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    block_rows=st.sampled_from([1, 3, 8]),
)
def test_max_blocks_is_reached_and_suffices(counts, block_rows):
    bound = amtl.max_blocks(sum(counts), len(counts), block_rows)
    assert sum(-(-count // block_rows) for count in counts) <= bound
    # The worst split: one row more than full blocks in every task but one.
    total, tasks = sum(counts), len(counts)
    full, rest = divmod(max(total - tasks, 0), block_rows)
    worst = [1] * min(total, tasks)
    if worst:
        worst[0] += full * block_rows
        worst[-1] += rest
        assert sum(-(-count // block_rows) for count in worst) >= bound


@given(
    task=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    block_rows=st.sampled_from([1, 4, 16]),
)
def test_every_row_lands_once(task, block_rows):
    task = np.asarray(task)
    rows = np.arange(len(task), dtype=np.float32)
    batch = amtl.pack(
        rows[:, None], np.stack([rows, -rows], 1), task, num_tasks=5, block_rows=block_rows
    )
    x, y, found = unpacked(batch)
    order = np.argsort(task, kind="stable")
    np.testing.assert_array_equal(x[:, 0], rows[order])
    np.testing.assert_array_equal(y, np.stack([rows, -rows], 1)[order])
    np.testing.assert_array_equal(found, task[order])
    assert (np.diff(np.asarray(batch.task)) >= 0).all()
    assert len(batch.task) == amtl.max_blocks(len(task), 5, block_rows)


def test_the_index_says_where_every_row_goes():
    task = np.array([2, 0, 0, 2, 2])
    row_of, block_task = pack_index(task, num_tasks=4, block_rows=2, num_blocks=5)
    assert row_of.dtype == block_task.dtype == np.int32
    np.testing.assert_array_equal(row_of, [[1, 2], [0, 3], [4, -1], [-1, -1], [-1, -1]])
    np.testing.assert_array_equal(block_task, [0, 2, 2, 3, 3])
    with pytest.raises(ValueError, match=r"needs 3 blocks of 2 rows.*num_blocks=2"):
        pack_index(task, num_tasks=4, block_rows=2, num_blocks=2)


def test_images_keep_their_shape_and_become_floats():
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    batch = amtl.pack(images, np.zeros(3), np.zeros(3, int), num_tasks=1, block_rows=4)
    assert batch.x.shape == (1, 4, 4, 5)
    assert batch.x.dtype == np.float32
    np.testing.assert_array_equal(batch.x[0, :3], images)


def test_missing_labels_are_stored_as_zero():
    y, weight = np.array([1.0, np.nan]), np.array([1.0, 0.0])
    batch = amtl.pack(
        np.ones((2, 1)), y, np.zeros(2, int), num_tasks=1, block_rows=2, weight=weight
    )
    assert batch.y[..., 0].tolist() == [[1, 0]]
    assert batch.weight.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("num_rows", "num_tasks", "expected"),
    [(15_000, 150, 56), (100, 150, 8), (10**6, 10, 256), (0, 1, 8), (50_000, 150, 168)],
)
def test_default_block_rows(num_rows, num_tasks, expected):
    assert default_block_rows(num_rows, num_tasks) == expected


@given(count=st.integers(64, 10_000), num_tasks=st.sampled_from([1, 7]))
def test_equal_counts_fill_their_blocks(count, num_tasks):
    rows = default_block_rows(count * num_tasks, num_tasks)
    blocks = -(-count // rows)
    assert rows % 8 == 0
    assert 8 <= rows <= 256
    assert blocks >= 2
    assert blocks * rows <= 1.25 * count
    assert count < 200 or blocks * rows <= 1.08 * count


ROWS = {"x": np.ones((4, 2)), "y": np.ones(4), "task": np.array([0, 1, 1, 0])}


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"y": np.ones(3)}, {}, ValueError, r"same N, got shapes \(4, 2\), \(3, 1\)"),
        ({"task": np.array([0, 1, 2, 0])}, {}, ValueError, r"\[0, 2\), got 0 to 2"),
        ({"task": np.array([0.0, 1, 1, 0])}, {}, TypeError, "integer task indices, got.*float64"),
        ({"x": np.array([[1, np.nan]] * 4)}, {}, ValueError, "x in 4 of 4 rows .first: row 0"),
        ({"y": np.array([1, 1, np.inf, 1])}, {}, ValueError, "y in 1 of 4 rows .first: row 2, tas"),
        ({}, {"weight": np.ones(3)}, ValueError, r"weight \(4,\) like task, got shape \(3,\)"),
        ({}, {"weight": np.full(4, -1)}, ValueError, "finite weights >= 0"),
        ({}, {"num_blocks": 1, "block_rows": 2}, ValueError, "needs 2 blocks.*num_blocks=1"),
    ],
)
def test_errors_name_what_came(change, options, error, message):
    with pytest.raises(error, match=message):
        amtl.pack(**{**ROWS, **change}, num_tasks=2, **options)


def test_max_blocks_rejects_nonsense():
    with pytest.raises(ValueError, match="block_rows=0"):
        amtl.max_blocks(3, 1, 0)
