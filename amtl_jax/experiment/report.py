"""What a run says: lines per round, the table of arms, and whether the sources paid."""

from typing import TYPE_CHECKING, Any

from amtl_jax.experiment.evaluate import LOWER_IS_BETTER
from amtl_jax.experiment.expectation import expectation_sentence

if TYPE_CHECKING:
    from amtl_jax.experiment.observer import Plan

NO_DIFFERENCE = "no measurable difference"
UNDEFINED = "undefined"
BASES = ("uniform", "target_only", "pooled")  # what arms are compared with
_ANSWER = "answer"
_SAME_AS_ANOTHER = {"r2"}  # its differences are those of the MSE, in other units
_PERCENT = {"accuracy", "balanced_accuracy", "auc"}
_LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "auc": "AUC",
    "mse": "MSE",
    "r2": "R²",
    "excess_risk": "excess risk",
    "representation_risk": "repr. risk",
}
_PARTS = {
    "inputs": "ridge on the inputs, which uses no source",
    "features": "a head on the features",
    "both": "ridge on inputs and features",
    "prior": "the sources' prior of heads",
}


def value_text(metric: str, value: float | None) -> str:
    """Formats a metric: shares in percent, the rest as it is."""
    if value is None:
        return "-"
    return f"{100 * value:.2f}%" if metric in _PERCENT else f"{value:.4g}"


def label(metric: str) -> str:
    """Returns what a metric is called in tables and figures."""
    return _LABELS[metric]


def plan_line(plan: "Plan") -> str:
    """Tells in one line what a run is about to do."""
    rounds = max(plan.num_rounds.values())
    return (
        f"{plan.name}: target {plan.target}, {len(plan.source_names)} sources, a budget of "
        f"{plan.budget:,} an arm in {rounds} round{'s' * (rounds > 1)}, {plan.num_target} target "
        f"samples, on {plan.device}"
    )


def round_line(
    record: dict[str, Any], num_rounds: int, source_names: tuple[str, ...], top: int = 3
) -> str:
    """Tells a round in one line: samples spent, losses, target metrics, top sources."""
    metrics = "  ".join(
        f"{_LABELS[name]} {value_text(name, value)}"
        for name, value in record["target"].items()
        if name != "balanced_accuracy"
    )
    start = f"seed {record['seed']}  {record['strategy']:<12}"
    if not record["counts"]:
        samples = record["samples_total"]
        text = f"all {samples:,} source samples" if samples else "no source samples"
        return f"{start}{text:<48}{metrics}"
    best = ", ".join(f"{name} {nu:+.2f}" for name, nu in top_sources(record, source_names, top))
    return (
        f"{start}round {record['round'] + 1}/{num_rounds}  {record['samples_total']:>7,} samples  "
        f"train loss {value_text('loss', record['train_loss'])}  {metrics}  top: {best or 'none'}"
    )


def top_sources(
    record: dict[str, Any], names: tuple[str, ...], number: int
) -> list[tuple[str, float]]:
    """Returns the sources of largest |nu| with their nu, largest first; unknown nu are left out."""
    known = [(name, nu) for name, nu in zip(names, record["nu"], strict=True) if nu is not None]
    return sorted(known, key=lambda pair: -abs(pair[1]))[:number]


def verdict(metric: str, interval: dict[str, Any]) -> str:
    """Says in words what a paired interval shows; one that contains 0 shows nothing."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return UNDEFINED
    if low <= 0 <= high:
        return NO_DIFFERENCE
    better = (low > 0) != (metric in LOWER_IS_BETTER)
    return "better" if better else "worse"


def interval_text(metric: str, interval: dict[str, Any]) -> str:
    """Formats a difference with its interval; shares in percentage points."""
    values = [interval[name] for name in ("difference", "low", "high")]
    if any(value is None for value in values):
        return UNDEFINED
    middle, low, high = (_signed(metric, value) for value in values)
    return f"{middle} [{low}, {high}]"


def _signed(metric: str, value: float) -> str:
    """A signed number that reads as 0 only where it is 0: else a verdict would look wrong."""
    if metric not in _PERCENT:
        return f"{value:+.3g}"
    text = f"{100 * value:+.2f}"
    return f"{100 * value:+.1g}" if value and not float(text) else text


def final_table(summary: dict[str, Any]) -> str:
    """Builds the table of arms, and under it one of paired differences for each metric."""
    results = results_of(summary)
    metrics = list(next(iter(results.values()))["target"])
    rows = [["arm", "samples", *(_LABELS[name] for name in metrics)]]
    for arm, result in results.items():
        values = [value_text(name, result["target"].get(name)) for name in metrics]
        rows.append([arm, f"{result['samples_total']:,}", *values])
    bases = [name for name in BASES if name in results]
    tables = [_aligned(rows)]
    for metric in metrics:
        if metric in _SAME_AS_ANOTHER:
            continue
        rows = [["arm", *(f"{_LABELS[metric]} vs {base}" for base in bases)]]
        for arm, result in results.items():
            found = [result["difference"].get(base, {}).get(metric) for base in bases]
            if any(found):
                rows.append([arm, *(_difference_text(metric, interval) for interval in found)])
        if len(rows) > 1:
            tables.append(_aligned(rows))
    return "\n\n".join(tables)


def results_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The arms by name, and the answer behind them."""
    answer = summary["answer"]
    return summary["strategies"] | ({_ANSWER: answer} if answer else {})


def _difference_text(metric: str, interval: dict[str, Any] | None) -> str:
    if interval is None:
        return ""
    texts = interval_text(metric, interval), verdict(metric, interval)
    return " ".join(dict.fromkeys(texts))  # "undefined" once


def _aligned(rows: list[list[str]]) -> str:
    """Lays out rows in columns, a rule under the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def closing(summary: dict[str, Any]) -> str:
    """Builds what a run ends with: tables, why, whether the sources paid and a rule should."""
    evidence = summary["evidence"]
    over = " and seeds" if len(summary["seeds"]) > 1 else ", for these draws of samples"
    note = (
        f"Paired {100 * evidence['level']:g}% bootstrap intervals over {evidence['test_rows']:,} "
        f"test rows{over}."
    )
    sentences = [rank_sentence(summary), diagnosis_sentence(summary)]
    lines = [
        f"{final_table(summary)}\n{note}",
        relevance_table(summary),
        "\n".join(
            filter(None, [*sentences, payoff_sentence(summary), expectation_sentence(summary)])
        ),
    ]
    return "\n\n".join(filter(None, lines))


def relevance_table(summary: dict[str, Any]) -> str:
    """Builds the table of the sources that help most, with posterior intervals."""
    found = summary["relevance"]
    if not found:
        return ""
    level = 100 * summary["evidence"]["level"]
    rows = [["source", f"relevance [{level:g}%]", "samples"]]
    for one in found:
        ends = [one[name] for name in ("relevance", "low", "high")]
        text = UNDEFINED if None in ends else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*ends)
        rows.append([one["source"], text, f"{one['samples']:,.0f}"])
    rest = summary["num_sources"] - len(found)
    more = f"\nand {rest:,} more; the whole table is in metrics.jsonl" if rest else ""
    return f"{_aligned(rows)}{more}"


def diagnosis_sentence(summary: dict[str, Any]) -> str:
    """Says what the answer is made of, and how far the source heads could explain the target's."""
    answer = summary["answer"]
    if not answer:
        return ""
    shares = {name: share for name, share in answer["shares"].items() if share}
    parts = [
        f"{100 * share:.0f}% {_PARTS[name]}"
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
        if share >= 0.005
    ]
    found, num_features = answer["diagnosis"], answer["num_features"]
    values = found["effective_rank"], found["smallest_singular_value"], found["unexplained"]
    start = f"The answer is stacked on {answer['arm']}: {', '.join(parts)}."
    if None in values:
        return start
    rank, smallest, missing = values
    largest = found["largest_singular_value"] or 1.0
    return (
        f"{start} The source heads spread over {rank:.1f} of {num_features:g} directions "
        f"(effective rank; smallest singular value {smallest:.2g}, largest {largest:.2g}) and "
        f"leave {100 * missing:.0f}% of the target's head, as its own rows show it, unexplained."
    )


def rank_sentence(summary: dict[str, Any]) -> str:
    """Says which rank AIC chose, or warns where the given one looked too small."""
    rank = summary.get("rank")  # runs of earlier versions have none
    if not rank:
        return ""
    if rank["is_chosen"] and summary["answer"]:
        over = ", the mean over seeds" if len(summary["seeds"]) > 1 else ""
        return f"AIC chose K = {summary['answer']['num_features']:g} features{over}."
    return f"Warning: {rank['warning']}" if rank["warning"] else ""


def payoff_sentence(summary: dict[str, Any]) -> str:
    """Says in one sentence whether the sources paid: the answer against no sources at all."""
    answer = summary["answer"]
    if answer is None or "target_only" not in answer["difference"]:
        return "Run the arms target_only and one that buys samples to learn whether sources pay."
    primary = next(iter(answer["target"]))
    interval = answer["difference"]["target_only"][primary]
    unit = " points" if primary in _PERCENT else ""
    what = f"{_LABELS[primary]} {interval_text(primary, interval)}{unit} against target_only"
    samples = f"the answer with {answer['samples_total']:,} source samples of {answer['arm']}"
    found = verdict(primary, interval)
    if found == UNDEFINED:
        return f"Whether the sources paid is undefined: {samples}, {what}."
    if found == NO_DIFFERENCE:
        return f"The sources made no measurable difference: {samples}, {what}."
    paid = "paid" if found == "better" else "did harm"
    return f"The sources {paid}: {samples}, {what}."
