"""Sums over parts of the blocks, by hand and against float64, and the mesh that splits them."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh

import amtl_jax as amtl
from amtl_jax import cpu_threads
from amtl_jax.scale.mesh import make_mesh, place_batch, place_whole, whole_blocks
from amtl_jax.sharded import (
    add_blocks,
    edges_of,
    empty_sums,
    num_parts,
    sum_by_task,
    sum_rows,
    sum_rows_by_task,
)

FLAG = "--xla_force_host_platform_device_count"


def by_task(values, task, num_tasks):
    """Sums of `[B, ...]` numbers of blocks, by way of the edges."""

    def of_blocks(values, slot, num_edges):
        return None, add_blocks(empty_sums(values, num_tasks, num_edges), slot, values)

    return sum_by_task(of_blocks, values, jnp.asarray(task, jnp.int32), num_tasks=num_tasks)[1]


@pytest.mark.parametrize(
    ("devices", "parts"), [(1, 8), (2, 8), (3, 9), (5, 10), (8, 8), (9, 9), (16, 16)]
)
def test_parts_are_whole_on_every_device(devices, parts):
    assert num_parts(devices) == parts


@pytest.mark.parametrize(
    ("task", "slot", "owner"),
    [
        # Parts of two blocks: task 0 and task 1 go on over one border, task 2 fills three parts.
        (
            [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3],
            [0, 0, 4, 1, 5, 5, 2, 2, 7, 7, 8, 8, 3, 3, 10, 10],
            [0, 1, 2, 2, 2, 3, 3],
        ),
        # Parts of one block; tasks 0 and 3 have none.
        ([1, 1, 2, 2, 2, 4, 5, 5], [1, 6, 2, 8, 9, 4, 5, 12], [1, 2, 2, 2, 4, 5, 5]),
        # Eleven blocks: five parts of two, one of one, and two of none.
        (
            [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2],
            [0, 0, 3, 3, 1, 1, 5, 5, 6, 2, 7],
            [0, 1, 1, 1, 2, 2, 2],
        ),
        # Fewer blocks than parts.
        ([0, 0, 1], [0, 2, 1], [0, 1, 1, 1, 1, 1, 1]),
        ([], [], [0] * 7),
    ],
)
def test_edges_by_hand(task, slot, owner):
    found = edges_of(jnp.asarray(task, jnp.int32), max(task, default=0) + 1)
    np.testing.assert_array_equal(found.slot, slot)
    np.testing.assert_array_equal(found.owner, owner)
    assert found.slot.dtype == found.owner.dtype == jnp.int32


def test_a_mesh_of_three_devices_has_nine_parts():
    mesh = AbstractMesh((3,), ("data",), axis_types=(AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh):
        found = edges_of(jnp.zeros(9, jnp.int32), 1)
    np.testing.assert_array_equal(found.slot, np.arange(9))


@pytest.mark.parametrize("num_blocks", [1, 3, 8, 11, 16, 40])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_sums_by_way_of_the_edges_are_plain_sums(num_blocks, is_sorted):
    """Exact for whole numbers, also where the tasks of the blocks are not in order."""
    rng = np.random.default_rng(num_blocks)
    task = rng.integers(0, 5, num_blocks)
    task = np.sort(task) if is_sorted else task
    values = rng.normal(size=(num_blocks, 3)).astype(np.float32)
    whole = rng.integers(-1000, 1000, num_blocks).astype(np.float32)
    expected, exact = np.zeros((5, 3)), np.zeros(5)
    np.add.at(expected, task, values.astype(np.float64))
    np.add.at(exact, task, whole)
    found = by_task((jnp.asarray(values), jnp.asarray(whole)), task, 5)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_array_equal(found[1], exact)


def test_no_blocks_sum_to_zeros():
    np.testing.assert_array_equal(by_task(jnp.zeros((0, 3)), [], 2), np.zeros((2, 3)))


@pytest.mark.parametrize("size", range(10))
def test_sums_of_rows_do_not_depend_on_zeros_behind(size):
    rng = np.random.default_rng(size)
    values = rng.normal(size=(size, size)).astype(np.float32)
    found = np.asarray(sum_rows(jnp.asarray(values)))
    np.testing.assert_allclose(found, values.astype(np.float64).sum(), atol=1e-5)
    for blocks, rows in ((0, 1), (1, 0), (7, 0), (3, 5)):
        wider = np.pad(values, ((0, blocks), (0, rows)))
        assert sum_rows(jnp.asarray(wider)) == found, (blocks, rows)


def test_sums_of_rows_keep_their_order_among_others():
    """A sum has the same bits alone and as one of many."""
    values = np.random.default_rng(0).normal(size=(4, 9, 7)).astype(np.float32)
    alone = [sum_rows(jnp.asarray(one)) for one in values]
    for size in (1, 2, 4):
        many = jax.vmap(sum_rows)(jnp.asarray(values[:size]))
        np.testing.assert_array_equal(many, alone[:size])


@pytest.mark.parametrize("rows", range(10))
def test_sums_of_rows_by_task(rows):
    values = np.random.default_rng(rows).normal(size=(6, rows, 2)).astype(np.float32)
    task = np.array([0, 0, 2, 2, 2, 3])
    expected = np.zeros((4, 2))
    np.add.at(expected, task, values.astype(np.float64).sum(axis=1))
    found = sum_rows_by_task(jnp.asarray(values), jnp.asarray(task), 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    wider = np.pad(values, ((0, 0), (0, 5), (0, 0)))
    np.testing.assert_array_equal(sum_rows_by_task(jnp.asarray(wider), jnp.asarray(task), 4), found)


def test_a_mesh_of_more_devices_than_there_are():
    wanted = 2 * len(jax.devices())
    with pytest.raises(
        ValueError, match=rf"1 x {wanted} x 1 .* needs {wanted} devices, got"
    ) as one:
        make_mesh(tasks=wanted)
    assert f"{FLAG}={wanted}" in str(one.value)


@pytest.mark.parametrize("axis", ["targets", "tasks", "data"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_mesh_of_no_devices(axis, number):
    with pytest.raises(ValueError, match=rf"at least 1 device an axis, got .*'{axis}': {number}"):
        make_mesh(**{axis: number})


def test_a_mesh_of_one_device_changes_no_bit():
    batch = batch_of([5, 30, 1])
    alone = amtl.head_stats(batch.x, batch, num_tasks=3)
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        placed = place_batch(batch, mesh)
        found = amtl.head_stats(placed.x, placed, num_tasks=3)
    jax.tree.map(np.testing.assert_array_equal, found, alone)


@pytest.mark.parametrize(
    ("flags", "devices", "threads"),
    [
        ("", 1, 8),
        (f"{FLAG}=2", 2, 8),
        (f"--xla_cpu_use_fusion_emitters=false {FLAG}=8", 8, 32),
        (f"{FLAG}=8 {FLAG}=3", 3, 12),  # XLA takes the last
    ],
)
def test_threads_for_the_devices_of_a_cpu(flags, devices, threads, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert cpu_threads.num_devices() == devices
    assert cpu_threads.threads_for(devices) == threads
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(cpu_threads, "num_cpus", lambda: threads - 1)
    cpu_threads.calm_threads()
    assert cpu_threads.num_threads() == threads
    monkeypatch.setattr(cpu_threads, "num_cpus", lambda: threads)
    monkeypatch.delenv("NPROC")
    cpu_threads.calm_threads()
    assert cpu_threads.num_threads() == threads
    monkeypatch.setenv("NPROC", "5")  # what the user has set stays
    cpu_threads.calm_threads()
    assert cpu_threads.num_threads() == 5


def test_devices_of_a_cpu_that_would_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1] * 8)
    monkeypatch.setenv("NPROC", "31")
    if jax.local_devices()[0].platform != "cpu":
        pytest.skip("of a CPU alone")
    with pytest.raises(ValueError, match=r"8 devices on a CPU need 32 threads.* got 31.*NPROC=32"):
        make_mesh(data=8)


def batch_of(counts):
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(len(counts)), counts)
    x, y = rng.normal(size=(2, len(task), 2)).astype(np.float32)
    return amtl.pack(x, y[:, :1], task, num_tasks=len(counts), block_rows=4)


@pytest.mark.parametrize(
    ("blocks", "devices", "whole"), [(0, 8, 0), (1, 1, 8), (8, 2, 8), (9, 8, 16), (10, 3, 18)]
)
def test_blocks_that_fall_into_whole_parts(blocks, devices, whole):
    mesh = AbstractMesh((1, 1, devices), ("targets", "tasks", "data"))
    assert whole_blocks(blocks, cast("Mesh", mesh)) == whole  # it looks at the shape alone


def test_a_placed_batch_has_the_same_rows_and_padding_behind():
    batch = batch_of([5, 30, 1])
    num_blocks = len(batch.task)
    assert num_blocks % 8
    placed = place_batch(batch, make_mesh())
    assert len(placed.task) == num_blocks + -num_blocks % 8
    for own, leaf in zip(placed, batch, strict=True):
        assert own.dtype == leaf.dtype
        np.testing.assert_array_equal(own[:num_blocks], leaf)
    for leaf in placed[:3]:
        assert not np.asarray(leaf[num_blocks:]).any()
    assert set(np.asarray(placed.task[num_blocks:])) == {int(batch.task[-1])}  # still in order


def test_keys_and_numbers_are_placed_whole():
    tree = {"key": jax.random.key(3), "one": 2.5, "many": np.arange(3)}
    placed = place_whole(tree, make_mesh())
    assert jax.random.key_data(placed["key"]).tolist() == jax.random.key_data(tree["key"]).tolist()
    assert float(placed["one"]) == 2.5
    np.testing.assert_array_equal(placed["many"], np.arange(3))
