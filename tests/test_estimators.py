"""The estimators as scikit-learn sees them, and as a person with several tasks does."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import amtl_jax as amtl
from amtl_jax.compiled_round import compiled_learner

DIM, SCHOOLS = 8, ("north", "south", "east", "west")
SIZES = {"north": 80, "south": 80, "east": 80, "west": 40}


@parametrize_with_checks([amtl.ActiveMultiTaskRegressor(), amtl.ActiveMultiTaskClassifier()])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def make_rows(seed=0):
    """Rows of four schools in random order: inputs, numbers and names. Two directions in eight."""
    rng = np.random.default_rng(seed)
    kernel = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, 2)))[0]
    heads = {"north": [1.2, 0], "south": [0, 1.2], "east": [1, 1], "west": [1, 0.7]}
    task = rng.permutation(np.repeat(list(SIZES), list(SIZES.values())))
    x = 3.0 + rng.normal(size=(len(task), DIM))
    slopes = np.array([heads[name] for name in task])
    y = ((x - 3.0) @ kernel * slopes).sum(axis=1) + 0.5 * rng.normal(size=len(task))
    return x, 100 + 10 * y, task


@pytest.fixture(scope="module")
def folds():
    """Both halves have as many rows of each school, so one compiled round serves them."""
    x, _, task = make_rows()
    return list(StratifiedKFold(2).split(x, task))


@pytest.fixture(scope="module")
def fitted(folds):
    x, y, task = (array[folds[0][0]] for array in make_rows())
    model = amtl.ActiveMultiTaskRegressor(num_features=2, strategy="uniform", random_state=0)
    return model.fit(x, y, task=task, target="west")


def test_other_tasks_help(fitted, folds):
    x, y, task = (array[folds[0][0]] for array in make_rows())
    assert fitted.target_ == "west"
    assert fitted.source_names_ == ("east", "north", "south")
    assert fitted.counts_.tolist() == [[40, 40, 40]]
    assert fitted.relevance_.shape == (3,)
    assert fitted.n_features_in_ == DIM
    test_x, test_y, test_task = make_rows(seed=1)
    own = test_task == "west"
    alone = RidgeCV(np.logspace(-3, 3, 25)).fit(x[task == "west"], y[task == "west"])
    assert fitted.predict(test_x[own]).shape == (40,)
    assert fitted.score(test_x[own], test_y[own]) > alone.score(test_x[own], test_y[own])
    # Told the tasks, it scores the target's rows alone.
    assert fitted.score(test_x, test_y, task=test_task) == fitted.score(test_x[own], test_y[own])
    with pytest.raises(ValueError, match=r"no row of the target 'west'.*StratifiedKFold"):
        fitted.score(test_x[~own], test_y[~own], task=test_task[~own])


def test_it_represents_inputs(fitted):
    x, _, _ = make_rows(seed=1)
    assert fitted.transform(x).shape == (280, 2)
    assert fitted.get_feature_names_out().tolist() == [
        "activemultitaskregressor0",
        "activemultitaskregressor1",
    ]


def test_it_can_be_saved_and_cloned(fitted):
    x, _, _ = make_rows(seed=1)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "answer_")


def test_the_rank_can_be_chosen(folds):
    x, y, task = (array[folds[0][0]] for array in make_rows())
    model = amtl.ActiveMultiTaskRegressor(num_features="aic", strategy="uniform", random_state=0)
    model.fit(x, y, task=task, target="west")
    assert 1 <= model.active_fit_.num_features <= model.transform(x).shape[1] == 3
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_searches_and_pipelines_route_the_tasks(folds):
    x, y, task = make_rows()
    with sklearn.config_context(enable_metadata_routing=True):
        model = amtl.ActiveMultiTaskRegressor(num_features=2, strategy="uniform", random_state=0)
        model = model.set_fit_request(task=True, target=True).set_score_request(task=True)
        pipeline = make_pipeline(StandardScaler(), model)
        search = GridSearchCV(
            pipeline,
            {"activemultitaskregressor__penalty": [1e-3, 1e-1]},
            cv=folds,
            refit=False,
            error_score="raise",
        )
        misses = compiled_learner.cache_info().misses
        search.fit(x, y, task=task, target="west")
        assert compiled_learner.cache_info().misses <= misses + 1  # none where `fitted` came before
        # What it scored is a fit on the fold, tested on the fold's rows of the target.
        train, test = folds[1]
        own = test[task[test] == "west"]
        pipeline.set_params(activemultitaskregressor__penalty=1e-1)
        pipeline.fit(x[train], y[train], task=task[train], target="west")
        expected = pipeline.score(x[own], y[own])
    assert search.cv_results_["split1_test_score"][1] == pytest.approx(expected, abs=1e-6)
    assert search.cv_results_["split1_test_score"][0] != pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def classifier():
    """Three classes, of which the second source has two."""
    x, y, task = make_rows()
    names = np.array(["high", "low", "middle"])[np.digitize(-y, [-104, -96])]
    names[(task == "south") & (names == "middle")] = "low"
    model = amtl.ActiveMultiTaskClassifier(
        encoder="identity", budget=120, schedule=(0.5, 0.5), random_state=0
    )
    return model.fit(x - 3.0, names, task=task, target="west")


def test_classes_of_other_tasks_help(classifier):
    x, y, task = make_rows(seed=1)
    test = np.array(["high", "low", "middle"])[np.digitize(-y, [-104, -96])]
    assert classifier.classes_.tolist() == ["high", "low", "middle"]
    scores = classifier.decision_function(x - 3.0)
    assert scores.shape == (280, 3)
    assert (classifier.classes_[scores.argmax(axis=1)] == classifier.predict(x - 3.0)).all()
    assert classifier.counts_.sum(axis=1).tolist() == [60, 60]
    assert classifier.active_fit_.label_scale == 1.0
    assert classifier.score(x - 3.0, test, task=task) > 0.6
    assert not hasattr(classifier, "predict_proba")


def test_two_classes_have_one_score():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = np.where(x[:, 0] > 0.2, "yes", "no")
    model = amtl.ActiveMultiTaskClassifier().fit(x, y)
    assert model.decision_function(x).shape == (60,)
    assert (model.predict(x) == np.where(model.decision_function(x) > 0, "yes", "no")).all()
    assert model.score(x, y) > 0.85


def test_one_task_needs_no_target():
    x, y, _ = make_rows()
    model, own = (amtl.ActiveMultiTaskRegressor() for _ in range(2))
    model.fit(x, y)
    own.fit(x, y, task=["all"] * len(x))
    np.testing.assert_array_equal(model.predict(x), own.predict(x))
    assert (model.target_, own.target_) == (None, "all")
    assert model.source_names_ == ()
    np.testing.assert_array_equal(model.transform(x), x)
    several = model.fit(x, np.stack([y, -y], axis=1)).predict(x)
    np.testing.assert_allclose(several[:, 0], -several[:, 1], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"strategy": "best"}, {}, "strategy of uniform, a_mtrl, l1_a_mtrl.*'best'"),
        ({"encoder": "conv"}, {}, "encoder of linear, mlp, identity.*'conv'"),
        ({}, {"target": None}, "rows of 4 tasks: say which one is the target"),
        ({}, {"target": "centre"}, "target 'centre' has no row"),
        ({}, {"task": None}, "target='west' names a task, so pass task too"),
        ({"budget": 241}, {}, "budget of 241 samples is beyond the sources' capacity of 240"),
        ({"encoder": "identity", "num_features": 3}, {}, "num_features = 3"),
        ({"encoder": "mlp", "num_features": "aic"}, {}, "'aic' is for the encoder 'linear'"),
        ({"num_features": 99}, {}, "rank 'aic', None or 1 to D = "),
    ],
)
def test_what_does_not_fit_is_refused(options, arguments, message):
    x, y, task = make_rows()
    with pytest.raises(ValueError, match=message):
        amtl.ActiveMultiTaskRegressor(**options).fit(
            x, y, **{"task": task, "target": "west"} | arguments
        )


def test_a_missing_package_is_named_and_only_asked_for_when_needed():
    code = """
import sys
sys.modules["sklearn"] = None
import amtl_jax
amtl_jax.active_fit
try:
    amtl_jax.ActiveMultiTaskRegressor
except ImportError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "amtl-jax[sklearn]"' in found.stdout
