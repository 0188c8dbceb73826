"""What a run says: lines per round, the table of arms, and whether the sources paid."""

from amtl_jax.experiment.evaluate import LOWER_IS_BETTER

NO_DIFFERENCE = "no measurable difference"
_PERCENT = {"accuracy", "balanced_accuracy", "auc"}
_LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "auc": "AUC",
    "mse": "MSE",
    "excess_risk": "excess risk",
    "representation_risk": "repr. risk",
}


def value_text(metric: str, value: float | None) -> str:
    """Formats a metric: shares in percent, the rest as it is."""
    if value is None:
        return "-"
    return f"{100 * value:.2f}%" if metric in _PERCENT else f"{value:.4g}"


def round_line(record: dict, num_rounds: int, source_names: tuple[str, ...], top: int = 3) -> str:
    """Tells a round in one line: samples spent, losses, target metrics, top sources."""
    metrics = "  ".join(
        f"{_LABELS[name]} {value_text(name, value)}"
        for name, value in record["target"].items()
        if name != "balanced_accuracy"
    )
    start = f"seed {record['seed']}  {record['strategy']:<12}"
    if not record["counts"]:
        return f"{start}no source samples{'':>31}{metrics}"
    best = ", ".join(f"{name} {nu:+.2f}" for name, nu in top_sources(record, source_names, top))
    return (
        f"{start}round {record['round'] + 1}/{num_rounds}  {record['samples_total']:>7,} samples  "
        f"train loss {record['train_loss']:.4f}  {metrics}  top: {best}"
    )


def top_sources(record: dict, names: tuple[str, ...], number: int) -> list[tuple[str, float]]:
    """Returns the sources of largest |nu| with their nu, largest first."""
    order = sorted(range(len(names)), key=lambda task: -abs(record["nu"][task] or 0.0))
    return [(names[task], record["nu"][task]) for task in order[:number]]


def verdict(metric: str, interval: dict) -> str:
    """Says in words what a paired interval shows; one that contains 0 shows nothing."""
    low, high = interval["low"], interval["high"]
    if low is None or high is None or low <= 0 <= high:
        return NO_DIFFERENCE
    better = (low > 0) != (metric in LOWER_IS_BETTER)
    return "better" if better else "worse"


def interval_text(metric: str, interval: dict) -> str:
    """Formats a difference with its interval; shares in percentage points."""
    values = [interval[name] for name in ("difference", "low", "high")]
    if any(value is None for value in values):
        return "undefined"
    scale, form = (100, "{:+.2f}") if metric in _PERCENT else (1, "{:+.3g}")
    middle, low, high = (form.format(scale * value) for value in values)
    return f"{middle} [{low}, {high}]"


def final_table(summary: dict) -> str:
    """Builds the table of arms with paired intervals against uniform and target-only."""
    strategies = summary["strategies"]
    metrics = list(next(iter(strategies.values()))["target"])
    primary = metrics[0]
    bases = [name for name in ("uniform", "target_only") if name in strategies]
    header = ["arm", "samples", *(_LABELS[name] for name in metrics)]
    header += [f"{_LABELS[primary]} vs {base}" for base in bases]
    rows = [header]
    for arm, result in strategies.items():
        row = [arm, f"{result['samples_total']:,}"]
        row += [value_text(name, result["target"][name]) for name in metrics]
        for base in bases:
            interval = result["difference"].get(base, {}).get(primary)
            if interval is None:
                row.append("")
                continue
            row.append(f"{interval_text(primary, interval)} {verdict(primary, interval)}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def payoff_sentence(summary: dict) -> str:
    """Says in one sentence whether the sources paid, for the arm chosen without test rows."""
    arm, strategies = summary["chosen_arm"], summary["strategies"]
    if arm is None or "target_only" not in strategies:
        return "Run the arms target_only and one that buys samples to learn whether sources pay."
    primary = next(iter(strategies[arm]["target"]))
    interval = strategies[arm]["difference"]["target_only"][primary]
    unit = " points" if primary in _PERCENT else ""
    what = f"{_LABELS[primary]} {interval_text(primary, interval)}{unit} against target_only"
    samples = f"{strategies[arm]['samples_total']:,} source samples"
    found = verdict(primary, interval)
    if found == NO_DIFFERENCE:
        return f"The sources made no measurable difference: {arm}, {samples}, {what}."
    paid = "paid" if found == "better" else "did harm"
    return f"The sources {paid}: {arm}, {samples}, {what}."
