"""`amtl plan`: of runs, of campaigns, and of configs before anything is bought."""

import dataclasses
import json
import shutil

import pytest
from campaigns import Collector, prepare_once, tiny_campaign
from test_cli import amtl, assert_one_line
from tiny_runs import TINY, files_of, metrics_of, tiny

from amtl_jax.experiment import campaign_fit
from amtl_jax.experiment.campaign import start_campaign
from amtl_jax.experiment.config import ConfigError, EncoderConfig
from amtl_jax.experiment.expectation import expectation_of
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.plan_config import plan_config
from amtl_jax.experiment.plan_figure import draw_plan
from amtl_jax.experiment.plan_run import notes_of, plan_run
from amtl_jax.experiment.plan_text import config_text, workdir_text
from amtl_jax.experiment.rounds import prepare

RULES = ("uniform", "a_mtrl", "l1_a_mtrl", "c_optimal")
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def planned(whole, tmp_path_factory):
    """A copy of the finished run, and the plan of its first arm and seed."""
    workdir = shutil.copytree(whole[0], tmp_path_factory.mktemp("planned") / "run")
    return workdir, plan_run(workdir, arm="l1_a_mtrl")


def test_a_plan_predicts_risk_by_budget_and_rule(planned):
    found = planned[1]
    assert found["arm"] == "l1_a_mtrl"
    assert (found["rounds"], found["spent"], found["unit"]) == (3, 200, "samples")
    budgets = [point["budget"] for point in found["curve"]]
    assert budgets == [200, 300, 400, 600, 1000, 2000]
    for point in found["curve"]:
        for rule in RULES:
            one = point[rule]
            assert 0 < one["low"] < one["risk"] < one["high"]
            ends = one["representation_low"], one["representation_high"]
            assert 0 < ends[0] < one["representation"] < ends[1]
            assert one["risk"] == pytest.approx(found["head"] + one["representation"], rel=1e-4)
        assert point["best"] in RULES
        assert point["uniform"]["worse_than_uniform"] == 0
    for rule in RULES:
        risks = [point[rule]["risk"] for point in found["curve"]]
        assert risks == sorted(risks, reverse=True)
    last = [record for record in metrics_of(planned[0]) if record["strategy"] == "l1_a_mtrl"][2]
    assert found["measured"]["risk"] == last["target"]["excess_risk"]
    assert found["measured"]["representation"] == last["target"]["representation_risk"]


def test_the_next_allocation_is_whole_and_costs_the_money(planned):
    next_ = planned[1]["next"]
    assert next_["money"] == 200  # the budget is spent: as much again
    assert sum(next_["counts"].values()) == 200
    assert all(isinstance(count, int) and count >= 0 for count in next_["counts"].values())
    assert list(next_["counts"]) == [f"source_{index}" for index in range(5)]
    assert 0 < next_["risk_with_sources"] < next_["risk_now"]
    assert next_["risk_with_labels"] is None
    assert planned[1]["wanted"] is None


def test_the_command_prints_the_plan_and_writes_it(capsys, planned):
    workdir, before = planned[0], files_of(planned[0])
    code, out, err = amtl(capsys, "plan", str(workdir), "--arm", "l1_a_mtrl")
    assert expectation_of(workdir) in out
    assert "by leave-one-out error" in out
    assert (code, err) == (0, "")
    assert out.startswith("tiny: target dup target, arm l1_a_mtrl, seed 0, after 3 rounds")
    assert workdir_text(planned[1]) in out
    for part in ("The next 200 samples", "source_", "Target labels are the better buy", "Another"):
        assert part in out
    written = json.loads((workdir / "plan.json").read_text())
    assert written.keys() == planned[1].keys()
    assert workdir_text(written) == workdir_text(planned[1])
    assert (workdir / "plan.png").read_bytes().startswith(PNG)
    after = files_of(workdir)
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after.keys() - before} == {"plan.json", "plan.png"}


def test_questions_have_answers(capsys, planned, tmp_path):
    workdir, first = planned
    risk = first["curve"][2]["c_optimal"]["risk"]
    price = 0.5 * first["next"]["break_even_label_price"]
    asked = f"--arm l1_a_mtrl --risk {risk} --label-price {price} --stop 99 --budget 200".split()
    out_folder = tmp_path / "new" / "plans"
    code, out, err = amtl(capsys, "plan", str(workdir), *asked, "--out", str(out_folder))
    assert (code, err) == (0, "")
    found = json.loads((out_folder / "plan.json").read_text())
    assert (out_folder / "plan.png").read_bytes().startswith(PNG)
    money = found["wanted"]["money"]
    assert money["c_optimal"] == pytest.approx(400, rel=0.01)
    assert money["uniform"] > money["c_optimal"]
    assert found["next"]["better"] == "labels"
    assert found["next"]["risk_with_labels"] < found["next"]["risk_with_sources"]
    assert found["next"]["stop"]
    assert "Spend it on target labels" in out
    assert "a good place to stop" in out
    assert f"A risk of {risk:g} needs in all" in out


def test_a_risk_that_the_target_sample_rules_out(planned):
    found = planned[1]
    impossible = found | {"wanted": {"risk": 0.9 * found["head"], "money": dict.fromkeys(RULES)}}
    assert "out of reach by source samples" in workdir_text(impossible)
    never = found | {"wanted": {"risk": 2 * found["head"], "money": dict.fromkeys(RULES)}}
    assert "uniform never, a_mtrl never" in workdir_text(never)
    assert draw_plan(never) is not None
    done = found | {"next": None}
    assert "no next money" in workdir_text(done)


def test_a_run_that_goes_on_is_planned_from_its_last_finished_round(copied):
    for arm in ("c_optimal", "l1_a_mtrl"):
        shutil.rmtree(copied / "checkpoints" / "seed_1" / arm, ignore_errors=True)
    (copied / "checkpoints" / "seed_1" / "a_mtrl" / "round_2.ckpt").unlink()
    (copied / "summary.json").unlink()
    found = plan_run(copied, seed=1)
    assert (found["arm"], found["seed"], found["rounds"]) == ("a_mtrl", 1, 2)
    assert found["spent"] == 150
    assert found["next"]["money"] == 50  # what is left of the budget


def test_the_default_arm_is_the_safest(copied):
    found = plan_run(copied)
    arms = tiny().arms
    assert found["arm"] == ("c_optimal" if "c_optimal" in arms else "l1_a_mtrl")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("plan", ["Give WORKDIR or CONFIG"]),
        ("plan --risk 1", ["Give WORKDIR or CONFIG"]),
        ("plan nowhere", ["'nowhere' is neither a workdir nor a config", "synthetic"]),
        ("plan {empty}", ["holds no run", "config.json"]),
        ("plan {run} --arm best", ["--arm must be one of uniform", "'best'"]),
        ("plan {run} --seed 7", ["--seed must be one of 0, 1, got 7"]),
        ("plan {run} --seed x", ["--seed", "'x'"]),
        ("plan {run} --risk 0", ["--risk expects a positive number, got 0"]),
        ("plan {run} --risk nan", ["--risk expects a positive number, got nan"]),
        ("plan {run} --stop 100", ["--stop expects a percentage below 100"]),
        ("plan {run} --noise 1", ["--noise belongs to a CONFIG"]),
        ("plan {run} --riks 1", ["Unknown option --riks. Did you mean --risk?"]),
        ("plan {run} again", ["Unexpected 'again'"]),
        ("plan {run} --out=", ["--out expects a folder"]),
        ("plan {run} --budget 1e12", ["--budget is 1e+12, but all samples left cost"]),
        ("plan synthetic --arm uniform", ["--arm belongs to a WORKDIR"]),
        ("plan synthetic --nois 3", ["Unknown option --nois. Did you mean --noise?"]),
        ("plan synthetic --noise 0", ["--noise expects a positive number, got 0"]),
    ],
)
def test_wrong_usage_is_one_line(capsys, planned, tmp_path, argv, parts):
    argv = argv.format(run=planned[0], empty=tmp_path)
    code, out, err = amtl(capsys, *argv.split())
    assert (code, out) == (2, "")
    assert_one_line(err, *parts)


def test_help_names_every_option(capsys):
    code, out, err = amtl(capsys, "plan", "--help")
    assert (code, err) == (0, "")
    for flag in ("--risk", "--budget", "--label-price", "--stop", "--arm", "--out", "--noise"):
        assert flag in out


def test_a_workdir_that_cannot_be_planned_says_why(capsys, copied):
    shutil.rmtree(copied / "checkpoints")
    code, _, err = amtl(capsys, "plan", str(copied))
    assert code == 2
    assert_one_line(err, "no finished round", "Run it first", "config.json")

    path = copied / "config.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"amtl_jax": "0.0.1"}))
    code, _, err = amtl(capsys, "plan", str(copied))
    assert code == 2
    assert err.endswith("A plan needs the data and the version of the run.\n")


def test_a_damaged_round_is_named(capsys, copied):
    arm = tiny().arms[-1]
    path = copied / "checkpoints" / "seed_0" / arm / "round_2.ckpt"
    path.write_bytes(path.read_bytes()[:-50])
    code, _, err = amtl(capsys, "plan", str(copied), "--arm", arm)
    assert code == 2
    assert_one_line(err, "round_2.ckpt", "amtl run makes it again")


def test_a_given_representation_has_nothing_to_plan():
    with pytest.raises(ConfigError, match="nothing to learn"):
        plan_config(tiny(encoder=EncoderConfig(kind="identity")))
    with pytest.raises(ConfigError, match="nothing to learn"):
        plan_config(tiny(encoder=EncoderConfig(num_features=6)))


def test_a_config_is_planned_before_anything_is_bought(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TINY)
    argv = ("plan", str(path), "--budget", "2000", "--num-target", "40", "--noise", "0.5")
    code, out, err = amtl(capsys, *argv, "--out", str(tmp_path / "plan"))
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert (tmp_path / "plan" / "plan.png").read_bytes().startswith(PNG)
    assert [point["budget"] for point in found["curve"]] == [125 * 2**i for i in range(9)]
    sizes = [found[f"num_{name}"] for name in ("sources", "inputs", "features", "target")]
    assert sizes == [5, 6, 3, 40]
    assert found["noise"] == 0.5
    assert found["curve"][-1]["ratio"] < 1
    assert out.startswith("tiny: target dup target, 5 sources, 6 inputs, 3 features, 40 target")
    assert config_text(found) in out
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py", "plan"}


def test_the_verdict_on_a_config_says_from_where_on_it_pays():
    point = {"ratio": 0.9, "low": 0.8, "high": 1.0, "worse_than_uniform": 0.3, "pays": False}
    curve = [point | {"budget": 100.0}, point | {"budget": 200.0, "pays": True, "ratio": 0.5}]
    found = {
        "name": "x", "target": "y", "unit": "samples", "num_sources": 3, "num_inputs": 4,
        "num_features": 2, "num_target": 5, "budget": 100, "noise": 1.0, "curve": curve,
    }  # fmt: skip
    text = config_text(found | {"smallest": 200.0})
    assert "pay from about 200 samples on" in text
    assert "leaves 0.90 of uniform's risk on average, and loses in 30% of runs" in text
    assert "at every budget of the table" in config_text(found | {"smallest": 100.0})
    assert "not predicted to pay at any budget up to 200" in config_text(found | {"smallest": None})


def test_a_campaign_is_planned_from_its_last_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign_fit, "prepare", prepare_once)
    config, workdir = tiny_campaign(), tmp_path / "campaign"
    campaign = start_campaign(config, workdir)
    code, _, err = amtl(capsys, "plan", str(workdir))
    assert code == 2
    assert_one_line(err, "has no fit yet")

    collector = Collector(config)
    campaign.tell(collector.rows(campaign.ask().counts))
    code, out, err = amtl(capsys, "plan", str(workdir))
    assert (code, err) == (0, "")
    found = json.loads((workdir / "plan.json").read_text())
    assert (found["arm"], found["rounds"], found["spent"]) == (config.arms[0], 1, 100)
    assert found["next"]["money"] == 100
    assert "after 1 round and 100 samples" in out
    code, _, err = amtl(capsys, "plan", str(workdir), "--seed", "3")
    assert code == 2
    assert_one_line(err, "--seed 0 alone, got 3")


def test_a_campaign_plans_as_the_run_of_the_same_samples(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(campaign_fit, "prepare", prepare_once)
    config = tiny_campaign()
    campaign = start_campaign(config, tmp_path / "campaign")
    collector = Collector(config)
    while (request := campaign.ask()) is not None:
        campaign.tell(collector.rows(request.counts))
    own = plan_run(tmp_path / "campaign")
    run = plan_run(whole[0], arm=config.arms[0])
    assert own["rounds"] == run["rounds"] == 3
    for point, other in zip(own["curve"], run["curve"], strict=True):
        for rule in RULES:
            assert point[rule]["risk"] == pytest.approx(other[rule]["risk"], rel=0.02)


def test_classes_and_networks_are_told_what_is_left_out(planned):
    (usual,) = planned[1]["notes"]
    assert "misfit" in usual
    setting = prepare(tiny(), Observer())
    assert notes_of(setting) == [usual]
    classes = setting._replace(problem=setting.problem._replace(kind="binary"))
    first, last = notes_of(classes)
    assert "not rates of wrong decisions" in first
    assert last == usual
    network = dataclasses.replace(setting.config, encoder=EncoderConfig(kind="mlp"))
    assert "ranks allocations at best" in notes_of(setting._replace(config=network))[0]
