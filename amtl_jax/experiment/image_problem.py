"""From image tasks to the tasks of an experiment."""

import jax
import numpy as np

from amtl_jax.data.image_tasks import ImageTasks, digit_tasks, find_task, image_rows, image_source
from amtl_jax.data.mnist_c import read_mnist_c
from amtl_jax.data.mnist_c_tfds import read_mnist_c_tfds
from amtl_jax.data.sources import Rows
from amtl_jax.experiment.config import Config, ConfigError, DigitsConfig, MnistCConfig
from amtl_jax.experiment.problem import Problem


def read_image_tasks(data: DigitsConfig | MnistCConfig) -> ImageTasks:
    """Makes or reads the images of a config.

    Raises:
      ConfigError: if neither a folder of files nor one of TensorFlow Datasets is named.
      ValueError: if the files are not as expected.
      ImportError: if a package that reads or makes them is not installed.
      OSError: if a file cannot be read.
    """
    if isinstance(data, DigitsConfig):
        return digit_tasks(seed=data.pool_seed)
    place, read = (data.root, read_mnist_c) if data.tfds is None else (data.tfds, read_mnist_c_tfds)
    if place is None:
        raise ConfigError("data.root must name the folder of MNIST-C, got None.")
    return read(
        place,
        num_source=data.num_source,
        num_pool=data.num_pool,
        num_test=data.num_test,
        split_seed=data.split_seed,
    )


def input_shape(config: Config) -> tuple[int, ...]:
    """Shape of one input: networks look at images, everything else at pixels as a vector."""
    return (28, 28, 1) if config.encoder.kind in ("conv", "module") else (28 * 28,)


def image_problem(config: Config, tasks: ImageTasks, target: str) -> Problem:
    """Makes the problem of one target; its sources are all tasks of the other corruptions.

    Args:
      config: its encoder, price, budget and num_target count.
      tasks: all of them.
      target: `<corruption>_<digit>`.

    Raises:
      ConfigError: if the target is unknown or has fewer rows than `num_target`.
    """
    try:
        corruption, _ = find_task(tasks, target, what="data.target")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    shape = input_shape(config)
    pool = image_rows(tasks, target, "target", shape=shape)
    if config.num_target > len(pool.x):
        raise ConfigError(
            f"num_target is {config.num_target}, but the target has {len(pool.x)} rows."
        )

    def draw_target(key):
        order = np.asarray(jax.random.permutation(key, len(pool.x)))[: config.num_target]
        return Rows(pool.x[order], pool.y[order], pool.task[order])

    return Problem(
        image_source(tasks, without=corruption, shape=shape, joint=config.price == "shared"),
        target,
        draw_target,
        image_rows(tasks, target, "test", shape=shape),
        "binary",
        num_target=config.num_target,
        budget=config.budget,
    )
