"""MNIST-C that TensorFlow Datasets prepared: read by its own code, without TensorFlow."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mnist_c_files import NUM_TEST, png, tiny_images, write_archive, write_prepared

from amtl_jax.data import mnist_c_tfds
from amtl_jax.data.columns import TableError
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.data.mnist_c import read_mnist_c
from amtl_jax.data.mnist_c_tfds import read_mnist_c_tfds

SIZES = {"num_source": 20, "num_pool": 10}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    for name in ("tensorflow_datasets", "array_record", "PIL"):
        pytest.importorskip(name, reason="needs pip install amtl-jax[tfds-read]")
    return write_prepared(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def copied(prepared, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(prepared, tmp_path / "data")


def test_rows_are_the_same_in_every_corruption_and_disjoint(prepared):
    tasks = read_mnist_c_tfds(prepared, **SIZES, split_seed=3)
    assert tasks.names == CORRUPTIONS
    source, target = (images[0][:, 0, 1] for images in (tasks.source_images, tasks.target_images))
    assert not set(source.tolist()) & set(target.tolist())
    digits = tiny_images()["train"]["fog"][1]
    for index in range(len(CORRUPTIONS)):
        for images, labels, rows in (
            (tasks.source_images[index], tasks.source_labels[index], source),
            (tasks.target_images[index], tasks.target_labels[index], target),
        ):
            np.testing.assert_array_equal(images[:, 0, 0], index)
            np.testing.assert_array_equal(images[:, 0, 1], rows)
            np.testing.assert_array_equal(images[:, 0, 2], 0)
            np.testing.assert_array_equal(labels, digits[rows])
    np.testing.assert_array_equal(np.bincount(tasks.source_labels[0]), [2] * 10)


def test_images_are_those_of_the_archive(prepared, tmp_path):
    """Prepared rows are shuffled, so all of them are compared, each known by its number."""
    sizes = {"num_source": 30, "num_pool": 10}
    ours = read_mnist_c_tfds(prepared, **sizes)
    theirs = read_mnist_c(write_archive(tmp_path), **sizes)

    def in_order(tasks, index):
        images = np.concatenate([tasks.source_images[index], tasks.target_images[index]])
        labels = np.concatenate([tasks.source_labels[index], tasks.target_labels[index]])
        test = tasks.test_images[index], tasks.test_labels[index]
        return [
            array[np.argsort(of[:, 0, 1])]
            for of, arrays in ((images, (images, labels)), (test[0], test))
            for array in arrays
        ]

    for index in range(len(CORRUPTIONS)):
        for one, other in zip(in_order(ours, index), in_order(theirs, index), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype == np.uint8


def test_the_split_is_that_of_the_prepared_order(prepared):
    every = read_mnist_c_tfds(prepared, num_source=40, num_pool=0, split_seed=1)
    some = read_mnist_c_tfds(prepared, **SIZES, split_seed=1)
    order = every.source_images[0][:, 0, 1]
    np.testing.assert_array_equal(some.source_images[0][:, 0, 1], order[:20])
    np.testing.assert_array_equal(some.target_images[0][:, 0, 1], order[20:30])


def test_tensorflow_is_not_imported(prepared):
    code = (
        "import sys\n"
        "from amtl_jax.data.mnist_c_tfds import read_mnist_c_tfds\n"
        f"tasks = read_mnist_c_tfds({str(prepared)!r}, num_source=20, num_pool=10)\n"
        "print(len(tasks.test_images[3]), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = (0, f"{NUM_TEST} False\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_the_newest_version_is_read(copied):
    folder = copied / "mnist_corrupted" / "fog"
    for version in ("1.0.10", "1.0.9", "2.0.0.incomplete"):
        shutil.copytree(folder / "1.0.0", folder / version)
    (folder / "3.0.0").mkdir()  # nothing is prepared in it
    assert mnist_c_tfds.prepared_folders(copied)["fog"] == folder / "1.0.10"


def test_what_is_not_prepared_comes_with_the_lines_that_prepare_it(tmp_path):
    with pytest.raises(TableError) as error:
        read_mnist_c_tfds(tmp_path)
    message = str(error.value)
    assert "mnist_corrupted has none of its corruptions; expected all 16" in message
    assert "pip install 'amtl-jax[tfds]'" in message
    _, _, lines = message.partition(": import ")
    compile(f"import {lines}", "the error", "exec")  # what is told can be pasted
    assert f"data_dir={str(tmp_path)!r}, file_format='array_record'" in lines
    for name in CORRUPTIONS[2:]:
        folder = tmp_path / "mnist_corrupted" / name / "1.0.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(TableError, match=r"mnist_corrupted lacks identity, shot_noise; expected"):
        read_mnist_c_tfds(tmp_path)


def info_of(data_dir):
    return data_dir / "mnist_corrupted" / "fog" / "1.0.0" / "dataset_info.json"


def records_of(data_dir, part="train"):
    return info_of(data_dir).with_name(f"mnist_corrupted-{part}.array_record-00000-of-00001")


def rewritten(data_dir, *, image=None, label=None):
    """Writes the training records anew, with one that is as given."""
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2

    images, digits = tiny_images()["train"]["fog"]
    writer = array_record_module.ArrayRecordWriter(str(records_of(data_dir)), "group_size:1")
    for row in range(len(images)):
        example = tf_example_pb2.Example()
        given = png(images[row]) if image is None or row else image
        example.features.feature["image"].bytes_list.value.append(given)
        value = int(digits[row]) if label is None or row else label
        example.features.feature["label"].int64_list.value.append(value)
        writer.write(example.SerializeToString())
    writer.close()


def test_another_format_is_refused(copied):
    path = info_of(copied)
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    message = r"fog/1\.0\.0 is prepared as tfrecord; expected array_record, .* Remove the folder\."
    with pytest.raises(TableError, match=message):
        read_mnist_c_tfds(copied, **SIZES)


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda path: path.write_bytes(b""), "fog/1.0.0, split train cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:70_000]), "cannot be read"),
        (lambda path: path.write_bytes(bytes(100_000)), "cannot be read"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_damaged_records_are_named(copied, harm, part):
    harm(records_of(copied))
    with pytest.raises(TableError) as error:
        read_mnist_c_tfds(copied, **SIZES)
    assert part in str(error.value)
    assert "remove the folder and prepare it again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda text: "{", "fog/1.0.0 cannot be read"),
        (lambda text: text.replace('"train"', '"valid"'), "split train cannot be read"),
        (lambda text: text.replace('"40"', '"50"'), "has 50 rows, but"),
        (lambda text: text.replace('"20"', '"25"'), "split test cannot be read"),
    ],
)
def test_a_description_that_is_wrong_is_named(copied, harm, part):
    path = info_of(copied)
    path.write_text(harm(path.read_text()))
    with pytest.raises(TableError) as error:
        read_mnist_c_tfds(copied, **SIZES)
    assert part in str(error.value)


def test_features_are_checked_before_their_classes_are_imported(copied, tmp_path, monkeypatch):
    (tmp_path / "harmful_module.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = info_of(copied).with_name("features.json")
    plain = json.loads(path.read_text())
    image = plain["featuresDict"]["features"]["image"]
    image["pythonClassName"] = "harmful_module.Image"
    path.write_text(json.dumps(plain))
    with pytest.raises(TableError, match="image and label of mnist_corrupted, got 'harmful_module"):
        read_mnist_c_tfds(copied, **SIZES)
    assert "harmful_module" not in sys.modules
    for text in ("[]", "", '{"featuresDict": {"features": {"text": {}}}}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(TableError, match=r"fog/1\.0\.0 cannot be read"):
            read_mnist_c_tfds(copied, **SIZES)


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (lambda: png(np.zeros((28, 27), np.uint8)), "28×28 pixels, got (27, 28) in mode L"),
        (lambda: png(np.zeros((28, 28, 3), np.uint8)), "got (28, 28) in mode RGB"),
        (lambda: png(np.zeros((6000, 6000), np.uint8)), "got (6000, 6000) in mode L"),
        (lambda: b"no image", "cannot identify image file"),
        (lambda: png(np.zeros((28, 28), np.uint8))[:-30], "cannot be read"),
    ],
)
def test_images_are_checked_before_they_are_unfolded(copied, image, part):
    rewritten(copied, image=image())
    with pytest.raises(TableError) as error:
        read_mnist_c_tfds(copied, num_source=30, num_pool=10)
    assert part in str(error.value)
    assert "split train cannot be read" in str(error.value)


def test_labels_are_checked(copied):
    rewritten(copied, label=11)
    with pytest.raises(TableError, match="must hold digits from 0 to 9, got 11 at index"):
        read_mnist_c_tfds(copied, num_source=30, num_pool=10)
    rewritten(copied)  # in another order than that of the other corruptions
    with pytest.raises(TableError, match="Expected the same digit at the same index"):
        read_mnist_c_tfds(copied, num_source=30, num_pool=10)


@pytest.mark.parametrize("name", ["tensorflow_datasets", "array_record", "PIL"])
def test_a_package_that_is_missing(copied, monkeypatch, name):
    for loaded in list(sys.modules):
        if loaded.partition(".")[0] == name:
            monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "amtl-jax\[tfds-read\]"'):
        read_mnist_c_tfds(copied)
