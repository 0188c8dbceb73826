"""A run whose rows go to the device in chunks: the numbers of one that has them all there."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
from tiny_runs import assert_same_results, metrics_of

import amtl_jax as amtl
from amtl_jax import streaming
from amtl_jax.data import npz
from amtl_jax.data.drawn import DrawnInputs
from amtl_jax.experiment import build, rounds
from amtl_jax.experiment.config import (
    Config,
    DigitsConfig,
    EncoderConfig,
    FitConfig,
    ScaleConfig,
    TableConfig,
)
from amtl_jax.experiment.dry_run import describe
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.plan_state import restore_stand
from amtl_jax.experiment.preview import preview
from amtl_jax.experiment.run import run
from amtl_jax.experiment.study.driver import study

TASKS, ROWS, INPUTS, CHUNK = 6, 400, 12, 2
BUDGET = 900


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Tasks that share two directions of the inputs, which are far from zero, as an NPZ file."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(TASKS), ROWS)
    x = (rng.normal(size=(len(task), INPUTS)) + 3).astype(np.float32)
    theta = rng.normal(size=(INPUTS, 2)) @ rng.normal(size=(2, TASKS))
    y = np.sum(x * theta.T[task], axis=1) + 0.5 * rng.normal(size=len(task))
    path = tmp_path_factory.mktemp("chunks") / "pool.npz"
    np.savez(path, task=task, x=x, y=y)
    return path


def config_of(path, chunk_blocks=CHUNK, **changes) -> Config:
    config = Config(
        "chunks",
        TableConfig(
            str(path),
            task_column="task",
            target_task="5",
            label=("y",),
            test_share=0.1,
            chunk_blocks=chunk_blocks,
        ),
        num_target=40,
        budget=BUDGET,
        schedule=(0.5, 0.5),
        arms=("uniform", "l1_a_mtrl"),
        encoder=EncoderConfig(num_features=2),
        fit=FitConfig(num_steps=200, penalties=(1e-1, 1e-2, 1e-3)),
        num_resamples=20,
    )
    return dataclasses.replace(config, **changes)


@contextlib.contextmanager
def heads_kept():
    """Gathers what the heads of every round make of the inputs: sources `[M, D, O]`, target."""
    kept, original = [], rounds.answer_of

    def answer_of(setting, state, info, target):
        heads = state.target_head.weight[None], info.fit.heads.weight
        kernel = state.params["params"]["kernel"] if state.params else np.eye(heads[0].shape[1])
        kept.append([np.einsum("dk,mko->mdo", kernel, weight) for weight in heads])
        return original(setting, state, info, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "answer_of", answer_of)
        yield kept


def assert_agree(config, folder, tolerance):
    """With and without chunks: the same counts and λ, heads within a share of the largest."""
    both = []
    for chunk_blocks in (config.data.chunk_blocks, None):
        data = dataclasses.replace(config.data, chunk_blocks=chunk_blocks)
        with heads_kept() as heads:
            found = run(dataclasses.replace(config, data=data), folder / str(chunk_blocks))
        both.append((found.rounds, heads))
    (ours, our_heads), (theirs, their_heads) = both
    assert len(our_heads) == len(their_heads) == sum(bool(one["counts"]) for one in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one["counts"] == other["counts"]
        assert one.get("penalty") == other.get("penalty")
        assert one.get("rank_warning") == other.get("rank_warning")
    for round_heads in zip(our_heads, their_heads, strict=True):
        for found, expected in zip(*round_heads, strict=True):
            size = float(np.abs(expected).max())
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)
    return theirs


@pytest.mark.parametrize("case", ["linear", "identity", "aic"])
def test_a_table_gives_the_same_counts_and_heads(table, tmp_path, case):
    changes = {
        "linear": {"arms": ("target_only", "pooled", "uniform", "l1_a_mtrl", "c_optimal")},
        "identity": {"encoder": EncoderConfig(kind="identity")},
        "aic": {"encoder": EncoderConfig(num_features="aic")},
    }[case]
    found = assert_agree(config_of(table, **changes), tmp_path, 2e-3)
    if case == "linear":
        assert {one["round"] for one in found} == {0, 1}


def test_a_rank_that_is_too_small_is_told_alike(table, tmp_path):
    config = config_of(table, arms=("uniform",), encoder=EncoderConfig(num_features=1))
    found = assert_agree(config, tmp_path, 2e-3)
    assert "looks too small" in found[-1]["rank_warning"]


def test_digits_give_the_same_counts_and_heads(tmp_path, monkeypatch):
    """The tasks of digits_c, of two corruptions in place of sixteen."""
    original = build.read_image_tasks

    def some_tasks(data):
        tasks = original(data)
        kept = [tasks.names.index("fog"), tasks.names.index("identity")]
        parts = {
            name: tuple(getattr(tasks, name)[index] for index in kept)
            for name in tasks._fields
            if name != "num_classes"
        }
        return tasks._replace(**parts)

    monkeypatch.setattr(build, "read_image_tasks", some_tasks)
    config = config_of("", data=DigitsConfig(chunk_blocks=3), num_target=40, budget=600)
    config = dataclasses.replace(config, encoder=EncoderConfig(num_features=5))
    assert_agree(config, tmp_path, 1e-2)


def watched(config, workdir):
    """Runs; returns the most numbers of an array on the device, and of rows drawn at once."""
    arrays, reads, others = [], [], jax.live_arrays()  # of other tests

    def look():
        known = set(map(id, others))
        arrays.extend(leaf.size for leaf in jax.live_arrays() if id(leaf) not in known)

    add, prepare, read = streaming._add, rounds.prepare, DrawnInputs.__getitem__

    def watching_add(*arguments):
        look()
        return add(*arguments)

    def watching_prepare(*arguments, **options):
        setting = prepare(*arguments, **options)

        def tell(*arguments):
            look()
            return setting.tell(*arguments)

        return setting._replace(tell=tell)

    def watching_read(self, rows):
        reads.append(len(rows))
        return read(self, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_add", watching_add)
        patch.setattr("amtl_jax.experiment.run.prepare", watching_prepare)
        patch.setattr(DrawnInputs, "__getitem__", watching_read)
        run(config, workdir)
    return max(arrays), max(reads)


def test_neither_device_nor_memory_hold_what_was_bought(table, tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "KEPT_ON_DISK", 0)
    config = config_of(table, arms=("uniform",), num_target=20, block_rows=64)
    chunk, sums = CHUNK * config.block_rows, 2 * TASKS * INPUTS**2
    assert chunk * INPUTS < sums < BUDGET * INPUTS / 2
    most, rows = watched(config, tmp_path / "chunks")
    assert most == sums  # of rows that are fitted and those that are held out
    assert rows == chunk
    most, rows = watched(config_of(table, None, arms=("uniform",), num_target=20), tmp_path / "all")
    assert most >= BUDGET * INPUTS  # a batch has room for all
    assert rows == BUDGET


def test_half_of_a_pool_on_disk_needs_no_budget_in_chunks(table, monkeypatch):
    monkeypatch.setattr(npz, "KEPT_ON_DISK", 0)
    with pytest.raises(amtl.ConfigError, match=r"budget must be set .* or data.chunk_blocks"):
        build.build_problem(config_of(table, None, budget=None))
    assert build.build_problem(config_of(table, budget=None)).budget == 5 * ROWS / 2


@pytest.fixture(scope="module")
def whole_chunks(table, tmp_path_factory):
    """A run in chunks that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run(config_of(table), workdir)
    return workdir


@pytest.mark.parametrize("lost", [Slot(0, "uniform", 1), Slot(0, "l1_a_mtrl", 0)])
def test_stopped_and_resumed(table, whole_chunks, tmp_path, lost):
    """A run that stops before a round, and one that has lost a checkpoint, end with its numbers."""
    config = config_of(table)

    class Stopping(Observer):
        def began(self, slot):
            if slot == lost:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", observer=Stopping())
    assert len(metrics_of(tmp_path / "run")) < 4
    run(config, tmp_path / "run")
    assert_same_results(tmp_path / "run", whole_chunks)
    name = f"checkpoints/seed_0/{lost.arm}/round_{lost.index}.ckpt"
    (tmp_path / "run" / name).unlink()
    run(config, tmp_path / "run")
    assert_same_results(tmp_path / "run", whole_chunks)


def test_a_workdir_belongs_to_its_chunks(table, tmp_path):
    """Sums in another order round otherwise: nobody goes on with them unnoticed."""
    run(config_of(table, arms=("target_only",)), tmp_path)
    for other, shown in ((3, "3"), (None, "None")):
        with pytest.raises(amtl.ConfigError, match=rf"data.chunk_blocks: there 2, here {shown}"):
            run(config_of(table, other, arms=("target_only",)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": EncoderConfig(kind="mlp")}, "kind 'mlp' and fit.method None"),
        ({"fit": FitConfig(method="joint")}, "kind 'linear' and fit.method 'joint'"),
        ({"fit": FitConfig(method="variable_projection")}, "linear fitted by lbfgs and .*identity"),
        (
            {"encoder": EncoderConfig(kind="identity", input_scale=2.0)},
            "sums the inputs as they are",
        ),
        ({"scale": ScaleConfig(data=2)}, "is for one device.* got scale.tasks 1 and scale.data 2"),
        ({"chunk_blocks": 0}, "data.chunk_blocks must be at least 1 or None, got 0"),
    ],
)
def test_fits_that_need_their_rows_are_refused(table, tmp_path, changes, message):
    chunk_blocks = changes.pop("chunk_blocks", CHUNK)
    with pytest.raises(amtl.ConfigError, match=message) as caught:
        run(config_of(table, chunk_blocks, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_sums_that_are_too_many_are_refused(table, tmp_path, monkeypatch):
    monkeypatch.setattr("amtl_jax.experiment.representation._MOST_SUMS", 700)
    config = config_of(table, fit=FitConfig(num_steps=7))  # of no learner that is kept
    with pytest.raises(amtl.ConfigError, match=r"12 × 12 sums of each of 6 tasks.*at most 10 inp"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_studies_and_campaigns_have_no_chunks(table, tmp_path):
    config = config_of(table, data=DigitsConfig(chunk_blocks=3), num_target=40)
    with pytest.raises(
        amtl.ConfigError, match=r"data.chunk_blocks is for amtl run: campaigns of a"
    ):
        study(config, tmp_path / "study")
    with pytest.raises(amtl.ConfigError, match=r"data.chunk_blocks is for amtl run: the rows of a"):
        amtl.start_campaign(config_of(table, arms=("uniform",)), tmp_path / "campaign")


def test_a_dry_run_counts_chunks_and_sums(table):
    found = preview(config_of(table))
    source = build.build_problem(config_of(table)).source
    block_rows = build.campaign_shape(config_of(table), source).block_rows
    assert found.batch_shape == (CHUNK, block_rows, INPUTS)
    blocks = 5 * -(-BUDGET // 5 // block_rows)  # of 180 rows a source
    assert found.num_chunks == -(-blocks // CHUNK)
    assert found.batch_bytes > 4 * TASKS * INPUTS**2
    assert f"of {found.num_chunks} chunks of {CHUNK} blocks × {block_rows} rows" in describe(found)
    assert preview(config_of(table, None)).num_chunks is None


def test_a_plan_goes_on_from_chunks(table, tmp_path):
    """The heads that a plan draws are those of the rows."""
    draws = []
    for chunk_blocks in (CHUNK, None):
        workdir = tmp_path / str(chunk_blocks)
        run(config_of(table, chunk_blocks, arms=("uniform",)), workdir)
        draws.append(restore_stand(workdir, None, None, Observer()).draws)
    size = float(np.abs(draws[1].heads).max())
    np.testing.assert_allclose(draws[0].heads, draws[1].heads, atol=2e-2 * size)
