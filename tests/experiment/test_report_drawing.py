"""The pieces of a page: axes, colours, images, the order of a matrix, and text that is escaped."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.markers import MarkerStyle
from scipy.cluster.hierarchy import average, cophenet, leaves_list
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from amtl_jax.experiment.page import colours, paper_charts
from amtl_jax.experiment.page.cluster import distances, order_of
from amtl_jax.experiment.page.heatmap import Shade
from amtl_jax.experiment.page.markup import Html, element, escape, shortened
from amtl_jax.experiment.page.matrix import pixels_of
from amtl_jax.experiment.page.numbers import minus, unit_of, value_text
from amtl_jax.experiment.page.png import image_png, palette_png
from amtl_jax.experiment.page.scales import Scale, apart, log_ticks, ticks
from amtl_jax.experiment.page.scatter import rank_correlation


def test_ticks_are_round_and_inside():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.0031, 0.0012, 5) == [-0.003, -0.002, -0.001, 0, 0.001]
    assert log_ticks(4500, 121_875) == [5000, 10_000, 20_000, 50_000, 100_000]
    assert log_ticks(1, 1e9, 6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
    assert log_ticks(11, 19) == [12, 14, 16, 18]


@settings(deadline=None)
@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-6, 1e9),
    st.integers(2, 8),
)
def test_ticks_are_few_and_evenly_apart(low, size, most):
    found = ticks(low, low + size, most)
    assert len(found) <= most
    if size > 1e-6 * abs(low):
        assert np.ptp(np.diff(found)) <= 1e-6 * size if len(found) > 2 else True


def test_scales():
    scale = Scale(10, 1000, 0, 100, is_log=True)
    assert scale.place(100) == pytest.approx(50)
    assert Scale(0, 4, 100, 0).place(1) == 75
    assert scale.holds(10)
    assert not scale.holds(9)


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=8))
def test_labels_stand_apart_and_keep_their_order(places):
    found = apart(places, 10, 0, 100)
    order = np.argsort(places, kind="stable")
    gaps = np.diff(np.asarray(found)[order]) if places else np.zeros(0)
    assert (gaps >= 10 - 1e-6).all()
    if places:
        assert min(found) >= -1e-6
        assert max(found) <= max(100, 10 * (len(places) - 1)) + 1e-6


def test_labels_that_are_clear_of_each_other_stay():
    assert apart([50, 10, 80], 10, 0, 100) == [50, 10, 80]
    assert apart([50, 50], 10, 0, 100) == [45, 55]


def colour_pairs():
    for theme, named in (("light", colours.LIGHT), ("dark", colours.DARK)):
        paper = named["paper"]
        for name in ("ink", "muted", "accent"):
            yield f"{theme} {name}", named[name], paper, 4.5
        yield f"{theme} ink on panel", named["ink"], named["panel"], 4.5
        yield f"{theme} ink on warning", named["ink"], named["warn"], 4.5
        yield f"{theme} chosen", paper, named["accent"], 4.5
        for place, step in enumerate(colours.DIVERGING[theme] + colours.SEQUENTIAL[theme]):
            yield f"{theme} step {place}", colours.text_on(step), step, 4.5
        for arm, look in colours.looks([*"abcd", *colours._LOOKS]).items():
            yield f"{theme} {arm}", getattr(look, theme), paper, 3.0


@pytest.mark.parametrize("pair", list(colour_pairs()), ids=lambda pair: pair[0])
def test_contrast(pair):
    _, one, other, least = pair
    assert colours.contrast(one, other) >= least


def test_contrast_is_that_of_wcag():
    assert colours.contrast("#000000", "#ffffff") == 21
    assert colours.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_colours_of_images_are_seen_on_light_and_dark_paper():
    for colour in (colours.BLUE, colours.ORANGE):
        for named in (colours.LIGHT, colours.DARK):
            assert colours.contrast("#{:02x}{:02x}{:02x}".format(*colour), named["paper"]) >= 3


def test_arms_are_told_apart_without_colour():
    arms = ["uniform", "a_mtrl", "l1_a_mtrl", "c_optimal", "alignment", "same_digit", "mine"]
    found = colours.looks(arms)
    assert len({look.marker for look in found.values()}) == len(arms)
    assert len({look.dash for look in found.values()}) == len(arms)


def test_steps_of_a_difference():
    more, less = (Shade(unit_of(metric, [0.01]), 1.0) for metric in ("accuracy", "mse"))
    assert [more.step(value) for value in (0.05, 0.01, 0.0, -0.0026, -1)] == [0, 0, 4, 5, 8]
    assert less.unit.factor == 100
    assert [less.step(value) for value in (-0.01, 0.0, 0.01)] == [0, 4, 8]  # less is better


def test_numbers():
    points = unit_of("balanced_accuracy", [])
    assert points.text(0.00281) == "+0.28"
    assert points.text(0.0) == "0"
    assert points.text(None) == "–"
    assert [points.short_text(one) for one in (0.00281, -0.0126, 0.12, 0.0999)] == [
        *("+.28", "−1.3", "+12", "+10"),
    ]
    small = unit_of("mse", [0.0012, None, -0.0004])
    assert (small.factor, small.name) == (1000, "in units of 10⁻³")
    assert unit_of("mse", [0.15]).text(-0.153) == "−0.153"
    assert unit_of("mse", [3.0]).text(-0.153) == "−0.15"
    assert unit_of("mse", [0.0]).text(0.0) == "0"
    assert minus("a-b -0.5 [-1, 2-3] 1e-05") == "a-b −0.5 [−1, 2-3] 1e-05"
    assert value_text("mse", 0.0552) == "0.05520"
    assert value_text("mse", 1.2345) == "1.234"
    assert value_text("auc", 0.5) == "50.00%"


def decoded(png: bytes) -> tuple[dict[bytes, bytes], np.ndarray]:
    """Chunks of a PNG, and its rows of bytes, by the standard alone."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        name, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack(">I", png[place + 8 + length : place + 12 + length])
        assert checksum == zlib.crc32(name + body)
        chunks[name] = body
        place += 12 + length
    width, height, _, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    depth = {0: 1, 2: 3, 3: 1}[kind]
    raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    raw = raw.reshape(height, width * depth + 1)
    assert (raw[:, 0] == 2).all()  # differences to the row above
    return chunks, np.cumsum(raw[:, 1:], axis=0, dtype=np.uint8)


def test_images_are_the_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 3, (5, 7), np.uint8)
    chunks, found = decoded(palette_png(pixels, [(0, 0, 0, 0), (1, 2, 3, 4), (5, 6, 7, 8)]))
    np.testing.assert_array_equal(found, pixels)
    assert chunks[b"PLTE"] == bytes([0, 0, 0, 1, 2, 3, 5, 6, 7])
    assert chunks[b"tRNS"] == bytes([0, 4, 8])
    image = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(decoded(image_png(image))[1].reshape(image.shape), image)
    np.testing.assert_array_equal(decoded(image_png(image[..., 0]))[1], image[..., 0])


def test_cells_of_a_matrix_tell_their_sign_by_their_shape():
    pixels = pixels_of(np.array([[1.0, -1.0, np.nan, 0.0]]), 1.0)
    whole, half, unknown, nothing = np.split(pixels, 4, axis=1)
    assert (whole == 12).all()
    assert sorted(set(half.ravel().tolist())) == [0, 24]
    assert np.mean(half > 0) == 0.5
    assert not unknown.any()
    assert not nothing.any()


def profiles(seed=0, number=24):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 30))
    found = centres[np.arange(number) % 4] + 0.2 * rng.normal(size=(number, 30))
    found[rng.random(found.shape) < 0.1] = np.nan
    return found


def test_distances_are_one_less_the_cosine_of_what_both_know():
    rows = profiles()
    found = distances(rows)
    both = np.isfinite(rows[2]) & np.isfinite(rows[7])
    one, other = rows[2][both], rows[7][both]
    wanted = 1 - one @ other / np.sqrt(one @ one * (other @ other))
    assert found[2, 7] == pytest.approx(wanted)
    np.testing.assert_allclose(found, found.T)
    assert distances(np.full((2, 3), np.nan))[0, 1] == 1


@pytest.mark.parametrize("seed", range(5))
def test_alike_rows_are_neighbours_as_average_linkage_wants_it(seed):
    """Every cluster of SciPy's tree is a run of the order."""
    rows = profiles(seed)
    order = order_of(rows)
    assert sorted(order) == list(range(len(rows)))
    tree = average(squareform(distances(rows), checks=False))
    place = np.argsort(order)
    members = {index: [index] for index in range(len(rows))}
    for step, (left, right, *_) in enumerate(tree):
        both = members[int(left)] + members[int(right)]
        members[len(rows) + step] = both
        assert np.ptp(place[both]) == len(both) - 1
    # Turning subtrees makes neighbours no less alike than SciPy's own leaves.
    found = distances(rows)
    cost = [found[one[:-1], one[1:]].sum() for one in (np.array(order), leaves_list(tree))]
    assert cost[0] <= cost[1] + 1e-9
    assert cophenet(tree).max() > 0.5


def test_an_order_of_few_rows():
    assert order_of(np.zeros((0, 3))) == []
    assert order_of(np.ones((1, 3))) == [0]
    assert order_of(np.full((2, 2), np.nan)) == [0, 1]


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, (2, 40)).astype(float)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation(one, np.ones(40)) is None


def test_markup_is_escaped_once():
    inside = element("b", {"title": '"<&'}, "<&>", Html("<i></i>"))
    assert inside == '<b title="&quot;&lt;&amp;">&lt;&amp;&gt;<i></i></b>'
    assert element("p", None, inside) == f"<p>{inside}</p>"
    assert escape("a\x00\u202eb\ud800\n") == "a\\x00\\u202eb\\ud800\\n"
    assert escape("a\xa0b") == "a\xa0b"
    assert element("meta", {"x": 1.005, "y": None, "z": -0.001}) == '<meta x="1" z="0" />'


def test_names_are_shortened():
    assert shortened("fog_3") == "fog_3"
    assert shortened("a\n b  c") == "a b c"
    assert shortened(" \n") == "(no name)"
    assert shortened("x" * 10_000, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("name", paper_charts._MARKERS)
def test_markers_of_figures_are_filled(name):
    """One that is all edge has the edge's colour, which is that of the paper."""
    assert MarkerStyle(paper_charts._MARKERS[name]).is_filled()
