"""A campaign in memory: what is bought, whom it helps, and units that come back."""

import dataclasses

import jax
import numpy as np
import pytest

import amtl_jax as amtl
from amtl_jax.compiled_round import Settings, compiled_learner
from amtl_jax.default_fit import default_fitter
from amtl_jax.in_memory import _default_strategy

NAMES = ("a", "b", "c", "d")
DIM, NUM_TARGET, SCHEDULE = 12, 15, (0.5, 0.5)


@dataclasses.dataclass
class Tasks:
    """Four sources and a target that is made of the first two; two directions in twelve."""

    source: amtl.ArraySource
    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def make_tasks(factor=1.0, shift=0.0, num_rows=60, **options):
    rng = np.random.default_rng(0)
    kernel = np.linalg.qr(rng.normal(size=(DIM, 2)))[0]
    heads = np.array([[1.2, 0.0], [0.0, 1.2], [1.0, 1.0], [1.0, -1.0], [1.2, 0.6]])

    def rows(task, number):
        x = rng.normal(size=(number, DIM)).astype(np.float32)
        y = x @ kernel @ heads[task] + 0.3 * rng.normal(size=number)
        return x, factor * y + shift

    parts = [rows(task, num_rows) for task in range(4)]
    source = amtl.ArraySource(
        {name: x for name, (x, _) in zip(NAMES, parts, strict=True)},
        {name: y for name, (_, y) in zip(NAMES, parts, strict=True)},
        **options,
    )
    return Tasks(source, *rows(4, NUM_TARGET), *rows(4, 400))


def fit(tasks, **options):
    options = {"budget": 120, "schedule": SCHEDULE} | options
    return amtl.active_fit(tasks.source, tasks.x, tasks.y, **options)


@pytest.fixture(scope="module")
def tasks():
    return make_tasks()


@pytest.fixture(scope="module")
def fitted(tasks):
    return fit(tasks)


def test_the_budget_is_spent_and_listed(fitted):
    assert fitted.counts.sum(axis=1).tolist() == [60, 60]
    assert len(fitted.infos) == 2
    table = fitted.allocation_table()
    assert [row["source"] for row in table] == list(NAMES)
    assert sum(row["samples"] for row in table) == 120
    assert [row["samples_by_round"] for row in table] == fitted.counts.T.tolist()
    assert [row["relevance"] for row in table] == fitted.relevance.tolist()
    assert np.asarray(fitted.state.spent).tolist() == fitted.counts.sum(axis=0).tolist()


def test_sources_that_span_the_target_help(tasks, fitted):
    x, y = tasks.x - tasks.x.mean(axis=0), tasks.y - tasks.y.mean()

    def error(predicted):
        return np.mean((predicted - tasks.test_y) ** 2)

    def ridge(strength):  # on the target's rows alone
        weight = np.linalg.solve(x.T @ x + strength * np.eye(DIM), x.T @ y)
        return (tasks.test_x - tasks.x.mean(axis=0)) @ weight + tasks.y.mean()

    best = min(error(ridge(10.0**power)) for power in range(-4, 5))
    assert error(fitted.predict(tasks.test_x)[:, 0]) < 0.7 * best


def test_it_is_the_loop_that_a_person_would_write(tasks, fitted):
    """ask, draw, pack, tell and the answer, one by one."""
    root, source = jax.random.key(0), tasks.source
    data_key, key = jax.random.fold_in(root, 0), jax.random.fold_in(root, 3)
    hits = compiled_learner.cache_info().hits
    fitter = default_fitter(None, num_sources=4, input_shape=(DIM,), num_outputs=1)
    settings = Settings(
        fitter=fitter,
        strategy=_default_strategy(),
        num_target=NUM_TARGET,
        budget=120,
        schedule=SCHEDULE,
        floor=amtl.Floor(),
        capacity=(60,) * 4,
        price=None,
        group=None,
    )
    learner, tell = compiled_learner(settings)  # what the fixture compiled
    assert compiled_learner.cache_info().hits == hits + 1
    scale = fitted.label_scale

    def packed(rows):
        return amtl.pack(
            np.concatenate([rows.x, tasks.x]),
            (np.concatenate([rows.y, tasks.y[:, None]]) - fitted.label_offset) / scale,
            np.concatenate([rows.task, np.full(NUM_TARGET, 4)]),
            num_tasks=5,
            block_rows=16,
            num_blocks=amtl.max_blocks(135, 5, 16),
        )

    state = learner.init(key, packed(source.draw(data_key, np.zeros(4, int))))
    for index in range(2):
        own = jax.random.fold_in(key, index)
        rows = source.draw(data_key, np.asarray(state.spent) + np.asarray(learner.ask(own, state)))
        bought = np.bincount(rows.task, minlength=4).astype(np.int32)
        state, info = tell(own, state, packed(rows), bought=bought)
    np.testing.assert_array_equal(state.spent, fitted.counts.sum(axis=0))
    np.testing.assert_array_equal(info.relevance.nu, fitted.relevance)
    features = amtl.encode_rows(fitter.encoder, state.params, tasks.x)
    answer = jax.jit(amtl.fit_answer)(
        tasks.x,
        features,
        ((tasks.y - fitted.label_offset) / scale).astype(np.float32)[:, None],
        np.ones(NUM_TARGET, np.float32),
        info.head_prior,
    )
    shown = tasks.test_x, amtl.encode_rows(fitter.encoder, state.params, tasks.test_x)
    expected = np.asarray(amtl.predict_answer(answer, *shown)) * scale + fitted.label_offset
    np.testing.assert_allclose(fitted.predict(tasks.test_x), expected, atol=1e-4)


def test_labels_of_any_scale_give_the_same_fit_in_their_own_units(tasks, fitted):
    large = make_tasks(factor=1000.0, shift=5000.0)
    found = fit(large)
    np.testing.assert_array_equal(found.counts, fitted.counts)
    assert found.label_scale == pytest.approx(1000 * fitted.label_scale, rel=1e-4)
    error = found.predict(large.test_x) - (1000 * fitted.predict(tasks.test_x) + 5000)
    assert np.abs(error).max() < 0.02 * 1000
    as_they_are = fit(tasks, label_scale=1.0)
    assert as_they_are.label_scale == 1.0


def test_seeds_share_a_compiled_round_and_decide_everything(tasks, fitted):
    hits = compiled_learner.cache_info().hits
    again, other = fit(tasks), fit(tasks, seed=1)
    assert compiled_learner.cache_info().hits == hits + 2
    np.testing.assert_array_equal(again.predict(tasks.test_x), fitted.predict(tasks.test_x))
    assert not np.array_equal(other.predict(tasks.test_x), fitted.predict(tasks.test_x))
    assert float(fit(tasks, penalty=0.003).state.penalty) == pytest.approx(0.003)
    assert compiled_learner.cache_info().hits == hits + 3


def test_target_rows_without_a_label_change_nothing(tasks, fitted):
    x = np.concatenate([tasks.x, np.ones((1, DIM), np.float32)])
    y = np.append(tasks.y, np.nan)
    found = amtl.active_fit(
        tasks.source, x, y, budget=120, schedule=SCHEDULE, target_weight=[1] * NUM_TARGET + [0]
    )
    np.testing.assert_array_equal(found.predict(tasks.test_x), fitted.predict(tasks.test_x))


def test_a_function_is_asked_for_each_row_once(tasks):
    """The same campaign, from a function that reads the arrays."""
    parts = {name: tasks.source.draw(jax.random.key(9), 60 * row) for name, row in IDENTITY.items()}
    asked = []

    def draw(task, rows, seed):
        asked.extend((task, row) for row in rows.tolist())
        return parts[task].x[rows], parts[task].y[rows]

    source = amtl.CallableSource(draw, NAMES, input_shape=(DIM,), capacity=60)
    found = amtl.active_fit(source, tasks.x, tasks.y, budget=120, schedule=SCHEDULE)
    assert len(asked) == len(set(asked)) == 120
    error = found.predict(tasks.test_x)[:, 0] - tasks.test_y
    assert np.mean(error**2) < 0.25 * np.var(tasks.test_y)


IDENTITY = dict(zip(NAMES, np.eye(4, dtype=int), strict=True))


def test_sources_without_an_end_need_a_budget(tasks):
    endless = amtl.CallableSource(print, NAMES, input_shape=(DIM,))
    with pytest.raises(ValueError, match="'a' has no end: pass a budget"):
        amtl.active_fit(endless, tasks.x, tasks.y, budget=None)


def test_labels_of_one_row_are_paid_once():
    rng = np.random.default_rng(1)
    pool = rng.normal(size=(60, DIM)).astype(np.float32)
    labels = {name: pool @ rng.normal(size=DIM) for name in NAMES}
    weights = {"b": np.arange(60) % 2}  # half of b's labels are missing
    pools = {"a": "p", "b": "p", "c": "q", "d": "q"}
    source = amtl.ArraySource(
        {"p": pool, "q": pool + 1},
        labels,
        pools=pools,
        prices={"a": 2.0, "b": 2.0, "c": 1.0, "d": 1.0},
        weights=weights,
        joint=True,
    )
    found = amtl.active_fit(
        source,
        pool[:NUM_TARGET],
        labels["a"][:NUM_TARGET],
        budget=60,
        schedule=SCHEDULE,
        strategy=amtl.uniform(),
        encoder=amtl.identity_encoder(DIM),
    )
    bought = found.counts.sum(axis=0)
    assert bought[0] == bought[1]
    assert bought[2] == bought[3]
    assert 58 < 2 * bought[0] + bought[2] <= 60
    np.testing.assert_array_equal(found.state.spent, bought)  # missing labels were paid for too


def test_predictions_do_not_depend_on_the_rows_beside(tasks, fitted):
    whole = fitted.predict(tasks.test_x)
    assert whole.shape == (400, 1)
    np.testing.assert_array_equal(
        np.concatenate([fitted.predict(tasks.test_x[:7]), fitted.predict(tasks.test_x[7:])]), whole
    )
    assert fitted.predict(tasks.test_x[:0]).shape == (0, 1)
    features = fitted.transform(tasks.test_x)
    assert features.shape == (400, 4)
    kernel = np.asarray(fitted.params["params"]["kernel"])
    np.testing.assert_allclose(features, tasks.test_x @ kernel, atol=1e-5)
    with pytest.raises(ValueError, match=r"Expected x of shape \[n, 12\].*\(400, 5\)"):
        fitted.predict(tasks.test_x[:, :5])
    with pytest.raises(ValueError, match=r"NaN or Inf in x in 1 of 2 rows \(first: row 1\)"):
        fitted.transform(np.array([[0.0] * DIM, [np.nan] * DIM]))


def test_the_default_fit_suits_the_encoder():
    options = {"num_sources": 3, "num_outputs": 2}
    for dim, expected in ((4, 4), (20, 6)):
        fitter = default_fitter(None, input_shape=(dim,), **options)
        assert fitter.encoder.num_features == expected
        assert fitter is default_fitter(None, input_shape=(dim,), **options)
    assert default_fitter(None, num_sources=99, input_shape=(80,), num_outputs=1).encoder[2] == 50
    names = {
        default_fitter(encoder, input_shape=(4,), **options).fit.__qualname__.split(".")[0]
        for encoder in (
            amtl.linear_encoder(2),
            amtl.identity_encoder(4),
            amtl.mlp_encoder(2, widths=(3,)),
        )
    }
    assert names == {"lbfgs_fitter", "frozen_fitter", "variable_projection_fitter"}
    with pytest.raises(ValueError, match=r"inputs have shape \(2, 2, 1\).*conv_encoder"):
        default_fitter(None, input_shape=(2, 2, 1), **options)


def test_the_rank_can_be_chosen(tasks, fitted):
    found = fit(tasks, rank="aic", budget=None)
    assert (fitted.num_features, found.num_features) == (4, 2)
    assert (np.abs(found.transform(tasks.test_x)).max(axis=0) > 0).tolist() == [True] * 2 + [
        False
    ] * 2
    truth = np.mean((tasks.test_y - tasks.test_y.mean()) ** 2)
    assert np.mean((found.predict(tasks.test_x)[:, 0] - tasks.test_y) ** 2) < 0.15 * truth


def test_a_given_rank_that_is_too_small_is_warned_of(tasks, recwarn):
    assert fit(tasks, rank=np.int64(2), budget=None).encoder.num_features == 2
    assert fit(tasks, encoder=amtl.linear_encoder(1), budget=None).num_features == 1
    assert not [one for one in recwarn if "too small" in str(one.message)]
    with pytest.warns(UserWarning, match="K = 1 looks too small: AIC wants 2 features") as caught:
        fit(tasks, rank=1, budget=None)
    assert caught[0].filename == __file__


def test_the_targets_sample_can_join_and_noise_be_weighed(tasks, fitted):
    """They reach the learner: what is compiled is what a person would ask of it."""
    plain = np.asarray(fitted.params["params"]["kernel"])
    for option in ("join_target", "weigh_noise"):
        found = fit(tasks, **{option: True})
        np.testing.assert_array_equal(found.counts[0], fitted.counts[0])
        assert not np.allclose(found.params["params"]["kernel"], plain, atol=1e-4)
        noise = np.asarray(found.state.task_noise)
        assert np.ptp(noise) > 0 if option == "weigh_noise" else (noise == 1).all()


def test_too_many_inputs_to_choose_a_rank():
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(60)]
    x = {name: rng.normal(size=(3, 800)) for name in names}
    source = amtl.ArraySource(x, {name: np.arange(3.0) for name in names})
    with pytest.raises(ValueError, match=r"800 × 800 second moments of each of 61 tasks: 156 MB"):
        amtl.active_fit(source, x["0"], np.arange(3.0), budget=60, rank="aic")


X, Y = np.ones((5, DIM)), np.arange(5.0)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X[:, :4], Y, {}, r"Expected target_x of shape \[n, 12\].*\(5, 4\)"),
        (X, Y[:4], {}, r"target_y as 5 rows of 1 numbers.*\(4, 1\)"),
        (X, Y, {"rank": True}, "Expected rank 'aic', None or 1 to D = 12, got True"),
        (X, Y, {"rank": 13}, "Expected rank 'aic', None or 1 to D = 12, got 13"),
        (X, np.ones((5, 2)), {}, r"target_y as 5 rows of 1 numbers.*\(5, 2\)"),
        (X, list("abcde"), {}, "target_y as 5 rows of 1 numbers.*<U1"),
        (X * np.inf, Y, {}, r"NaN or Inf in target_x in 5 of 5 rows"),
        (
            X,
            [np.nan, 1, 2, 3, 4],
            {},
            r"NaN or Inf in target_y in 1 of 5 rows .first: row 0.*weight 0",
        ),
        (X[:1], Y[:1], {}, "at least 2 labelled target rows, got 1"),
        (X, Y, {"target_weight": [1, 0, 0, 0, 0]}, "at least 2 labelled target rows, got 1"),
        (X, Y, {"target_weight": [1, 1]}, "target_weight as 5 finite numbers"),
        (X, Y, {"budget": 241}, "budget of 241 samples is beyond the sources' capacity of 240"),
        (X, Y, {"budget": 10.5}, "whole"),
        (X, Y, {"budget": 100, "floor": amtl.Floor(count=20)}, "expected floors that fit"),
        (X, Y, {"penalty": -1.0}, "penalty >= 0 or None, got -1.0"),
        (X, Y, {"label_scale": 0.0}, "positive label_scale or None, got 0.0"),
        (
            X,
            Y,
            {
                "encoder": amtl.linear_encoder(2),
                "fitter": amtl.frozen_fitter(amtl.linear_encoder(2), num_tasks=5),
            },
            "one of an encoder, a fitter of one, and a rank, got more",
        ),
        (
            X,
            Y,
            {"rank": 2, "fitter": amtl.frozen_fitter(amtl.linear_encoder(2), num_tasks=5)},
            "one of an encoder, a fitter of one, and a rank, got more",
        ),
        (X, Y, {"rank": 2, "encoder": amtl.linear_encoder(3)}, "got 2 and an encoder of K = 3"),
        (X, Y, {"rank": 13}, "rank 'aic', None or 1 to D = 12, got 13"),
        (X, Y, {"rank": "bic"}, "rank 'aic', None or 1 to D = 12, got 'bic'"),
    ],
)
def test_what_does_not_fit_is_refused(tasks, x, y, options, message):
    with pytest.raises(ValueError, match=message):
        amtl.active_fit(tasks.source, x, y, **{"budget": 120, "schedule": SCHEDULE} | options)


def test_numbers_that_overflow_are_reported(tasks):
    huge = make_tasks(factor=1e30)
    with pytest.raises(RuntimeError, match=r"Round 1 has numbers that are not finite.*scale"):
        fit(huge, label_scale=1.0)
