"""Task sources: fresh samples without replacement, replayed exactly, bad arrays refused."""

import jax
import numpy as np
import pytest

import amtl_jax as amtl

KEY = jax.random.key(3)


def array_source(**options):
    """Two tasks on one pool of 12 images, one on a pool of 5."""
    images = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2)
    inputs = {"a": images, "b": 200 + images[:5]}
    labels = {"a0": np.arange(12) % 2, "a1": np.arange(12), "b0": np.arange(5)}
    pools = {"a0": "a", "a1": "a", "b0": "b"}
    return amtl.ArraySource(inputs, labels, pools=pools, **options)


def synthetic_source():
    truth = amtl.synthetic_truth("gauss", num_tasks=3, input_dim=4, num_features=2, num_outputs=2)
    return amtl.SyntheticSource(truth, capacity=12)


def callable_source():
    def draw(task, rows, seed):
        x = 100.0 * "abc".index(task) + rows[:, None] + [0.25, 0.5]
        return x, np.sin(x)

    names = ["a", "b", "c"]
    return amtl.CallableSource(draw, names, input_shape=[2], num_outputs=2, capacity=12)


SOURCES = [array_source, synthetic_source, callable_source]


@pytest.mark.parametrize("make", SOURCES)
def test_protocol(make):
    source = make()
    num_tasks = len(source.names)
    assert source.capacity.shape == source.price.shape == (num_tasks,)
    rows = source.draw(KEY, np.array([3, 0, 5]))
    assert rows.x.shape == (8, *source.input_shape)
    assert rows.y.shape == (8, source.num_outputs)
    assert rows.x.dtype == rows.y.dtype == np.float32
    assert rows.task.tolist() == [0] * 3 + [2] * 5
    with pytest.raises(ValueError, match=r"has \d+ samples, but 0 \+ 13 were asked for"):
        source.draw(KEY, np.array([13, 0, 0]))
    with pytest.raises(ValueError, match="counts as 3 integers"):
        source.draw(KEY, np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"counts as 3 integers.*\(2,\)"):
        source.draw(KEY, np.array([1, 2]))
    with pytest.raises(ValueError, match="counts >= 0, got -1"):
        source.draw(KEY, np.array([-1, 2, 2]))


@pytest.mark.parametrize("make", SOURCES)
def test_rounds_continue_where_the_last_one_stopped(make):
    first, second = np.array([3, 0, 2]), np.array([4, 7, 3])
    whole = make().draw(KEY, first + second)
    parts = make().draw(KEY, first), make().draw(KEY, second, start=first)
    for task in range(3):
        for name in ("x", "y"):
            pieces = [getattr(part, name)[part.task == task] for part in parts]
            expected = getattr(whole, name)[whole.task == task]
            np.testing.assert_array_equal(np.concatenate(pieces), expected)
    other = make().draw(jax.random.key(4), first + second)
    assert not np.array_equal(other.x, whole.x)


@pytest.mark.parametrize("make", SOURCES)
def test_a_tasks_samples_do_not_depend_on_the_other_tasks(make):
    alone = make().draw(KEY, np.array([0, 5, 0]))
    among = make().draw(KEY, np.array([6, 5, 2]))
    np.testing.assert_array_equal(alone.x, among.x[among.task == 1])
    np.testing.assert_array_equal(alone.y, among.y[among.task == 1])


def test_arrays_are_drawn_without_replacement_and_scaled():
    rows = array_source().draw(KEY, np.array([12, 12, 5]))
    assert sorted(rows.y[rows.task == 1, 0]) == list(range(12))
    first_pixel = np.round(rows.x[:, 0, 0] * 255)
    np.testing.assert_array_equal(first_pixel[rows.task == 1], 4 * rows.y[rows.task == 1, 0])
    np.testing.assert_array_equal(first_pixel[rows.task == 2], 200 + 4 * rows.y[rows.task == 2, 0])
    # two tasks of one pool draw in different orders
    assert not np.array_equal(first_pixel[rows.task == 0], first_pixel[rows.task == 1])


def test_an_index_says_where_the_samples_of_a_draw_lie():
    pools = {"a": np.arange(24, dtype=np.float32).reshape(12, 2), "b": np.ones((3, 2), np.float32)}
    source = amtl.ArraySource(pools, {"a": np.arange(12), "b": np.arange(3)})
    key, counts, start = jax.random.key(5), np.array([7, 2]), np.array([1, 1])
    rows = source.draw(key, counts, start=start)
    task, row = source.draw_index(key, counts, start=start)
    np.testing.assert_array_equal(task, rows.task)
    np.testing.assert_array_equal(row, rows.y[:, 0])
    np.testing.assert_array_equal(pools["a"][row[task == 0]], rows.x[task == 0])


def test_pools_are_shared_not_copied():
    images = np.zeros((10, 3), np.float32)
    source = amtl.ArraySource(
        {"p": images}, {"s": np.zeros(10), "t": np.ones(10)}, pools={"s": "p", "t": "p"}
    )
    assert all(np.shares_memory(pool, images) for pool in source._pools)


def test_labels_that_are_missing_have_weight_0_and_are_no_numbers():
    labels = {"a0": np.array([np.nan, *range(1, 12)]), "a1": np.ones(12), "b0": np.ones(5)}
    weight = np.array([0, *[2.0] * 11])
    source = amtl.ArraySource(
        {"a": np.ones((12, 2)), "b": np.ones((5, 2))},
        labels,
        pools={"a0": "a", "a1": "a", "b0": "b"},
        weights={"a0": weight},
    )
    rows = source.draw(KEY, np.array([12, 12, 5]))
    assert rows.weight.dtype == np.float32
    assert sorted(rows.weight[rows.task == 0]) == [0, *[2] * 11]
    assert rows.y[rows.weight == 0].tolist() == [[0]]
    assert (rows.weight[rows.task > 0] == 1).all()
    assert array_source().draw(KEY, np.array([1, 1, 1])).weight is None


def test_joint_labels_come_together():
    source = array_source(joint=True, prices={"a0": 2.0, "a1": 2.0, "b0": 1.0})
    assert source.group.tolist() == [0, 0, 1]
    rows = source.draw(KEY, np.array([4, 4, 2]))
    np.testing.assert_array_equal(rows.x[rows.task == 0], rows.x[rows.task == 1])
    np.testing.assert_array_equal(rows.y[rows.task == 1] % 2, rows.y[rows.task == 0])
    later = source.draw(KEY, np.array([8, 8, 3]), start=np.array([4, 4, 2]))
    for task, size in ((0, 12), (1, 12), (2, 5)):
        x = np.concatenate([part.x[part.task == task] for part in (rows, later)])
        assert len(np.unique(x[:, 0, 0])) == size
    np.testing.assert_array_equal(later.x[later.task == 0], later.x[later.task == 1])


def test_each_task_is_a_group_unless_told():
    assert array_source().group.tolist() == synthetic_source().group.tolist() == [0, 1, 2]


def test_draws_do_not_change_from_release_to_release():
    # Runs that were begun with an older version are resumed with this one.
    rows = array_source().draw(KEY, np.array([3, 3, 3]))
    assert np.round(rows.x[:, 0, 0] * 255).astype(int).tolist() == [
        28,
        24,
        4,
        24,
        12,
        8,
        212,
        200,
        208,
    ]


X, Y = np.ones((4, 2)), np.ones(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {}), "at least one task"),
        (({"s": X}, {"t": Y}), "inputs has no entry 't'; it has .'s'."),
        (({"s": X}, {"s": np.ones(3)}), "3 labels for 4 inputs"),
        (({"s": X[:0]}, {"s": Y[:0]}), "at least one: got 0 labels for 0 inputs"),
        (({"s": X * np.nan}, {"s": Y}), "NaN or Inf in inputs..s.."),
        (({"s": X}, {"s": Y * np.inf}), "NaN or Inf in labels of task 's'"),
        (({"s": X, "t": X[:, :1]}, {"s": Y, "t": Y}), r"one input shape.*\(1,\), \(2,\)"),
        (({"s": X}, {"s": np.ones((4, 1, 1))}), r"expected \[n\] or \[n, O\], got \(4, 1, 1\)"),
    ],
)
def test_bad_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        amtl.ArraySource(*arguments)


def test_bad_prices_are_refused():
    with pytest.raises(ValueError, match="positive finite prices"):
        array_source(prices={"a0": 1.0, "a1": 0.0, "b0": 1.0})
    with pytest.raises(ValueError, match="tasks of a pool must have one price"):
        array_source(prices={"a0": 1.0, "a1": 2.0, "b0": 1.0}, joint=True)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a9": np.ones(12)}, "labels has no entry 'a9'"),
        ({"a0": np.ones(5)}, r"expected 12 finite numbers >= 0, one per input, got shape \(5,\)"),
        ({"a0": -np.ones(12)}, "finite numbers >= 0"),
        ({"a0": np.full(12, np.nan)}, "finite numbers >= 0"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        array_source(weights=weights)


@pytest.mark.parametrize("scenario", amtl.SCENARIOS)
def test_scenarios(scenario):
    truth = amtl.synthetic_truth(scenario)
    np.testing.assert_allclose(truth.encoder.T @ truth.encoder, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(truth.source_theta(), axis=1), 1.0)
    assert np.linalg.norm(truth.target_theta()) == pytest.approx(1.0)
    if scenario == "one":
        np.testing.assert_array_equal(truth.target_head, truth.source_heads[:, 0])
    if scenario.startswith("dup"):  # the last source alone knows the last direction
        known = np.abs(truth.source_heads[-1])
        assert known.argmax() == 39
        assert np.sort(known)[-2] < 0.1


def test_noise_scenario_has_noise_and_prices_of_its_own():
    truth = amtl.synthetic_truth("noise", num_tasks=3, input_dim=5, num_features=2, noise=0.5)
    for values in (truth.noise / 0.5, truth.price):
        assert values.min() >= 1 / 3
        assert values.max() <= 3
        assert np.ptp(values) > 0.1
    source = amtl.SyntheticSource(truth)
    np.testing.assert_array_equal(source.price, truth.price)
    rows = source.draw(KEY, np.full(3, 4000))
    for task in range(3):
        own = rows.task == task
        error = rows.y[own] - rows.x[own] @ truth.source_theta()[task]
        assert error.std() == pytest.approx(truth.noise[task], rel=0.05)


def test_misspecified_scenario_leaves_the_model():
    truth = amtl.synthetic_truth("mis", num_tasks=6)
    inside = truth.encoder @ truth.encoder.T
    theta = np.concatenate([truth.source_theta()[..., 0], truth.target_theta().T])
    left = np.linalg.norm(theta - theta @ inside, axis=1)
    assert (left[:-1] > 0.05).all()
    sources = np.linalg.svd(theta[:-1], full_matrices=False)[2]
    outside = theta[-1] - sources.T @ (sources @ theta[-1])
    assert np.linalg.norm(outside) >= 0.2 - 1e-6  # a fifth of the norm, at least
    eigenvalues = np.linalg.eigvalsh(truth.input_factor @ np.swapaxes(truth.input_factor, 1, 2))
    np.testing.assert_allclose(eigenvalues.mean(axis=1), 1.0)
    assert 3 < (eigenvalues[:, -1] / eigenvalues[:, 0]).mean() < 2.5 / 0.4
    rows = amtl.SyntheticSource(truth).draw_target(KEY, 8000)
    np.testing.assert_allclose(np.cov(rows.x.T), truth.target_covariance(), atol=0.12)


def test_synthetic_samples_follow_the_truth():
    truth = amtl.synthetic_truth(
        "gauss", num_tasks=2, input_dim=5, num_features=2, noise=0.1, num_outputs=2
    )
    source = amtl.SyntheticSource(truth)
    rows, target = source.draw(KEY, np.array([4000, 4000])), source.draw_target(KEY, 4000)
    heads = [*np.moveaxis(truth.source_heads, 1, 0), truth.target_head]
    for own, head in zip((rows, rows, target), range(3), strict=True):
        chosen = own.task == head
        x, y = own.x[chosen], own.y[chosen]
        theta = np.linalg.lstsq(x, y, rcond=None)[0]
        np.testing.assert_allclose(theta, truth.encoder @ heads[head], atol=0.01)
        assert (y - x @ theta).std() == pytest.approx(0.1, rel=0.05)
        np.testing.assert_allclose(np.cov(x.T), np.eye(5), atol=0.1)


@pytest.mark.parametrize(
    ("scenario", "options", "message"),
    [
        ("nope", {}, "expected one of .'gauss'"),
        ("gauss", {"num_features": 50}, "num_features=50, input_dim=40"),
        ("dup", {"num_features": 1}, "expects 2 <= num_features"),
        ("gauss", {"noise": -1.0}, "noise=-1.0"),
    ],
)
def test_truths_that_do_not_fit_are_refused(scenario, options, message):
    with pytest.raises(ValueError, match=message):
        amtl.synthetic_truth(scenario, **options)
