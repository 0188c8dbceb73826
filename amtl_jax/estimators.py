"""Estimators for scikit-learn: a target task with the help of other tasks, in its own words."""

import functools
from typing import Any, Literal, Self

import numpy as np

from amtl_jax._sklearn import (
    Classifier,
    Estimator,
    Regressor,
    _safe_indexing,
    check_classification_targets,
    check_is_fitted,
    check_random_state,
    validate_data,
)
from amtl_jax.answer import Answer
from amtl_jax.data.rows import task_of_rows
from amtl_jax.data.sources import ArraySource
from amtl_jax.encoders.identity import identity_encoder
from amtl_jax.encoders.linear import linear_encoder
from amtl_jax.encoders.mlp import mlp_encoder
from amtl_jax.fitted import ActiveFit
from amtl_jax.in_memory import active_fit
from amtl_jax.round_plan import SCHEDULE
from amtl_jax.strategies.a_mtrl import a_mtrl
from amtl_jax.strategies.c_optimal import c_optimal
from amtl_jax.strategies.l1_a_mtrl import l1_a_mtrl
from amtl_jax.strategies.uniform import uniform
from amtl_jax.target_only import target_only
from amtl_jax.types import Encoder

_MOST_FEATURES = 50
# One object each, by which a fit finds what an earlier one compiled.
_STRATEGIES = {
    "uniform": uniform(target_in_fit=True),
    "a_mtrl": a_mtrl(target_in_fit=True),
    "l1_a_mtrl": l1_a_mtrl(target_in_fit=True),
    "c_optimal": c_optimal(),
}
_ENCODERS = {"linear": linear_encoder, "mlp": mlp_encoder, "identity": identity_encoder}


class _ActiveMultiTask(Estimator):
    """What both estimators share: which rows are whose, and the fit."""

    num_features: int | Literal["aic"] | None
    answer_: Answer
    active_fit_: ActiveFit | None
    relevance_: np.ndarray
    counts_: np.ndarray
    source_names_: tuple[str, ...]
    target_: Any
    n_features_in_: int

    def __init__(
        self,
        *,
        strategy: str = "c_optimal",
        num_features: int | Literal["aic"] | None = None,
        budget: float | None = None,
        schedule: tuple[float, ...] = SCHEDULE,
        penalty: float | None = None,
        encoder: str = "linear",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.strategy = strategy
        self.num_features = num_features
        self.budget = budget
        self.schedule = schedule
        self.penalty = penalty
        self.encoder = encoder
        self.random_state = random_state

    def transform(self, X: Any) -> np.ndarray:
        """Represents inputs `[n, D]` by features `[n, K]`; without sources, by themselves."""
        check_is_fitted(self)
        x = np.asarray(validate_data(self, X, reset=False, dtype=np.float64))
        return x if self.active_fit_ is None else self.active_fit_.transform(x)

    def _outputs(self, X: Any) -> np.ndarray:
        """The target's outputs `[n, O]` in float64."""
        check_is_fitted(self)
        x = np.asarray(validate_data(self, X, reset=False, dtype=np.float64))
        if self.active_fit_ is not None:
            return self.active_fit_.predict(x)
        return x @ np.asarray(self.answer_.input_weight) + np.asarray(self.answer_.bias)

    def __getstate__(self) -> Any:
        """An encoder is made of functions, which cannot be pickled: its name and size can."""
        inherited: Any = super().__getstate__()
        state: dict[str, Any] = dict(inherited)
        fitted = state.get("active_fit_")
        if fitted is not None:
            state["active_fit_"] = fitted._replace(encoder=fitted.encoder.num_features)
        return state

    def __setstate__(self, state: Any) -> None:
        """Builds the encoder anew."""
        fitted = state.get("active_fit_")
        if fitted is not None:
            encoder = _encoder_of(state["_encoder_kind"], fitted.encoder)
            state = state | {"active_fit_": fitted._replace(encoder=encoder)}
        super().__setstate__(state)

    def _fit(
        self, x: np.ndarray, y: np.ndarray, task: Any, target: Any, label_scale: float | None
    ) -> None:
        """Fits inputs `[n, D]` and labels `[n, O]`, and sets what is known afterwards."""
        if self.strategy not in _STRATEGIES or self.encoder not in _ENCODERS:
            raise ValueError(
                f"Expected a strategy of {', '.join(_STRATEGIES)} and an encoder of "
                f"{', '.join(_ENCODERS)}, got {self.strategy!r} and {self.encoder!r}."
            )
        names, index, self.target_ = task_of_rows(task, target, len(x))
        sources = [place for place, name in enumerate(names) if name != self.target_]
        self.source_names_ = tuple(str(names[place]) for place in sources)
        self.active_fit_ = None
        if not sources:
            self.answer_ = target_only(x, y)
            self.relevance_, self.counts_ = np.zeros(0), np.zeros((0, 0), np.int64)
            self._n_features_out = x.shape[1]
            return
        parts = {str(names[place]): index == place for place in sources}
        own = ~np.isin(index, sources)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.active_fit_ = active_fit(
            ArraySource(
                {name: x[rows] for name, rows in parts.items()},
                {name: y[rows] for name, rows in parts.items()},
            ),
            x[own],
            y[own],
            budget=self.budget,
            strategy=_STRATEGIES[self.strategy],
            encoder=self._encoder(x.shape[1]),
            rank=self.num_features if self.encoder == "linear" else None,
            seed=seed,
            schedule=self.schedule,
            penalty=self.penalty,
            label_scale=label_scale,
        )
        self._encoder_kind = self.encoder
        self.answer_ = self.active_fit_.answer
        self.relevance_, self.counts_ = self.active_fit_.relevance, self.active_fit_.counts
        self._n_features_out = self.active_fit_.encoder.num_features

    def _encoder(self, num_inputs: int) -> Encoder | None:
        if self.encoder == "linear":
            return None  # of the rank that is wanted, or as many features as the sources can use
        if self.num_features == "aic":
            raise ValueError(
                f"num_features 'aic' is for the encoder 'linear', got {self.encoder!r}: expected a "
                "number or None."
            )
        if self.encoder == "identity":
            return _encoder_of(self.encoder, self.num_features or num_inputs)
        return _encoder_of(self.encoder, self.num_features or _MOST_FEATURES)

    def _own_rows(self, X: Any, y: Any, weight: Any, task: Any) -> tuple[Any, Any, Any]:
        """The target's rows of a test set; all of it where no task is told."""
        check_is_fitted(self)
        if task is None:
            return X, y, weight
        own = np.flatnonzero(np.asarray(task) == self.target_)
        if not len(own):
            raise ValueError(
                f"score found no row of the target {self.target_!r} among task. Use folds that "
                "keep rows of the target in every part, such as StratifiedKFold over the tasks."
            )
        pick = functools.partial(_safe_indexing, indices=own)
        return pick(X), pick(y), None if weight is None else pick(weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32
        return tags


class ActiveMultiTaskRegressor(Regressor, _ActiveMultiTask):
    """Least squares for one target task, with the help of other tasks where it pays.

    `fit(X, y, task=names, target=name)` takes the rows of all tasks; the rows of the others are
    the sources that a campaign buys from (`active_fit`). The predictor is the safe answer: sources
    count as far as they lower the target's leave-one-out error. `fit(X, y)` is ridge on the
    target's rows alone, its strength by exact leave-one-out.

    Inputs should be of order 1: put a `StandardScaler` before. In pipelines and searches, route
    the tasks by `set_fit_request(task=True, target=True)` and `set_score_request(task=True)`, so
    that only rows of the target are scored.

    Args:
      strategy: which samples of the sources are used: `uniform`, `a_mtrl`, `l1_a_mtrl` or
        `c_optimal`.
      num_features: K; "aic", for `linear`: in every fit as many as Akaike's criterion finds, see
        `active_fit`; None: 50 at most, for a linear encoder no more than the sources can use, for
        `identity` the inputs.
      budget: samples of the sources that are used; None: all of them.
      schedule: shares of the budget per round.
      penalty: λ of the fit; None: chosen on held-out rows of the sources.
      encoder: the representation: `linear`, `mlp` (one hidden layer of 256) or `identity`.
      random_state: of the draws and of everything random in the fit.

    Attributes:
      answer_: the target's predictor; see `Answer`. With sources its labels are scaled.
      active_fit_: the campaign; None without sources.
      relevance_: `[M]` how the target's head is composed of the sources'.
      counts_: `[rounds, M]` samples used.
      source_names_: M names, in the order of all lists of M numbers.
      target_: name of the target; None where `fit` was told no tasks.
      n_features_in_: inputs.
    """

    def fit(self, X: Any, y: Any, task: Any = None, target: Any = None) -> Self:
        """Fits the target's predictor.

        Args:
          X: `[n, D]` inputs of all tasks.
          y: `[n]` or `[n, O]` numbers.
          task: `[n]` name of each row's task; None: all rows are the target's.
          target: name of the target among them; may be left out where there is only one.

        Raises:
          ValueError: for settings or arrays that do not fit, fewer than two rows of the target,
            or tasks without a target.
        """
        X, y = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        labels = np.asarray(y, np.float64)
        self._is_vector = labels.ndim == 1
        self._fit(np.asarray(X), labels.reshape(len(labels), -1), task, target, None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the target's labels, `[n]` or `[n, O]` as they came."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._is_vector else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None, task: Any = None) -> float:
        """R² on the rows of the target, or on all rows where no `task` [n] is told."""
        X, y, sample_weight = self._own_rows(X, y, sample_weight, task)
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ActiveMultiTaskClassifier(Classifier, _ActiveMultiTask):
    """Classes by least squares for one target task, with the help of other tasks where it pays.

    Two classes are labels 0 and 1, more are one-hot outputs. Scores are no probabilities, so there
    is `decision_function` and no `predict_proba`.

    The settings, and what is known after `fit`, are those of `ActiveMultiTaskRegressor`.

    Attributes:
      classes_: the classes, of all tasks.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any, task: Any = None, target: Any = None) -> Self:
        """Fits the target's predictor.

        Args:
          X: `[n, D]` inputs of all tasks.
          y: `[n]` classes, numbers or names.
          task: `[n]` name of each row's task; None: all rows are the target's.
          target: name of the target among them; may be left out where there is only one.

        Raises:
          ValueError: for settings or arrays that do not fit, fewer than two rows of the target or
            two classes, or tasks without a target.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        number = len(self.classes_)
        if number < 2:
            raise ValueError(f"Expected at least two classes in y, got one class: {self.classes_}.")
        labels = code[:, None] == np.arange(number)[None] if number > 2 else code[:, None]
        self._fit(np.asarray(X), labels.astype(np.float64), task, target, 1.0)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores: `[n]`, above 0 for the second of two classes; else `[n, C]`, the largest wins."""
        outputs = self._outputs(X)
        return outputs if len(self.classes_) > 2 else outputs[:, 0] - 0.5

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the class of each row, `[n]`."""
        scores = self.decision_function(X)
        code = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)
        return self.classes_[code]

    def score(self, X: Any, y: Any, sample_weight: Any = None, task: Any = None) -> float:
        """Accuracy on the rows of the target, or on all rows where no `task` [n] is told."""
        X, y, sample_weight = self._own_rows(X, y, sample_weight, task)
        return super().score(X, y, sample_weight)


_encoder_of = functools.lru_cache(maxsize=8)(lambda kind, number: _ENCODERS[kind](number))
