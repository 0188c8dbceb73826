"""What `amtl plan` prints."""

from typing import Any

from amtl_jax.experiment.text_table import table_lines

_MOST_SOURCES = 10
_NAMES = ("uniform", "a_mtrl", "l1_a_mtrl", "c_optimal")


def workdir_text(found: dict[str, Any]) -> str:
    """A plan of a workdir: table, wanted risk, next allocation, labels or sources, stop."""
    parts = [_start(found), *_curve(found)]
    parts += ["", *_saving_lines(found)]
    if found["wanted"]:
        parts += ["", *_wanted_lines(found)]
    if found["next"]:
        parts += ["", *_next_lines(found), *_label_lines(found), _stop_line(found)]
    else:
        parts += ["", "All samples of the sources are bought: there is no next money to plan for."]
    return "\n".join([*parts, "", *found["notes"]])


def config_text(found: dict[str, Any]) -> str:
    """A plan before anything is bought."""
    unit = found["unit"]
    lines = [
        f"{found['name']}: target {found['target']}, {found['num_sources']} sources, "
        f"{found['num_inputs']} inputs, {found['num_features']} features, {found['num_target']} "
        "target samples; nothing is bought yet",
        f"assumed: Gaussian heads of size 1, label noise of standard deviation {found['noise']:g} "
        "beside it (--noise)",
        "",
    ]
    rows = [[unit, "adaptive / uniform risk [95%]", "runs it loses", "pays"]]
    for point in found["curve"]:
        ratio = f"{point['ratio']:.2f} [{point['low']:.2f}, {point['high']:.2f}]"
        lost = f"{100 * point['worse_than_uniform']:.1f}%"
        rows.append([_money(point["budget"]), ratio, lost, "yes" if point["pays"] else "no"])
    lines += [*table_lines(rows), "", _verdict(found)]
    lines.append(
        "Paying means: less risk of the representation for the same money, exploration charged, "
        "and in at least 95% of runs. A representation that does not fit the tasks can make it "
        "pay later or never."
    )
    return "\n".join(lines)


def _verdict(found: dict[str, Any]) -> str:
    unit, smallest, curve = found["unit"], found["smallest"], found["curve"]
    if smallest is None:
        text = (
            f"Adaptivity is not predicted to pay at any budget up to {_money(curve[-1]['budget'])} "
            f"{unit}."
        )
    elif smallest == curve[0]["budget"]:
        text = "Adaptivity is predicted to pay at every budget of the table."
    else:
        text = (
            f"Adaptivity is predicted to pay from about {_money(smallest)} {unit} on; below that, "
            "exploration may cost more than it saves: buy uniformly."
        )
    own = min(curve, key=lambda point: abs(point["budget"] - found["budget"]))
    return (
        f"{text}\nWith {_money(own['budget'])} {unit}, the budget of the config, it leaves "
        f"{own['ratio']:.2f} of uniform's risk on average, and loses in "
        f"{100 * own['worse_than_uniform']:.0f}% of runs."
    )


def _start(found: dict[str, Any]) -> str:
    rounds = found["rounds"]
    lines = [
        f"{found['name']}: target {found['target']}, arm {found['arm']}, seed {found['seed']}, "
        f"after {rounds} round{'s' * (rounds > 1)} and {_money(found['spent'])} {found['unit']} "
        f"over {found['num_sources']} sources",
        f"predicted excess risk [{100 * found['level']:g}% of runs], squared label units; "
        f"{found['head']:.3g} of it is left by the {found['num_target']} target samples",
    ]
    if found["measured"]:
        risk, part = (found["measured"][name] for name in ("risk", "representation"))
        of = "" if part is None else f", {part:.3g} of it the representation's"
        lines.append(f"measured against the known truth after the last round: {risk:.3g}{of}")
    return "\n".join([*lines, ""])


def _curve(found: dict[str, Any]) -> list[str]:
    rows = [[found["unit"], *_NAMES]]
    for point in found["curve"]:
        cells = (point[rule] for rule in _NAMES)
        texts = [f"{one['risk']:.3g} [{one['low']:.2g}, {one['high']:.2g}]" for one in cells]
        rows.append([_money(point["budget"]), *texts])
    return table_lines(rows)


def _saving_lines(found: dict[str, Any]) -> list[str]:
    next_ = found["next"]
    budget = found["spent"] + (next_["money"] if next_ else 0)
    point = next(one for one in found["curve"] if one["budget"] >= budget * (1 - 1e-6))
    best, saving = point["best"], point["saving"]
    worse = 100 * point[best]["worse_than_uniform"]
    more = "no amount of money" if saving is None else f"{saving:.3g} times the money"
    first = f"At {_money(point['budget'])} {found['unit']} {best} is predicted best: for its risk "
    lines = [
        f"{first}uniform from the start needs {more}; it does worse than uniform in {worse:.0f}% "
        "of runs."
    ]
    if best == "uniform":
        lines = [
            f"At {_money(point['budget'])} {found['unit']} no rule is predicted to beat uniform."
        ]
    return [*lines, "The column uniform is from scratch; the others keep what was bought."]


def _wanted_lines(found: dict[str, Any]) -> list[str]:
    wanted, unit = found["wanted"], found["unit"]
    risk = wanted["risk"]
    if risk <= found["head"]:
        return [
            f"A risk of {risk:g} is out of reach by source samples: {found['num_target']} target "
            f"samples alone leave {found['head']:.3g}."
        ]
    texts = [
        f"{rule} {'never' if money is None else _money(money)}"
        for rule, money in wanted["money"].items()
    ]
    return [f"A risk of {risk:g} needs in all, in {unit}: {', '.join(texts)}."]


def _next_lines(found: dict[str, Any]) -> list[str]:
    next_, unit = found["next"], found["unit"]
    ordered = sorted(next_["counts"].items(), key=lambda item: -item[1])
    bought = [item for item in ordered if item[1]]
    number = sum(next_["counts"].values())
    lines = [
        f"The next {_money(next_['money'])} {unit}, by {next_['rule']}: {number:,} samples of "
        f"{len(bought)} source{'s' * (len(bought) > 1)}"
    ]
    rows = [["source", "buy"], *([name, f"{count:,}"] for name, count in bought[:_MOST_SOURCES])]
    lines += table_lines(rows)
    if len(bought) > _MOST_SOURCES:
        lines.append(f"  and {len(bought) - _MOST_SOURCES} more; plan.json has all")
    return lines


def _label_lines(found: dict[str, Any]) -> list[str]:
    next_ = found["next"]
    price = next_["break_even_label_price"]
    if next_["label_price"] is None:
        if not price:
            return ["Source samples are the better buy at any price of a target label."]
        return [f"Target labels are the better buy where one costs less than {price:.3g}."]
    values = f"{next_['risk_with_labels']:.3g} against {next_['risk_with_sources']:.3g}"
    better = {"labels": "target labels", "sources": "source samples"}[next_["better"]]
    turn = f"; the other way round below {price:.3g}" if next_["better"] == "sources" else ""
    if next_["better"] == "sources" and not price:
        turn = ""
    return [
        f"Spend it on {better}: with labels at {next_['label_price']:g} each the risk becomes "
        f"{values} with source samples{turn}."
    ]


def _stop_line(found: dict[str, Any]) -> str:
    next_, unit = found["next"], found["unit"]
    how = " spent on labels" if next_["better"] == "labels" else ""
    text = (
        f"Another {_money(next_['money'])} {unit}{how} are predicted to lower the risk by "
        f"{100 * next_['improvement']:.2g}%"
    )
    if next_["stop"]:
        return f"{text}, less than {100 * next_['least']:g}%: a good place to stop."
    return f"{text}: going on pays."


def _money(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"
