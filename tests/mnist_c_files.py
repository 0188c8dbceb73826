"""A tiny MNIST-C that tests make: 16 corruptions of a few images that say which they are."""

import io

import numpy as np

from amtl_jax.data.corruptions import CORRUPTIONS

NUM_TRAIN, NUM_TEST = 40, 20


def tiny_images() -> dict:
    """Images `[N, 28, 28]` and digits `[N]` by part and corruption.

    The first pixels of an image hold its corruption, its row and its part; the row of its digit is
    bright, so that there is something to learn.
    """
    rng = np.random.default_rng(0)
    found = {}
    for part_index, (part, number) in enumerate((("train", NUM_TRAIN), ("test", NUM_TEST))):
        digits = rng.permutation(np.arange(number) % 10)
        found[part] = {}
        for index, name in enumerate(CORRUPTIONS):
            images = rng.integers(0, 60, (number, 28, 28), np.uint8)
            images[np.arange(number), 10 + digits] += 120
            images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = index, np.arange(number), part_index
            found[part][name] = images, digits
    return found


def write_archive(folder, *, with_channel=True, label_type=np.int64):
    """Writes it in the layout of the published archive; returns the folder."""
    for part, corruptions in tiny_images().items():
        for name, (images, digits) in corruptions.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            shaped = images[..., None] if with_channel else images
            np.save(folder / name / f"{part}_images.npy", shaped)
            np.save(folder / name / f"{part}_labels.npy", digits.astype(label_type))
    return folder


def write_prepared(data_dir):
    """Writes it by TensorFlow Datasets' own writer as array_record, without TensorFlow."""
    import tensorflow_datasets as tfds

    contents, version = tiny_images(), tfds.core.Version("1.0.0")
    with tfds.core.registered.skip_registration():

        class MnistCorrupted(tfds.core.GeneratorBasedBuilder):
            VERSION = version
            BUILDER_CONFIGS = [  # noqa: RUF012  as it wants them
                tfds.core.BuilderConfig(name=name, version=version) for name in CORRUPTIONS
            ]

            def _info(self):
                features = tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(28, 28, 1)),
                        "label": tfds.features.ClassLabel(num_classes=10),
                    }
                )
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {part: self._generate_examples(part) for part in ("train", "test")}

            def _generate_examples(self, part):
                images, digits = contents[part][self.builder_config.name]
                for row, (image, digit) in enumerate(zip(images, digits, strict=True)):
                    yield row, {"image": png(image), "label": int(digit)}

    for name in CORRUPTIONS:
        builder = MnistCorrupted(data_dir=data_dir, config=name, file_format="array_record")
        builder.download_and_prepare()
    return data_dir


def png(image) -> bytes:
    """Encodes an image; an array would be encoded by TensorFlow."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="png")
    return stream.getvalue()
