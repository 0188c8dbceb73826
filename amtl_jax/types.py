"""Shapes and contracts that every room of the library shares. Imports nothing of ours.

Axis letters, used in every docstring:

    M source tasks      N samples bought so far     D inputs       K features
    O outputs           B blocks                    R rows of a block
    T target tasks      S posterior draws or seeds

The learner carries the target as one more task behind the sources: wherever it holds a
`TaskBatch`, tasks `0 … M-1` are the sources and task `M` is the target, or tasks `M … M+T-1` are
T targets.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

Array = jax.Array
Numbers = ArrayLike | Sequence[float]  # as people give them: a number, an array or a list
Params = Any  # a tree of arrays: what an encoder or a strategy keeps


class TaskBatch(NamedTuple):
    """Samples of many tasks, packed in blocks; all rows of a block belong to one task.

    Attributes:
      x: `[B, R, ...]` inputs: floats, or images as bytes (uint8), which stand for x/255 and are
        made floats a few rows at a time.
      y: `[B, R, O]` float targets.
      weight: `[B, R]` float sample weight, 0 for padding rows and missing labels.
      task: `[B]` int32 task of each block, non-decreasing, in `[0, num_tasks)`.
    """

    x: Array
    y: Array
    weight: Array
    task: Array


class HeadStats(NamedTuple):
    """Sufficient statistics of all heads; they add over batches, rounds and devices.

    Attributes:
      gram: `[M, K, K]` Σ ω φφᵀ.
      moment: `[M, K, O]` Σ ω φyᵀ.
      energy: `[M, O]` Σ ω y².
      feature_sum: `[M, K]` Σ ω φ.
      label_sum: `[M, O]` Σ ω y.
      count: `[M]` Σ ω.
    """

    gram: Array
    moment: Array
    energy: Array
    feature_sum: Array
    label_sum: Array
    count: Array


class Heads(NamedTuple):
    """Linear heads, `y ≈ features @ weight + bias`.

    Attributes:
      weight: `[M, K, O]`.
      bias: `[M, O]` unpenalised intercept; zeros when fitted without one.
      residual_variance: `[M, O]` residual sum of squares over its degrees of freedom
        (count − trace of the hat matrix, at least 1).
    """

    weight: Array
    bias: Array
    residual_variance: Array


class Relevance(NamedTuple):
    """How the target head is composed of source heads, with the solver's certificate.

    Attributes:
      nu: `[M]` coefficients, `Σ_m nu_m w_m ≈ w_target`.
      residual: `[]` ‖W nu − w_target‖₂ / ‖w_target‖₂ (0 for a zero target).
      gap: `[]` certificate of optimality: relative duality gap (lasso, basis pursuit) or
        relative stationarity residual (min_norm). 0 is optimal.
      ok: `[]` bool, False where the solver missed its tolerance or the input was not finite.
    """

    nu: Array
    residual: Array
    gap: Array
    ok: Array


class Evidence(NamedTuple):
    """All that a strategy may look at after a round; a plain tree of arrays.

    A learner of T targets gives `target_head`, `target_stats`, `alignment`, `target_loss` and
    `target_ridge` a leading axis `[T]`: the target head's weight is then `[T, K, O]`. All
    statistics, heads and noises are those of unweighted rows, whatever the weights of the fit.

    Attributes:
      source_heads: heads of the M sources.
      target_head: the target's head, leading axis dropped: weight `[K, O]`, bias `[O]`.
      source_stats: head statistics of the sources, on the features of this round's fit.
      target_stats: the target's, leading axis dropped.
      alignment: `[M]` correlation of the target's labels with each source head's prediction
        on the target sample, averaged over outputs.
      noise: `[M]` residual variance of each source, averaged over outputs.
      target_loss: `[]` exact leave-one-out squared error of the target head; a bandit's reward
        is how much it fell since its last update.
      target_ridge: `[]` ridge of the target head, chosen by exact leave-one-out.
      ridge: `[]` ridge of the source heads in this fit, λN. Where the fit weighs tasks by their
        noise a head's ridge is in proportion to it, and λN that of the mean weight.
      held_out_loss: `[]` squared error of the source heads on rows held out of the fit that
        chose λ; NaN where λ was given.
      input_dim: `[]` D, so that a rule can count the free parameters of a linear encoder.
      intercept: `[]` bool, whether heads have an unpenalised intercept.
      spent: `[M]` int32 samples bought so far.
      price: `[M]` price of one sample.
      capacity: `[M]` int32 samples that a task can give in all.
      group: `[M]` int32 in `[0, M)`; sources of one number are bought together, paid once.
      floor: `[]` int32 samples that every task gets in the next round.
      budget: `[]` budget of the next round (0 after the last).
      key: PRNG key of this update.
    """

    source_heads: Heads
    target_head: Heads
    source_stats: HeadStats
    target_stats: HeadStats
    alignment: Array
    noise: Array
    target_loss: Array
    target_ridge: Array
    ridge: Array
    held_out_loss: Array
    input_dim: Array
    intercept: Array
    spent: Array
    price: Array
    capacity: Array
    group: Array
    floor: Array
    budget: Array
    key: Array


class Proposal(NamedTuple):
    """What a strategy wants bought next. It never rounds: `allocate` does.

    Attributes:
      scores: `[M]` non-negative. All zero asks for the uniform split.
      cumulative: `[]` bool. False: the next round's counts above the floor are ∝ scores (the
        papers' rules). True: scores are wanted totals, the learner buys
        `max(scores − spent, floor)`.
      relevance: the relevance behind the scores, for people and logs. Of T targets its leaves
        have a leading `[T]`, but for a rule that knows no target.
    """

    scores: Array
    cumulative: Array
    relevance: Relevance


class Strategy(NamedTuple):
    """A rule that turns evidence into the next round's proposal.

    Attributes:
      init: `num_sources -> (Proposal, state)`. The first proposal is used before any evidence:
        zero scores for rules that explore, the wanted split for rules that know.
      update: `(Evidence, state) -> (Proposal, state)`, pure; called after every round, the last
        one too, so that a rule can learn from what its own draw brought.
      schedule: shares of the total budget per round; None: the learner's.
      target_in_fit: whether the relevance fit has the target as one more task.
    """

    init: Callable[[int], tuple[Proposal, Params]]
    update: Callable[[Evidence, Params], tuple[Proposal, Params]]
    schedule: tuple[float, ...] | None = None
    target_in_fit: bool = False


class Encoder(NamedTuple):
    """A representation `phi: x -> R^K` as two pure functions.

    Attributes:
      init: `(key, x [n, *input_shape]) -> params`.
      apply: `(params, x [n, *input_shape]) -> features [n, K]`; rows do not meet each other.
      num_features: K.
      chunk_rows: rows that are encoded at a time where no gradient is wanted; None: all.
    """

    init: Callable[[Array, Array], Params]
    apply: Callable[[Params, Array], Array]
    num_features: int
    chunk_rows: int | None = None


class FitResult(NamedTuple):
    """A fitted representation with its heads.

    Attributes:
      params: the encoder's parameters.
      heads: `[M, K, O]` closed-form ridge heads on the fitted features, ridge λN; those of
        `joint_descent_fitter` are where its descent ended.
      stats: head statistics on the fitted features.
      objective: `[]` (1/N) Σ ω (y − c − phi(x)ᵀw)² + λ(‖phi‖² + ‖W‖²).
      loss: `[]` its first term, the weighted mean squared error.
      gradient_norm: `[]` norm of the objective's gradient where the fit stopped, relative to
        the norm where it started.
      steps: `[]` int32 gradient passes over the data; a pass of minibatches counts as one.
      ok: `[]` bool, all of it finite.
    """

    params: Params
    heads: Heads
    stats: HeadStats
    objective: Array
    loss: Array
    gradient_norm: Array
    steps: Array
    ok: Array


class MomentFit(NamedTuple):
    """A fit that needs of its samples nothing but their second moments, `TaskMoments`.

    Attributes:
      init: `(moments, penalty) -> params`, a starting point.
      fit: `(params, moments, penalty) -> FitResult`: that of the samples, up to rounding.
      error: `(FitResult, moments) -> []`, its mean squared error on other samples of the tasks.
    """

    init: Callable[[Any, Array], Params]
    fit: Callable[[Params, Any, Array], FitResult]
    error: Callable[[FitResult, Any], Array]


class Fitter(NamedTuple):
    """A way to fit a representation; the same signature for every encoder and optimiser.

    Attributes:
      init: `(key, batch, penalty) -> params`, a starting point.
      fit: `(params, batch, penalty) -> FitResult`.
      encoder: the encoder whose parameters are fitted.
      num_tasks: tasks of the batches it fits; a learner's are M + 1.
      intercept: whether heads have an unpenalised intercept.
      warm_path: whether the fits along a path of λ start from each other. A network that a
        strong λ has switched off has hardly a gradient that would switch it on again.
      of_moments: the same fit without the samples; None where it needs them.
    """

    init: Callable[[Array, TaskBatch, Array], Params]
    fit: Callable[[Params, TaskBatch, Array], FitResult]
    encoder: Encoder
    num_tasks: int
    intercept: bool
    warm_path: bool = True
    of_moments: MomentFit | None = None


class LearnerState(NamedTuple):
    """What the next round needs, and what is checkpointed. Holds no rows and no keys.

    Attributes:
      round: `[]` int32 rounds told so far.
      spent: `[M]` int32 samples bought so far: those told as bought or, unless told, the rows of
        positive weight.
      paid: `[]` what was paid for them so far: int32 samples, or float32 money where there are
        prices.
      proposal: what the strategy wants next.
      strategy_state: the strategy's own state.
      params: encoder parameters of the last fit.
      penalty: `[]` λ, NaN until the first round chose it.
      held_out_loss: `[]` held-out squared error at the chosen λ, NaN where λ was given.
      target_head: the target's head of the last fit: weight `[K, O]`, bias `[O]`; of T targets
        with a leading `[T]`.
      task_noise: `[M + 1]` noise variance of every task relative to the pooled one, by which the
        last fit weighed them, the target's last, or the T targets'; ones unless it weighs noise.
    """

    round: Array
    spent: Array
    paid: Array
    proposal: Proposal
    strategy_state: Params
    params: Params
    penalty: Array
    held_out_loss: Array
    target_head: Heads
    task_noise: Array


class Diagnosis(NamedTuple):
    """Whether the sources' heads could explain the target's.

    Heads are measured by their predictions: in coordinates in which the pooled within-task
    covariance of the features is the identity.

    Attributes:
      singular_values: `[min(K, M·O)]` of the source heads, largest first.
      effective_rank: `[]` exp of the entropy of the singular values' shares: how many directions
        the heads spread over.
      unexplained: `[]` share of the target head's predictions, in norm, that no combination of
        directions explains which the sources use: 0 to 1.
    """

    singular_values: Array
    effective_rank: Array
    unexplained: Array


class HeadPrior(NamedTuple):
    """A Gaussian that the heads of all sources are drawn from, and the noise of their labels.

    P coefficients a head: the K slopes and, with an intercept, what it predicts at `center`.

    Attributes:
      mean: `[P, O]`.
      root: `[P, P, O]`, the covariance of each output being `root rootᵀ`.
      noise: `[O]` variance of the labels around their task's head.
      center: `[K]` mean features of the sources; zeros without an intercept.
    """

    mean: Array
    root: Array
    noise: Array
    center: Array


class RoundInfo(NamedTuple):
    """What a person wants to know about a round, and what is logged.

    Of T targets `relevance`, `alignment`, `target_ridge`, `target_loss` and `diagnosis` have a
    leading axis `[T]`, and some of the evidence.

    Attributes:
      counts: `[M]` int32 samples bought in this round.
      fit: the fit of this round, without its parameters and statistics (both are None).
      relevance: the relevance behind the next proposal.
      alignment: `[M]` see `Evidence`.
      target_ridge: `[]` the target head's ridge, chosen by exact leave-one-out.
      target_loss: `[]` its leave-one-out squared error.
      penalty: `[]` λ in use.
      penalty_losses: `[G]` held-out squared error over the λ grid; NaN where none was tried.
      head_prior: what the sources' heads say of a head that has no row yet; for the answer.
      diagnosis: whether the source heads could explain the target's.
      evidence: what the strategy looked at, without its key (None).
      is_finite: `[]` bool: fit, target head and loss, alignment and scores are finite.
    """

    counts: Array
    fit: FitResult
    relevance: Relevance
    alignment: Array
    target_ridge: Array
    target_loss: Array
    penalty: Array
    penalty_losses: Array
    head_prior: HeadPrior
    diagnosis: Diagnosis
    evidence: Evidence
    is_finite: Array


class Tell(Protocol):
    """The type of `Learner.tell`."""

    def __call__(
        self,
        key: Array,
        state: LearnerState,
        batch: TaskBatch,
        bought: Numbers | None = None,
        paid: ArrayLike | None = None,
    ) -> tuple[LearnerState, RoundInfo]:
        """Fits a round; see `Learner`."""
        ...


class Learner(NamedTuple):
    """One round as two pure functions; the samples may live on device, on disk or with a person.

    Attributes:
      init: `(key, batch) -> LearnerState`; `batch` gives shapes and dtypes only.
      ask: `(key, state) -> counts [M]` int32, what to buy in the next round.
      tell: `(key, state, batch, bought=None, paid=None) -> (LearnerState, RoundInfo)`; `batch`
        holds everything bought so far and the target's sample as task M, packed. `bought` `[M]`
        are the samples paid for so far, those without a label too; None: the rows of positive
        weight. `paid` `[]` is what they cost; None: their price, for a group once.
      budgets: budget of each round.
      floors: floor of each round, samples per task.
      fit_sources: `(key, state, batch) -> PenaltyFit`, the first half of a fit: that of the sources
        alone. Campaigns that differ in the target alone can share it.
      fit: `(key, state, batch, chosen=None) -> RoundFit`, the fits of a round; `chosen` is what
        `fit_sources` gave. Only this depends on the shape of the batch.
      conclude: `(key, state, fits, bought, paid=None) -> (LearnerState, RoundInfo)`, what the fits
        say; `tell` is `conclude` behind `fit`.
    """

    init: Callable[[Array, TaskBatch], LearnerState]
    ask: Callable[[Array, LearnerState], Array]
    tell: Tell
    budgets: tuple[float, ...]
    floors: tuple[int, ...]
    fit_sources: Callable[..., Any]
    fit: Callable[..., Any]
    conclude: Callable[..., tuple[LearnerState, RoundInfo]]
