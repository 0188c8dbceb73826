"""Whether the data of a config makes sense, told before a file is looked at. Imports no JAX."""

from amtl_jax.experiment.config import Config, chunk_blocks_of, shown
from amtl_jax.experiment.data_config import DigitsConfig, MnistCConfig, SyntheticConfig, TableConfig
from amtl_jax.experiment.value_checks import LARGEST, LARGEST_FLOAT, MOST_DRAWS, WIDEST, Checks


def check_data(checks: Checks, config: Config) -> None:
    """Notes what is wrong with the data, and with what only some kinds of data can have."""
    data = config.data
    if chunk_blocks_of(data) is not None:
        checks.within("data.chunk_blocks", 1, WIDEST)
        checks.problems += _chunk_problems(config)
    if isinstance(data, TableConfig):
        checks.problems += _table_problems(config, data)
        return
    for name in ("num_target", "budget"):
        given = checks.value_of(name) is not None
        checks.expect(given, name, "a number; only tables have None")
    is_without = "pooled" not in config.arms
    checks.expect(is_without, "arms", "without pooled, which takes all rows of a table")
    match data:
        case DigitsConfig():
            checks.within("data.pool_seed", 0, LARGEST)
        case MnistCConfig():
            _check_mnist_c(checks, data)
        case SyntheticConfig():
            checks.expect(config.price == "each", "price", "each; shared is for images")
            checks.within("data.truth_seed", 0, LARGEST)
            for name in ("num_tasks", "input_dim", "num_features"):
                checks.within(f"data.{name}", 1, WIDEST)
            checks.within("data.num_test", 2, MOST_DRAWS)
            checks.within("data.noise", 0, LARGEST_FLOAT)


def _check_mnist_c(checks: Checks, data: MnistCConfig) -> None:
    if (data.root is None) == (data.tfds is None):
        given = "neither" if data.root is None else "both"
        checks.problems.append(
            "one of data.root (the folder of MNIST-C) and data.tfds (the data folder of TensorFlow "
            f"Datasets) is needed, got {given}"
        )
    for name in ("root", "tfds"):
        checks.expect(getattr(data, name) != "", f"data.{name}", "a folder")
    checks.within("data.num_source", 1, LARGEST)
    checks.within("data.num_pool", 2, LARGEST)
    if data.num_test is not None:
        checks.within("data.num_test", 1, LARGEST)
    checks.within("data.split_seed", 0, LARGEST)


def _chunk_problems(config: Config) -> list[str]:
    """What cannot be fitted to rows that are not on the device all at once."""
    encoder, fit, scale, problems = config.encoder, config.fit, config.scale, []
    is_linear = encoder.kind == "linear" and fit.method in (None, "lbfgs")
    if not is_linear and encoder.kind != "identity":
        problems.append(
            "data.chunk_blocks is for fits that need sums of the rows alone, encoder.kind linear "
            "fitted by lbfgs and encoder.kind identity: set one of these or leave it out, got "
            f"encoder.kind {encoder.kind!r} and fit.method {fit.method!r}"
        )
    elif encoder.kind == "identity" and encoder.input_scale != 1:
        problems.append(
            "data.chunk_blocks sums the inputs as they are: leave out it or encoder.input_scale, "
            f"got {encoder.input_scale:g}"
        )
    if scale.tasks * scale.data > 1:
        problems.append(
            "data.chunk_blocks is for one device: leave out it or scale, got scale.tasks "
            f"{scale.tasks} and scale.data {scale.data}"
        )
    return problems


def _table_problems(config: Config, data: TableConfig) -> list[str]:
    """What a table needs before its file is looked at."""
    problems = []
    if (data.path is None) == (data.shipped is None):
        given = "neither" if data.path is None else "both"
        problems.append(
            f"one of data.path (a CSV, Parquet or NPZ file) and data.shipped is needed, got {given}"
        )
    if data.target_task is None:
        problems.append("data.target_task must name the target task, got None")
    if data.task_column is None and len(data.label) < 2:
        problems.append(
            "data.task_column must name the column that says each row's task, or data.label at "
            "least 2 columns, a task each"
        )
    for name in ("label", "features"):
        columns = getattr(data, name)
        if len(set(columns)) < len(columns):
            problems.append(f"data.{name} must be distinct, got {', '.join(columns)}")
    both = sorted(set(data.label) & set(data.features))
    if both:
        problems.append(f"a column cannot be label and feature, got {', '.join(both)} as both")
    if not 0 < data.test_share < 1:
        problems.append(f"data.test_share must be between 0 and 1, got {shown(data.test_share)}")
    if not 0 <= data.split_seed <= LARGEST:
        problems.append(f"data.split_seed must be between 0 and {LARGEST}, got {data.split_seed}")
    if data.paid == "row" and len(data.label) < 2:
        problems.append("data.paid row is for several labels a row; name them in data.label")
    if config.price != "each":
        problems.append(
            "price shared is for images; where the labels of a table's row are paid once, set "
            f"data.paid row, got price {config.price!r}"
        )
    if config.encoder.kind == "conv":
        problems.append("encoder.kind conv is for images; a table's rows are vectors")
    return problems
