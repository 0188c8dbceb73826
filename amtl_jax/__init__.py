"""Active multi-task representation learning: which source tasks help, and how much to draw.

Public names resolve on first use (PEP 562), so `import amtl_jax` costs nothing by itself.
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "types": (
        "Diagnosis Encoder Evidence FitResult Fitter HeadPrior Heads HeadStats Learner "
        "LearnerState Proposal Relevance RoundInfo Strategy TaskBatch"
    ),
    "packing": "max_blocks pack",
    "heads": "add_stats head_stats predict_heads solve_heads",
    "refinement": "refine_heads",
    "target": "LooRidge TargetFit fit_target loo_ridge",
    "relevance": "basis_pursuit lasso min_norm",
    "allocation": "allocate",
    "planning": "round_floor split_budget",
    "risk": "Risk first_order_risk",
    "best_split": "BestAllocation RequiredBudget best_allocation required_samples saving",
    "sparsity": (
        "ApproximateSparsity FirstOrderComparison approximate_sparsity compare_with_first_order"
    ),
    "theory": (
        "BoundSetting ExplorationThreshold SampleBound bound_setting exploration_threshold "
        "risk_bound sample_bound"
    ),
    "metrics": (
        "accuracy balanced_accuracy excess_risk mean_squared_error r_squared representation_risk "
        "roc_auc subspace_distance"
    ),
    "bootstrap": "Estimate Interval paired_bootstrap unpaired_bootstrap",
    "clustered": "ClusteredMean clustered_mean",
    "posterior": (
        "HeadPosterior RelevanceInterval draw_heads head_posterior relevance_draws "
        "relevance_interval"
    ),
    "label_noise": "noise_variance",
    "design": "Design Limits c_optimal_design",
    "knowledge": "HeadDraws Knowledge draw_knowledge head_knowledge",
    "forecast": "PredictedRisk known_heads predicted_risk",
    "encoders.modules": "check_rows module_encoder",
    "encoders.linear": "LinearEncoder linear_encoder",
    "encoders.mlp": "MLPEncoder mlp_encoder",
    "encoders.conv": "ConvEncoder Convolution conv_encoder convolve max_pool",
    "encoders.identity": "IdentityEncoder identity_encoder",
    "encoders.scaled": "ScaledInputs scaled_encoder",
    "encoding": "encode encode_live encode_rows",
    "fitting.lbfgs": "lbfgs_fitter",
    "fitting.gram": "fit_moments gram_fitter",
    "fitting.moments": "TaskMoments",
    "fitting.rank": "RankChoice choose_rank rank_warning",
    "fitting.variable_projection": "variable_projection_fitter",
    "fitting.minibatch": "minibatch_fitter",
    "fitting.joint_descent": "joint_descent_fitter",
    "fitting.frozen": "frozen_fitter",
    "fitting.penalty": "fit_with_penalty",
    "streaming": "PackedChunks stream_moments stream_stats",
    "strategies.uniform": "uniform",
    "strategies.a_mtrl": "a_mtrl",
    "strategies.alignment": "alignment_rule",
    "strategies.l1_a_mtrl": "l1_a_mtrl",
    "strategies.c_optimal": "c_optimal",
    "strategies.known_relevance": "known_relevance",
    "strategies.one_of": "choose one_of",
    "label_alignment": "alignment",
    "head_prior": "fit_head_prior prior_design",
    "answer": "Answer answer_template fit_answer predict_answer",
    "diagnosis": "diagnose whitening_root",
    "round_plan": "Floor",
    "plan_split": "plan_allocation",
    "plans": "Plan plan",
    "plan_money": "NextMoney next_money samples_for",
    "plan_ahead": "Payoff adaptivity_pays",
    "learner": "active_learner",
    "fitted": "ActiveFit",
    "in_memory": "active_fit",
    "estimators": "ActiveMultiTaskClassifier ActiveMultiTaskRegressor",
    "data.sources": "ArraySource Rows TaskSource",
    "data.callable": "CallableSource",
    "data.scenarios": "SCENARIOS SyntheticTruth synthetic_truth",
    "data.synthetic": "SyntheticSource",
    "data.columns": "Column TableError",
    "data.tables": "Table read_table",
    "data.shipped_tables": "shipped_table",
    "data.features": "Feature",
    "data.schema": "Schema encode_table fit_schema",
    "data.labels": "LabelSpec",
    "data.table_tasks": "TableTasks table_tasks",
    "experiment.campaign": "Campaign open_campaign start_campaign",
    "experiment.campaign_types": (
        "CampaignError Delivery DeliveryError Receipt Refused Request Status"
    ),
    "experiment.config": "Config ConfigError FloorConfig StudyConfig",
    "experiment.data_config": "DigitsConfig MnistCConfig SyntheticConfig TableConfig",
    "experiment.fit_config": "EncoderConfig FitConfig",
    "experiment.loading": "load_config",
    "experiment.model": "Model load",
    "experiment.model_files": "ModelError",
    "experiment.plan_config": "plan_config",
    "experiment.plan_run": "plan_run",
    "experiment.predicting": "predict_file",
    "experiment.run": "run",
    "experiment.result": "RunResult read_result",
    "experiment.study.driver": "study",
    "experiment.study.observer": "StudyObserver",
    "experiment.study.outputs": "StudyResult",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Imports the module that defines a public name when the name is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
