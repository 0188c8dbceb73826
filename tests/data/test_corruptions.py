"""Properties of the 16 corruptions that can be checked by hand, and MNIST-C itself.

`BATCH` is the batch of nearly every call, so each corruption is compiled once.
"""

import io
import math
import zipfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from amtl_jax.data import _filters, _overlays, corruptions
from amtl_jax.data.corruptions import CORRUPTIONS, corrupt

BATCH = 1000
KEY = jax.random.key(7)
FIXED = ("identity", "scale", "brightness", "stripe", "canny_edges")
RANDOM = tuple(name for name in CORRUPTIONS if name not in FIXED)
ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "mnist_c_regenerated.zip"

BLACK = np.zeros((28, 28), np.float32)
ROW, COL = np.mgrid[:28, :28].astype(np.float32)


def many(name, image, key=KEY):
    """Corrupts `BATCH` copies of one image."""
    return np.asarray(corrupt(name, key, np.tile(np.float32(image), (BATCH, 1, 1))))


def blob(row=13.5, col=13.5, tall=2.0, wide=2.0):
    """A Gaussian spot, far enough from the border for the moments to be exact."""
    return np.exp(-(((ROW - row) / tall) ** 2 + ((COL - col) / wide) ** 2) / 2)


def moments(images):
    """Centroids `[N, 2]` (row, column) and covariances `[N, 2, 2]` of ink."""
    mass = images.sum((1, 2))
    at = np.stack([ROW, COL])
    centre = np.einsum("nrc,arc->na", images, at) / mass[:, None]
    second = np.einsum("nrc,arc,brc->nab", images, at, at) / mass[:, None, None]
    return centre, second - centre[:, :, None] * centre[:, None, :]


def noise(seed=0):
    """Random images `[BATCH, 28, 28]` whose grey levels cover all of [0, 1]."""
    return np.random.default_rng(seed).random((BATCH, 28, 28), np.float32)


def test_names():
    assert CORRUPTIONS == (
        "identity",
        "shot_noise",
        "impulse_noise",
        "glass_blur",
        "motion_blur",
        "shear",
        "scale",
        "rotate",
        "brightness",
        "translate",
        "stripe",
        "fog",
        "spatter",
        "dotted_line",
        "zigzag",
        "canny_edges",
    )


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_protocol(name):
    images = noise()
    out = corrupt(name, KEY, images)
    chex.assert_shape(out, images.shape)
    chex.assert_type(out, jnp.float32)
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_array_equal(out, corrupt(name, KEY, jnp.asarray(images)))

    # An image's result depends on the key and its place, not on the rest of the batch.
    others = images[::-1].copy()
    others[5] = images[5]
    np.testing.assert_array_equal(corrupt(name, KEY, others)[5], out[5])

    again = corrupt(name, jax.random.key(8), images)
    same = np.asarray(jnp.all(out == again, (1, 2)))
    if name in FIXED:
        assert same.all()
    elif name in ("shear", "rotate"):
        assert 0.4 < same.mean() < 0.6  # one sign
    elif name == "translate":
        assert 0.2 < same.mean() < 0.3  # two signs
    else:
        assert same.mean() < 0.03


@pytest.mark.parametrize("name", ["shot_noise", "rotate", "translate", "dotted_line", "stripe"])
def test_batch_is_its_images_one_by_one(name):
    images = noise()
    out = corrupt(name, KEY, images)
    one = jax.jit(getattr(corruptions, name))
    for index in (0, 1, BATCH - 1):
        alone = one(jax.random.fold_in(KEY, index), images[index])
        np.testing.assert_allclose(out[index], np.clip(alone, 0, 1), atol=1e-6)


def test_compiles_once_per_batch_size(monkeypatch):
    traced = chex.assert_max_traces(lambda key, image: corruptions.impulse_noise(key, image), n=1)
    monkeypatch.setitem(corruptions._FUNCTIONS, "traced", traced)
    for seed in range(3):
        corrupt("traced", jax.random.key(seed), noise(seed))


@pytest.mark.parametrize("count", [0, 1, 251])
def test_any_batch_size(count):
    images = noise()[:count]
    np.testing.assert_allclose(corrupt("scale", KEY, images), many_scaled(images), atol=1e-6)


def many_scaled(images):
    """Shrinks by inverse bilinear interpolation, written out."""
    source = 13.5 + (np.arange(28) - 13.5) / 0.7
    low = np.floor(source).astype(int)
    share = source - low
    padded = np.pad(images, ((0, 0), (10, 10), (10, 10)))[:, :, 10:-10]
    rows = (1 - share)[:, None] * padded[:, low + 10] + share[:, None] * padded[:, low + 11]
    padded = np.pad(rows, ((0, 0), (0, 0), (10, 10)))
    return (1 - share) * padded[:, :, low + 10] + share * padded[:, :, low + 11]


def test_rejects_wrong_arguments():
    images = noise()[:2]
    with pytest.raises(ValueError, match=r"unknown corruption 'snow'; expected one of identity, s"):
        corrupt("snow", KEY, images)
    with pytest.raises(ValueError, match=r"shape \[N, 28, 28\], got \[2, 784\]"):
        corrupt("fog", KEY, images.reshape(2, -1))
    with pytest.raises(ValueError, match=r"float32 in \[0, 1\], got uint8"):
        corrupt("fog", KEY, images.astype(np.uint8))
    with pytest.raises(ValueError, match="one typed key"):
        corrupt("fog", jax.random.PRNGKey(0), images)
    with pytest.raises(ValueError, match="one typed key"):
        corrupt("fog", jax.random.split(KEY), images)


def test_identity_and_brightness_and_stripe():
    images = noise()
    np.testing.assert_array_equal(corrupt("identity", KEY, images), images)
    brighter = np.minimum(images + np.float32(0.5), 1)
    np.testing.assert_array_equal(corrupt("brightness", KEY, images), brighter)
    striped = np.asarray(corrupt("stripe", KEY, images))
    np.testing.assert_array_equal(striped[:, :, 7:21], images[:, :, 7:21])
    for outer in (np.s_[:, :, :7], np.s_[:, :, 21:]):
        np.testing.assert_array_equal(striped[outer], 1 - images[outer])


@pytest.mark.parametrize(
    ("grey", "expected"),
    [  # Poisson(3x): e^-.6 · (1, .6, .18) and the rest; e^-3 · (1, 3, 4.5) and the rest
        (0.2, (0.5488, 0.3293, 0.0988, 0.0231)),
        (1.0, (0.0498, 0.1494, 0.2240, 0.5768)),
        (0.0, (1.0, 0.0, 0.0, 0.0)),
    ],
)
def test_shot_noise_has_poisson_counts(grey, expected):
    counts = np.rint(3 * many("shot_noise", BLACK + grey)).astype(int)
    share = np.bincount(counts.ravel(), minlength=4) / counts.size
    np.testing.assert_allclose(share, expected, atol=0.002)


def test_shot_noise_keeps_the_mean_of_dark_pixels():
    assert many("shot_noise", BLACK + 0.1).mean() == pytest.approx(0.1, rel=0.01)


def test_impulse_noise_replaces_17_percent():
    out = many("impulse_noise", BLACK + 0.5)
    assert (out != 0.5).mean() == pytest.approx(0.17, abs=0.002)
    assert (out == 1).mean() == pytest.approx(0.085, abs=0.002)
    assert (out == 0).mean() == pytest.approx(0.085, abs=0.002)


def test_glass_blur_leaves_the_first_row_and_column_to_the_blur():
    image = BLACK.copy()
    image[10, 0] = 1
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 0.7) ** 2)
    kernel /= kernel.sum()
    column = np.floor(255 * np.convolve(image[:, 0], kernel, "same"))
    column = np.convolve(column, kernel, "same") / 255
    out = many("glass_blur", image)
    np.testing.assert_allclose(out[:, :, 0], np.tile(column, (BATCH, 1)), atol=1e-6)
    assert not out[:, :, 1:].any()


def test_glass_blur_moves_ink_without_losing_it():
    image = np.rint(255 * blob(tall=3, wide=3)) / 255
    out = many("glass_blur", image)
    centre, covariance = moments(out)
    before, spread = moments(image[None])
    np.testing.assert_allclose(out.sum((1, 2)), image.sum(), rtol=0.02)
    np.testing.assert_allclose(centre.mean(0), before[0], atol=0.02)
    growth = covariance.mean(0) - spread[0]
    # Swaps spread both ways alike; the two blurs of σ = .7 add .98 to the vertical variance.
    assert growth[0, 0] - growth[1, 1] == pytest.approx(0.98, abs=0.05)
    assert growth[1, 1] > 0.3


def test_motion_blur_trails_to_the_left_within_45_degrees():
    image = blob(col=17, tall=1.5, wide=1.5)
    out = many("motion_blur", image)
    np.testing.assert_allclose(out.sum((1, 2)), image.sum(), rtol=0.01)
    weights = np.exp(-0.5 * (np.arange(21) / 3) ** 2)
    shift = moments(out)[0] - moments(image[None])[0]
    length = np.hypot(*shift.T)
    # Taps fall on whole pixels, so the length varies a little with the angle.
    np.testing.assert_allclose(length, np.arange(21) @ weights / weights.sum(), rtol=0.1)
    angle = np.arctan2(shift[:, 0], -shift[:, 1])
    quarters = np.histogram(angle, np.linspace(-math.pi / 4, math.pi / 4, 5))[0]
    assert (np.abs(quarters / BATCH - 0.25) < 0.06).all()


@pytest.mark.parametrize("name", ["shear", "rotate"])
def test_tilts_about_the_centre(name):
    image = blob(tall=4, wide=1.5)
    out = many(name, image)
    centre, covariance = moments(out)
    np.testing.assert_allclose(centre, 13.5, atol=0.01)
    if name == "shear":  # columns move by sin(.4) of the row, rows stretch by 1 / cos(.4)
        tilt = covariance[:, 0, 1] / covariance[:, 0, 0]
        np.testing.assert_allclose(np.abs(tilt), math.sin(0.4), rtol=0.05)
        stretch = np.sqrt(covariance[:, 0, 0] / moments(image[None])[1][0, 0, 0])
        np.testing.assert_allclose(stretch, 1 / math.cos(0.4), rtol=0.02)
    else:
        difference = covariance[:, 0, 0] - covariance[:, 1, 1]
        tilt = np.arctan2(2 * covariance[:, 0, 1], difference) / 2
        np.testing.assert_allclose(np.abs(tilt), 0.4, rtol=0.01)
    assert 0.45 < (tilt > 0).mean() < 0.55


def test_scale_shrinks_the_bounding_box():
    image = np.zeros((1, 28, 28), np.float32)
    image[:, 4:24, 8:20] = 1  # 20 × 12, centred
    out = np.asarray(corrupt("scale", KEY, image))[0]
    rows, cols = np.flatnonzero(out.max(1) > 0.5), np.flatnonzero(out.max(0) > 0.5)
    assert (rows[0], rows[-1]) == (7, 20)  # 14 rows
    assert (cols[0], cols[-1]) == (10, 17)  # 8.4 columns
    assert out.sum() == pytest.approx(0.7**2 * 240, rel=0.04)


def test_translate_moves_the_centroid_by_three():
    image = np.pad(noise()[0, :10, :10], 9)
    shift = moments(many("translate", image))[0] - moments(image[None])[0]
    np.testing.assert_allclose(np.abs(shift), 3, atol=1e-4)
    for down in (-1, 1):
        for right in (-1, 1):
            share = ((np.sign(shift) == (down, right)).all(1)).mean()
            assert share == pytest.approx(0.25, abs=0.05)


def test_fog_adds_one_cloud_whatever_the_image():
    light, dark = noise(1), noise(2)
    light[:, 0, 0], dark[:, 0, 0] = 1, 1
    cloud = np.asarray(corrupt("fog", KEY, light)) - light / 4
    np.testing.assert_allclose(np.asarray(corrupt("fog", KEY, dark)) - dark / 4, cloud, atol=1e-6)
    assert -1e-6 <= cloud.min() <= cloud.max() <= 0.75 + 1e-6
    assert not many("fog", BLACK).any()  # the rescaling is by the image's own maximum


def test_plasma_fractal_is_diamond_square_with_decay_1_4_squared():
    cloud = np.asarray(jax.jit(_overlays.plasma_fractal)(KEY))
    assert cloud.shape == (256, 256)
    assert (cloud.min(), cloud.max()) == (0, 1)

    def wibbles(step):  # centres against corners, edges against both; the map is periodic
        grid = cloud[::step, ::step]
        corner, top = grid[::2, ::2], grid[::2, 1::2]
        left, centre = grid[1::2, ::2], grid[1::2, 1::2]
        below, right = np.roll(corner, -1, 0), np.roll(corner, -1, 1)
        return np.stack(
            [
                centre - (corner + below + right + np.roll(below, -1, 1)) / 4,
                top - (corner + right + centre + np.roll(centre, 1, 0)) / 4,
                left - (corner + below + centre + np.roll(centre, 1, 1)) / 4,
            ]
        )

    fine, middle, coarse = wibbles(1), wibbles(2), wibbles(4)
    assert np.abs(middle).max() / np.abs(fine).max() == pytest.approx(1.96, rel=0.01)
    assert np.abs(coarse).max() / np.abs(middle).max() == pytest.approx(1.96, rel=0.01)
    # Uniform in (−a, a), in each of the three places: variance a² / 3 and mean 0.
    np.testing.assert_allclose(fine.var((1, 2)), np.abs(fine).max() ** 2 / 3, rtol=0.03)
    np.testing.assert_allclose(fine.mean((1, 2)), 0, atol=0.02 * np.abs(fine).max())


def test_spatter_covers_with_dark_grey():
    mud = many("spatter", BLACK)
    covered = mud[mud > 0]
    assert covered.min() >= 0.8 * 63 / 255 - 1e-6
    assert covered.max() <= 63 / 255 + 1e-6
    # The same key covers the same pixels of a white image: 1 − m + 63/255 m.
    np.testing.assert_allclose(many("spatter", BLACK + 1), 1 - mud * (255 / 63 - 1), atol=1e-5)


def line(col_start, row_start, col_end, row_end):
    """The published profile of a line, written out."""
    slope = (row_end - row_start) / (col_end - col_start)
    distance = np.abs(ROW - (slope * (COL - col_start) + row_start))
    with np.errstate(divide="ignore"):
        ink = np.clip(1 + np.log(1 - np.minimum(distance, 2.3) / 2.3), 0, 1)
    return ink * (math.floor(col_start) <= COL) * (math.ceil(col_end) > COL)


def zigzag_oracle(start, rise):
    """The published zigzag, vertex by vertex."""
    angle = math.atan(rise / 23)
    length = 23 / math.cos(angle)
    vertices = [(0, 0), (2, 2), (6, -2), (10, 2), (14, -2), (18, 2), (22, -2)]
    vertices.append((length, -2 / (2 * (length - 20))))
    along, across = np.array(vertices).T
    cols = 2 + math.cos(angle) * along - math.sin(angle) * across
    rows = start + math.sin(angle) * along + math.cos(angle) * across
    segments = zip(cols[:-1], rows[:-1], cols[1:], rows[1:])
    return np.minimum(sum(line(*segment) for segment in segments), 1)


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_drawing_is_one_of_the_published_ones(name):
    if name == "zigzag":
        allowed = [zigzag_oracle(start, rise) for start in range(27) for rise in range(-5, 5)]
    else:
        dots = COL // 2 % 2 == 1
        allowed = [dots * line(0, start, 27, end) for start in range(27) for end in range(27)]
    allowed = np.reshape(allowed, (len(allowed), -1))
    out = many(name, BLACK).reshape(BATCH, -1)
    square = (out**2).sum(1)[:, None] + (allowed**2).sum(1) - 2 * out @ allowed.T
    chosen = square.argmin(1)
    np.testing.assert_allclose(out, allowed[chosen], atol=1e-4)
    # Drawn uniformly: 1000 draws from n leave n·(1 − 1/n)^1000 of them out.
    missing = (1 - 1 / len(allowed)) ** BATCH
    seen = len(np.unique(chosen)) / len(allowed)
    assert seen == pytest.approx(1 - missing, abs=0.05)


@pytest.mark.parametrize("name", ["dotted_line", "zigzag"])
def test_drawing_only_adds_ink(name):
    images = noise()
    assert (np.asarray(corrupt(name, KEY, images)) >= images).all()


def test_canny_edges_finds_the_outline_of_a_square():
    images = np.zeros((BATCH, 28, 28), np.float32)
    images[:, 8:20, 8:20] = 1
    edges = np.asarray(corrupt("canny_edges", KEY, images))[0]
    assert set(np.unique(edges)) == {0, 1}
    # The step lies between two pixels; which of them is the ridge is up to rounding.
    outline = np.zeros((28, 28), bool)
    outline[7:21, 7:21] = True
    outline[9:19, 9:19] = False
    assert not edges[~outline].any()
    for side in (edges[7:9], edges[19:21], edges[:, 7:9].T, edges[:, 19:21].T):
        assert side.max(0)[9:19].all()


def test_canny_edges_has_the_published_high_threshold():
    # A step of height h has a smoothed gradient of 2.564h; .2 / 2.564 = .0780.
    images = np.zeros((BATCH, 28, 28), np.float32)
    images[0, :, 14:], images[1, :, 14:] = 0.0775, 0.0785
    edges = np.asarray(corrupt("canny_edges", KEY, images))
    assert not edges[0].any()
    assert edges[1, 1:27, 13:15].max(1).all()


def test_canny_edges_keeps_what_is_connected_to_strong_edges():
    rng = np.random.default_rng(0)
    weak = rng.random((50, 28, 28)) < 0.4  # close to percolation: long winding paths
    strong = weak & (rng.random(weak.shape) < 0.01)
    kept = np.asarray(jax.jit(jax.vmap(_filters._connected))(strong, weak))
    for index in range(50):
        parts, _ = scipy.ndimage.label(weak[index], np.ones((3, 3)))
        expected = np.isin(parts, np.unique(parts[strong[index]]))
        np.testing.assert_array_equal(kept[index], expected)


@pytest.fixture(scope="module")
def archive():
    """Reads `BATCH` test images of one corruption of regenerated MNIST-C, `[BATCH, 28, 28]`."""
    if not ARCHIVE.exists():
        pytest.skip(f"{ARCHIVE.name} is not in {ARCHIVE.parent}")
    with zipfile.ZipFile(ARCHIVE) as members:

        def read(name):
            data = io.BytesIO(members.read(f"mnist_c/{name}/test_images.npy"))
            return np.load(data)[:BATCH, :, :, 0] / np.float32(255)

        yield read


@pytest.mark.parametrize("name", FIXED)
def test_fixed_corruptions_match_mnist_c_pixel_by_pixel(archive, name):
    out = np.asarray(corrupt(name, KEY, archive("identity")))
    assert np.abs(out - archive(name)).max() < 0.51 / 255


@pytest.mark.parametrize("name", ["shear", "rotate", "translate"])
def test_signed_corruptions_match_mnist_c_for_some_sign(archive, name):
    images, expected = archive("identity"), archive(name)
    gap = [
        np.abs(np.asarray(corrupt(name, jax.random.key(seed), images)) - expected).max((1, 2))
        for seed in range(32)
    ]
    found = np.min(gap, 0) < 0.51 / 255
    # A pair of signs is missed by 32 draws with probability (3/4)^32.
    assert found.mean() > 0.995


def test_motion_blur_matches_mnist_c_for_some_angle(archive):
    images, expected = archive("identity")[:24], archive("motion_blur")[:24]
    angles = np.linspace(-math.pi / 4, math.pi / 4, 241, dtype=np.float32)
    smear = jax.jit(jax.vmap(jax.vmap(_filters.smear, (None, 0)), (0, None)))
    out = np.asarray(smear(images, angles))  # [24, 241, 28, 28]
    gap = np.abs(out - expected[:, None]).mean((2, 3)).min(1)
    # The archive rounded down, which costs half a grey level where there is ink.
    assert gap.max() < 0.5 / 255


def statistics(images, clean):
    """What differs between corruptions, one number per image, `[7, N]`."""
    background, stroke = clean == 0, clean > 0.8
    centred = images - images.mean((1, 2), keepdims=True)
    reference = clean - clean.mean((1, 2), keepdims=True)
    return np.stack(
        [
            (images * background).sum((1, 2)) / background.sum((1, 2)),
            (images * stroke).sum((1, 2)) / stroke.sum((1, 2)),
            images.std((1, 2)),
            (images > 0.5).mean((1, 2)),
            np.abs(np.diff(images, axis=1)).mean((1, 2)),
            np.abs(np.diff(images, axis=2)).mean((1, 2)),
            (centred * reference).sum((1, 2))
            / np.sqrt((centred**2).sum((1, 2)) * (reference**2).sum((1, 2))),
        ]
    )


@pytest.mark.parametrize("name", RANDOM)
def test_random_corruptions_match_mnist_c_in_distribution(archive, name):
    clean, expected = archive("identity"), archive(name)
    out = np.asarray(corrupt(name, KEY, clean))
    # The archive holds whole grey levels, of motion blur rounded down.
    out = (np.floor if name == "motion_blur" else np.rint)(out * 255) / np.float32(255)
    # The same digits on both sides, so the paired differences are what chance has to explain.
    difference = statistics(out, clean) - statistics(expected, clean)
    error = difference.std(1) / math.sqrt(BATCH)
    assert (np.abs(difference.mean(1)) <= 4 * error).all(), difference.mean(1) / error
    # The same for the mean images: a digit or a line in the wrong place shows in them only.
    gap = out - expected
    chance = gap.var(0).mean() / BATCH
    assert (gap.mean(0) ** 2).mean() < 2.5 * chance
