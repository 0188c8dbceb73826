"""MNIST-C from files: what is read, what is not, and what strangers' files are refused with."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mnist_c_files import NUM_TEST, NUM_TRAIN, tiny_images, write_archive

from amtl_jax.data import mnist_c
from amtl_jax.data.columns import TableError
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.digits import digit_splits
from amtl_jax.data.mnist_c import read_mnist_c
from amtl_jax.data.npz import map_npy

SIZES = {"num_source": 20, "num_pool": 10}
REAL = Path(__file__).parents[3] / "shared" / "data" / "mnist_c_regenerated.zip"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def copied(archive, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(archive, tmp_path / "mnist_c")


def assert_same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_equal(ours, theirs)


def test_rows_are_the_same_in_every_corruption_and_disjoint(archive):
    tasks = read_mnist_c(archive, **SIZES, split_seed=3)
    assert tasks.names == CORRUPTIONS
    assert tasks.num_classes == 10
    digits = tiny_images()["train"]["fog"][1]
    split = digit_splits(digits, seed=3, num_source=20, num_target=10, num_test=0)
    parts = (
        (tasks.source_images, tasks.source_labels, split.source),
        (tasks.target_images, tasks.target_labels, split.target),
    )
    for images, labels, rows in parts:
        assert {one.dtype for one in images} == {np.dtype(np.uint8)}
        for index, (own, own_labels) in enumerate(zip(images, labels, strict=True)):
            np.testing.assert_array_equal(own[:, 0, 0], index)  # of this corruption,
            np.testing.assert_array_equal(own[:, 0, 1], rows)  # in these rows,
            np.testing.assert_array_equal(own[:, 0, 2], 0)  # for training
            np.testing.assert_array_equal(own_labels, digits[rows])
    assert not set(split.source) & set(split.target)
    np.testing.assert_array_equal(np.bincount(tasks.source_labels[0]), [2] * 10)
    np.testing.assert_array_equal(np.bincount(tasks.target_labels[0]), [1] * 10)


def test_images_and_labels_are_those_of_the_files(archive):
    tasks, contents = read_mnist_c(archive, **SIZES), tiny_images()
    for index, name in enumerate(CORRUPTIONS):
        images, _ = contents["train"][name]
        own = tasks.source_images[index]
        np.testing.assert_array_equal(own, images[own[:, 0, 1]])
        np.testing.assert_array_equal(tasks.test_images[index], contents["test"][name][0])
        np.testing.assert_array_equal(tasks.test_labels[index], contents["test"][name][1])
        assert tasks.test_labels[index].dtype == np.uint8


def test_a_seed_is_a_split(archive):
    first = read_mnist_c(archive, **SIZES, split_seed=1)
    assert_same(first, read_mnist_c(archive, **SIZES, split_seed=1))
    other = read_mnist_c(archive, **SIZES, split_seed=2)
    assert (first.source_images[0] != other.source_images[0]).any()
    assert_same(first.test_images, other.test_images)


@pytest.mark.parametrize(
    ("with_channel", "label_type"),
    [(False, np.uint8), (True, ">i4"), (False, np.int16), (True, np.uint64)],
)
def test_other_layouts_of_the_same(archive, tmp_path, with_channel, label_type):
    write_archive(tmp_path, with_channel=with_channel, label_type=label_type)
    assert_same(read_mnist_c(tmp_path, **SIZES), read_mnist_c(str(archive), **SIZES))


def test_columns_first_are_the_same_numbers(archive, copied):
    path = copied / "fog" / "train_images.npy"
    np.save(path, np.asfortranarray(np.load(path)))
    assert_same(read_mnist_c(copied, **SIZES), read_mnist_c(archive, **SIZES))


def test_the_folder_around_the_folder(archive, copied):
    (copied.parent / "readme.txt").write_text("beside it")
    assert_same(read_mnist_c(copied.parent, **SIZES), read_mnist_c(archive, **SIZES))


def test_only_the_chosen_rows_are_read(archive, monkeypatch):
    looked_at = {}

    class Watched:
        """A mapped file that keeps what was read of it."""

        def __init__(self, path):
            self.array = map_npy(path)
            assert isinstance(self.array, np.memmap)
            assert not self.array.flags.writeable
            self.shape, self.dtype = self.array.shape, self.array.dtype
            self.rows = looked_at.setdefault((path.parent.name, path.name), set())

        def __len__(self):
            return len(self.array)

        def __getitem__(self, rows):
            self.rows.update(rows.tolist())
            return self.array[rows]

    def watched(path):
        return Watched(path) if path.name.endswith("images.npy") else map_npy(path)

    monkeypatch.setattr(mnist_c, "map_npy", watched)
    tasks = read_mnist_c(archive, **SIZES)
    chosen = {*tasks.source_images[0][:, 0, 1].tolist(), *tasks.target_images[0][:, 0, 1].tolist()}
    assert len(chosen) == 30 < NUM_TRAIN
    for name in CORRUPTIONS:
        assert looked_at[name, "train_images.npy"] == chosen
        assert looked_at[name, "test_images.npy"] == set(range(NUM_TEST))
    # What comes out is of its own, whatever becomes of the files.
    assert not any(isinstance(images, np.memmap) for images in tasks.source_images)


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def declared(shape, data=b""):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


class Harm:
    """What a pickle does when it is loaded."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def zipped():
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros(3, np.uint8))
    return stream.getvalue()


IMAGES = np.zeros((NUM_TRAIN, 28, 28, 1), np.uint8)
WHOLE = saved(IMAGES)
DIGITS = tiny_images()["train"]["fog"][1]


@pytest.mark.parametrize(
    ("what", "content", "parts"),
    [
        ("images", b"", ["is no NPY data: refused"]),
        ("images", b"\x80\x04K\x01.", ["is a pickle: refused"]),
        ("images", pickle.dumps(Harm()), ["is a pickle: refused"]),
        ("images", zipped(), ["is no NPY data: refused"]),
        (
            "images",
            saved(np.array([Harm()], object), allow_pickle=True),
            ["Python objects, a pi"],
        ),
        ("images", WHOLE[:-1], ["is cut short", "31,360 bytes, but 31,359 are there"]),
        ("images", WHOLE[:50], ["damaged header"]),
        ("images", WHOLE + b"!", ["has bytes left over"]),
        ("images", declared("(60000, 28, 28, 1)", b"x" * 99), ["47,040,000 bytes, but 99 are"]),
        ("images", declared(f"({10**18}, 28, 28, 1)"), ["is cut short: its header declares shape"]),
        ("images", declared(f"({10**30}, 28, 28, 1)"), ["is cut short: its header declares shape"]),
        ("images", declared("(-40, -28, 28, 1)"), ["impossible shape"]),
        (
            "images",
            declared("(0, 28, 28, 1)"),
            ["must hold numbers, got uint8 of the shape (0,"],
        ),
        ("images", declared("__import__('os').getcwd()"), ["damaged header"]),
        ("images", saved(IMAGES.astype(float)), ["must hold uint8 images", "got float64"]),
        ("images", saved(IMAGES.astype(str)), ["must hold numbers, got <U"]),
        ("images", saved(IMAGES[:, :27]), ["(N, 28, 28)", "shape (40, 27, 28, 1)"]),
        ("images", saved(IMAGES.reshape(40, 784)), ["(N, 28, 28)", "shape (40, 784)"]),
        ("images", saved(np.zeros((40, 28, 28, 3), np.uint8)), ["shape (40, 28, 28, 3)"]),
        ("images", saved(np.uint8(3)), ["shape ()"]),
        ("images", saved(IMAGES[:30]), ["has 40 labels, but train_images.npy beside it has 30"]),
        ("labels", saved(DIGITS[:30]), ["has 30 labels, but train_images.npy beside it has 40"]),
        ("labels", saved(DIGITS[:, None]), ["one integer for each image, shape (N,)", "(40, 1)"]),
        ("labels", saved(DIGITS / 1), ["one integer for each image", "got float64"]),
        ("labels", saved(DIGITS > 3), ["one integer for each image", "got bool"]),
        ("labels", saved(np.where(DIGITS == 3, 10, DIGITS)), ["digits from 0 to 9, got 10 at in"]),
        ("labels", saved(DIGITS - 1), ["digits from 0 to 9, got -1 at index"]),
        ("labels", saved(np.where(DIGITS == 3, 2**63, DIGITS.astype("u8"))), ["got 922337203685"]),
        ("labels", saved(DIGITS)[:-9], ["is cut short"]),
    ],
)
def test_a_bad_file_is_named_with_what_was_expected(copied, what, content, parts):
    path = copied / "fog" / f"train_{what}.npy"
    path.write_bytes(content)
    with pytest.raises(TableError) as error:
        read_mnist_c(copied, **SIZES)
    message = str(error.value)
    assert "\n" not in message
    assert str(path.parent) in message
    assert len(message) < len(str(path)) + 400
    for part in parts:
        assert part in message


def test_test_files_are_checked_like_the_others(copied):
    np.save(copied / "scale" / "test_labels.npy", np.arange(NUM_TEST) % 9)
    with pytest.raises(TableError, match=r"scale/test_labels\.npy has no image of the digit 9, an"):
        read_mnist_c(copied, **SIZES)
    np.save(copied / "scale" / "test_images.npy", IMAGES.astype(np.int16))
    with pytest.raises(TableError, match=r"scale/test_images\.npy must hold uint8 images"):
        read_mnist_c(copied, **SIZES)


def test_labels_that_differ_between_corruptions_would_leak(copied):
    path = copied / "zigzag" / "train_labels.npy"
    np.save(path, DIGITS[::-1])
    message = (
        r"zigzag/train_labels\.npy has the digit \d at index \d+, where .*identity/train_labels"
        r"\.npy has \d\. Expected the same digit at the same index in every corruption.*source"
        r" sample in one corruption and a target sample in another"
    )
    with pytest.raises(TableError, match=message):
        read_mnist_c(copied, **SIZES)
    np.save(path, DIGITS[:30])
    np.save(copied / "zigzag" / "train_images.npy", IMAGES[:30])
    with pytest.raises(TableError, match=r"zigzag/.* has 30 rows, but .*identity/.* has 40\. Exp"):
        read_mnist_c(copied, **SIZES)


def test_a_digit_that_is_missing_everywhere(copied):
    for name in CORRUPTIONS:
        np.save(copied / name / "train_labels.npy", np.where(DIGITS == 7, 1, DIGITS))
    with pytest.raises(TableError, match=r"identity/train_labels\.npy has no image of the digit 7"):
        read_mnist_c(copied, **SIZES)


def test_training_images_are_tested_on_where_a_number_is_given(archive):
    usual = read_mnist_c(archive, num_source=20, num_pool=10, split_seed=3)
    tasks = read_mnist_c(archive, num_source=20, num_pool=10, num_test=10, split_seed=3)
    assert_same(
        usual._replace(test_images=0, test_labels=0), tasks._replace(test_images=0, test_labels=0)
    )
    digits = tiny_images()["train"]["fog"][1]
    rows = digit_splits(digits, seed=3, num_source=20, num_target=10, num_test=10).test
    assert len(rows) == 10
    for index, (images, labels) in enumerate(
        zip(tasks.test_images, tasks.test_labels, strict=True)
    ):
        np.testing.assert_array_equal(images[:, 0, 0], index)
        np.testing.assert_array_equal(images[:, 0, 1], rows)
        np.testing.assert_array_equal(images[:, 0, 2], 0)  # for training
        np.testing.assert_array_equal(labels, digits[rows])
    seen = {*tasks.source_images[0][:, 0, 1], *tasks.target_images[0][:, 0, 1]}
    assert not seen & set(rows)


def test_training_images_to_test_on_that_are_too_few_or_too_many(archive):
    with pytest.raises(
        TableError, match="num_source 20 and num_pool 10 and num_test 11, which are"
    ):
        read_mnist_c(archive, **SIZES, num_test=11)
    with pytest.raises(
        TableError, match=r"num_test 9 of .*npy has no image of the digit [0-9], and"
    ):
        read_mnist_c(archive, **SIZES, num_test=9)
    with pytest.raises(ValueError, match="num_test must be non-negative, got -1"):
        read_mnist_c(archive, **SIZES, num_test=-1)


def test_too_many_rows_are_wanted(archive):
    message = r"has 40 rows, but num_source 31 and num_pool 10, which are disjoint, need 41\. Lower"
    with pytest.raises(TableError, match=message):
        read_mnist_c(archive, num_source=31, num_pool=10)
    with pytest.raises(TableError, match="num_source 10,000 and num_pool 2,000"):
        read_mnist_c(archive)
    with pytest.raises(ValueError, match="num_target must be non-negative, got -1"):
        read_mnist_c(archive, num_source=20, num_pool=-1)
    every = read_mnist_c(archive, num_source=30, num_pool=10)
    assert len(every.source_images[0]) + len(every.target_images[0]) == NUM_TRAIN


def test_what_is_missing_is_named(copied, tmp_path):
    with pytest.raises(TableError, match=r"nothing does not exist; expected a folder with MNIST-C"):
        read_mnist_c(tmp_path / "nothing")
    (tmp_path / "mnist_c.zip").write_bytes(b"PK")
    with pytest.raises(TableError, match=r"mnist_c\.zip is a file: unpack it, and give the folder"):
        read_mnist_c(tmp_path / "mnist_c.zip")
    (copied / "fog" / "test_labels.npy").unlink()
    (copied / "scale" / "train_images.npy").unlink()
    with pytest.raises(
        TableError, match=r"has no file scale/train_images\.npy, fog/test_labels\.npy; expected"
    ):
        read_mnist_c(copied)
    shutil.rmtree(copied / "stripe")
    shutil.rmtree(copied / "fog")
    with pytest.raises(TableError, match="has no folder stripe, fog; expected all 16 corruptions"):
        read_mnist_c(copied)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"empty has no folder identity, .*canny_edges"):
        read_mnist_c(tmp_path / "empty")


def test_a_folder_in_place_of_a_file(copied):
    path = copied / "fog" / "train_images.npy"
    path.unlink()
    path.mkdir()
    with pytest.raises(TableError, match=r"has no file fog/train_images\.npy"):
        read_mnist_c(copied)


def test_regenerated_mnist_c(tmp_path):
    if not REAL.is_file():
        pytest.skip("needs shared/data/mnist_c_regenerated.zip beside the repository")
    with zipfile.ZipFile(REAL) as archive:
        archive.extractall(tmp_path)
    tasks = read_mnist_c(tmp_path)
    assert {images.shape for images in tasks.source_images} == {(10_000, 28, 28)}
    assert {images.shape for images in tasks.target_images} == {(2_000, 28, 28)}
    plain = tasks.source_images[CORRUPTIONS.index("identity")]
    assert 0.12 < plain.mean() / 255 < 0.14
    seen = {image.tobytes() for image in plain}
    target = tasks.target_images[CORRUPTIONS.index("identity")]
    assert not any(image.tobytes() in seen for image in target)
    # Every stretch of the rows has all digits in their proportion.
    counts = np.bincount(tasks.source_labels[0][:1000], minlength=10)
    whole = np.bincount(tasks.source_labels[0], minlength=10)
    assert np.abs(counts - whole / 10).max() <= 2
    # Nearest class means of a corruption tell its test digits as they tell those of MNIST.
    index = CORRUPTIONS.index("identity")
    flat = plain.reshape(10_000, -1).astype(np.float32)
    means = np.stack([flat[tasks.source_labels[index] == digit].mean(0) for digit in range(10)])
    test = tasks.test_images[index].reshape(2_000, -1).astype(np.float32)
    found = ((means**2).sum(1) - 2 * test @ means.T).argmin(1)
    assert (found == tasks.test_labels[index]).mean() > 0.7
