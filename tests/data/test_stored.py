"""Embeddings that stay in their NPZ file: the numbers of a table in memory, and none kept there."""

import io
import os
import subprocess
import sys
import zipfile
import zlib

import jax
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.data import npz
from amtl_jax.data.npz import open_npz, read_npz
from amtl_jax.data.stored import StoredMatrix

ROWS, TASKS, INPUTS = 600, 4, 7


@pytest.fixture
def everything_on_disk(monkeypatch):
    monkeypatch.setattr(npz, "KEPT_ON_DISK", 0)


def columns(dtype="<f4"):
    rng = np.random.default_rng(0)
    x = (4 * rng.normal(size=(ROWS, INPUTS)) + 1).astype(dtype)
    task = np.array([f"task {index % TASKS}" for index in range(ROWS)])
    return {"task": task, "x": x, "y": x[:, 0] + rng.normal(size=ROWS)}


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "f2", "u1", "i8", "?"])
def test_rows_are_those_of_the_array(dtype, tmp_path, everything_on_disk):
    x = columns(dtype)["x"]
    np.savez(tmp_path / "a.npz", before=np.arange(5), x=x, behind=np.arange(3))
    found = open_npz(tmp_path / "a.npz")
    stored = found["x"]
    assert isinstance(stored, StoredMatrix)
    assert stored.shape == x.shape
    np.testing.assert_array_equal(found["behind"], np.arange(3))
    wanted = x.astype(np.float32)
    for rows in ([], [7], [5, 3, 3, ROWS - 1, 0, 4], range(ROWS)):
        got = stored[np.array(rows, int)]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted[np.array(rows, int)])
    np.testing.assert_array_equal(np.asarray(stored), wanted)
    with pytest.raises(IndexError, match=rf"rows 0 to {ROWS - 1}, got -1 to 2"):
        stored[np.array([2, -1])]


def test_what_stays_in_the_file(tmp_path, monkeypatch):
    matrix = np.ones((100, 4), np.float32)  # 1,600 bytes and a header of 128
    others = {
        "small": matrix[:50],
        "columns_first": np.asfortranarray(matrix),
        "text": np.full((100, 4), "abcd"),
        "images": np.ones((10, 10, 20), np.float32),
        "vector": np.ones(1000),
    }
    monkeypatch.setattr(npz, "KEPT_ON_DISK", 1600)
    np.savez(tmp_path / "a.npz", matrix=matrix, **others)
    found = open_npz(tmp_path / "a.npz")
    assert [name for name in found if isinstance(found[name], StoredMatrix)] == ["matrix"]
    for name, array in others.items():
        np.testing.assert_array_equal(found[name], array)
    np.savez_compressed(tmp_path / "b.npz", matrix=matrix)
    assert isinstance(open_npz(tmp_path / "b.npz")["matrix"], np.ndarray)
    assert isinstance(read_npz(tmp_path / "a.npz")["matrix"], np.ndarray)


@pytest.mark.parametrize("paid", ["label", "row"])
def test_tasks_are_those_of_a_table_in_memory(paid, tmp_path, monkeypatch):
    arrays = columns() | {"z": np.where(np.arange(ROWS) % 5, columns()["y"] ** 2, np.nan)}
    np.savez(tmp_path / "a.npz", **arrays)
    both = []
    for kept in (0, 2**20):
        monkeypatch.setattr(npz, "KEPT_ON_DISK", kept)
        table = amtl.read_table(tmp_path / "a.npz")
        assert isinstance(table.columns["x"].values, StoredMatrix) == (kept == 0)
        options = {"labels": ["y", "z"], "features": ["x"], "paid": paid}
        both.append(amtl.table_tasks(table, task_column="task", target_task="task 2/y", **options))
    disk, memory = both
    assert disk.schema == memory.schema
    for name in ("target_x", "target_y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(disk, name), getattr(memory, name))
    key, counts = jax.random.key(3), np.full(len(disk.source.names), 20)
    for start in (None, counts):
        rows = [tasks.source.draw(key, counts, start=start) for tasks in both]
        for a, b in zip(*rows, strict=True):
            np.testing.assert_array_equal(a, b)


def test_baselines_and_the_model_are_those_of_a_table_in_memory(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **columns())
    data = amtl.TableConfig(str(tmp_path / "a.npz"), task_column="task", target_task="task 1")
    config = amtl.Config(
        "disk",
        amtl.TableConfig(**{**vars(data), "label": ("y",)}),
        num_target=30,
        budget=200,
        arms=("target_only", "pooled"),
        num_resamples=10,
    )
    predictions = []
    for kept in (0, 2**20):
        monkeypatch.setattr(npz, "KEPT_ON_DISK", kept)
        workdir = tmp_path / str(kept)
        amtl.run(config, workdir)
        predictions.append(amtl.load(workdir).predict(tmp_path / "a.npz"))
    np.testing.assert_array_equal(*predictions)
    with pytest.raises(amtl.TableError, match="has no column 'x', wanted as a feature"):
        amtl.load(tmp_path / "0").predict({"y": np.ones(3), "z": np.ones((3, INPUTS))})


def test_a_budget_must_be_set(tmp_path, everything_on_disk):
    np.savez(tmp_path / "a.npz", **columns())
    data = amtl.TableConfig(
        str(tmp_path / "a.npz"), task_column="task", target_task="task 1", label=("y",)
    )
    config = amtl.Config("disk", data, num_target=None, budget=None)
    with pytest.raises(amtl.ConfigError, match=r"budget must be set where features stay on disk"):
        amtl.run(config, tmp_path / "run")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_the_row_of_a_number_that_is_none_is_named(bad, tmp_path, everything_on_disk):
    arrays = columns("<f8")
    arrays["x"][401, 3] = bad
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(amtl.TableError, match=r"column 'x': NaN or Inf in row 402"):
        amtl.table_tasks(
            amtl.read_table(tmp_path / "a.npz"),
            task_column="task",
            target_task="task 2",
            labels=["y"],
        )


def test_a_file_that_changes_under_the_run_is_noticed(tmp_path, everything_on_disk):
    path = tmp_path / "a.npz"
    np.savez(path, **columns())
    stored = open_npz(path)["x"]
    os.utime(path, ns=(0, 0))
    with pytest.raises(amtl.TableError, match="was changed while it was used"):
        stored[np.arange(3)]
    stored = open_npz(path)["x"]
    os.truncate(path, 1000)
    with pytest.raises(amtl.TableError, match="was changed while it was used"):
        stored[np.arange(3)]


def test_a_flipped_bit_is_noticed(tmp_path, everything_on_disk):
    arrays = columns()
    np.savez(tmp_path / "a.npz", **arrays)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(arrays["x"].tobytes()) + 999] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(amtl.TableError, match="Bad CRC-32"):
        open_npz(tmp_path / "a.npz")


def test_a_pickle_and_sizes_that_lie_are_refused(tmp_path, everything_on_disk):
    np.savez(tmp_path / "a.npz", x=np.array([[None, 1]], object))
    with pytest.raises(amtl.TableError, match="a pickle, which may run code"):
        open_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.ones((9, 9)), y=np.ones(9))
    data = (tmp_path / "b.npz").read_bytes()
    place = data.index(b"PK\x01\x02")  # the archive's list of contents: sizes of the first member
    for at, size in ((20, 2**20), (24, 2**20)):
        lying = bytearray(data)
        lying[place + at : place + at + 4] = size.to_bytes(4, "little")
        (tmp_path / "c.npz").write_bytes(lying)
        with pytest.raises(amtl.TableError):
            open_npz(tmp_path / "c.npz")


def test_rows_on_demand_are_checked_when_they_are_drawn(tmp_path, everything_on_disk):
    x = np.ones((20, 3))
    x[4] = np.nan
    np.savez(tmp_path / "a.npz", x=x)
    source = amtl.ArraySource({"a": open_npz(tmp_path / "a.npz")["x"]}, {"a": np.ones(20)})
    with pytest.raises(ValueError, match="NaN or Inf in inputs that were drawn"):
        source.draw(jax.random.key(0), np.array([20]))


def sparse_pool(path, num_tasks, rows_of_task, num_inputs):
    """An NPZ pool with a matrix of zeros, but for 20 rows a task, that takes next to no disk."""
    rng = np.random.default_rng(0)
    num_rows = num_tasks * rows_of_task
    own = rng.normal(size=(20, num_inputs)).astype("<f4").tobytes()
    gap = bytes(rows_of_task * num_inputs * 4 - len(own))
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, num_inputs)}
    np.lib.format.write_array_header_1_0(header, described)
    checksum = zlib.crc32(header.getvalue())
    for _ in range(num_tasks):
        checksum = zlib.crc32(gap, zlib.crc32(own, checksum))
    # A member written as empty first, then lengthened by hand: zipfile cannot leave holes.
    size = len(header.getvalue()) + num_rows * num_inputs * 4
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"")
        start = file.tell()
        member = archive.infolist()[0]
        member.CRC, member.file_size, member.compress_size = checksum, size, size
        file.write(header.getvalue())
        for _ in range(num_tasks):
            file.write(own)
            file.seek(len(gap), os.SEEK_CUR)
        archive.start_dir = file.tell()
        assert archive.start_dir == start + size
        for name, array in (
            ("task", np.repeat(np.arange(num_tasks), rows_of_task)),
            ("y", rng.normal(size=num_rows).astype(np.float32)),
        ):
            body = io.BytesIO()
            np.save(body, array)
            archive.writestr(f"{name}.npy", body.getvalue())
    return size


MEASURED = """
import sys
import jax, numpy as np
import amtl_jax as amtl
from amtl_jax.experiment.data_digest import data_digest

def peak():  # of this program alone: what getrusage says is at least the peak of who started it
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024

jax.block_until_ready(jax.random.key(0))
before = peak()
data_digest(amtl.TableConfig(sys.argv[1]))
table = amtl.read_table(sys.argv[1])
tasks = amtl.table_tasks(table, task_column="task", target_task="0", labels=["y"], test_share=0.01)
rows = tasks.source.draw(jax.random.key(0), np.full(len(tasks.source.names), 100))
assert np.isfinite(rows.x).all() and len(rows.x) == 1100
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_a_pool_of_a_gigabyte_needs_little_memory(tmp_path):
    size = sparse_pool(tmp_path / "pool.npz", 12, 30_000, 768)
    assert size > 1.1e9
    status = (tmp_path / "pool.npz").stat()
    assert status.st_blocks * 512 < 2e7, "the file system has no sparse files"
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "pool.npz")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert 0 < int(result.stdout) < 250  # megabytes
