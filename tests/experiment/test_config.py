"""Configs: loading, checking, and overriding, all without JAX."""

import dataclasses
import shlex
import subprocess
import sys

import pytest

from amtl_jax import cli
from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    DigitsConfig,
    EncoderConfig,
    FitConfig,
    FloorConfig,
    SyntheticConfig,
    load_config,
    shipped_configs,
    to_plain,
)
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other


def overridden(*overrides, name="synthetic"):
    """The config that `amtl run NAME OVERRIDES` runs."""
    arguments, rest = cli._parser().parse_known_args(["run", name, *overrides])
    return cli._override(load_config(name), arguments, rest)


def assert_one_line(error, *parts):
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("name", list(shipped_configs()))
def test_shipped_config_loads_and_checks(name):
    config = load_config(name)
    check(config)
    assert config.name == name
    assert load_config(str(shipped_configs()[name])) == config
    hash(config)


def test_the_default_job_is_the_documented_one():
    config = load_config("digits_c")
    assert config.data == DigitsConfig(target="fog_3")
    assert (config.budget, config.encoder.num_features) == (15_000, None)
    assert config.schedule == (0.300, 0.147, 0.221, 0.332)
    assert config.arms == ("target_only", "uniform", "a_mtrl", "l1_a_mtrl")


@pytest.mark.parametrize("module", ["amtl_jax.experiment.config", "amtl_jax.cli"])
def test_no_array_library_is_imported(module):
    code = (
        f"import sys, {module}\n"
        "from amtl_jax.experiment.config import load_config\n"
        "load_config('digits_c'), load_config('synthetic')\n"
        "heavy = {'jax', 'jaxlib', 'numpy', 'flax', 'optax', 'scipy'} & set(sys.modules)\n"
        "print(*sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("name", ["digits", "no/such/file.py", "synthetic.txt", "", ".", "x" * 200])
def test_unknown_config_names_the_shipped(name):
    with pytest.raises(ConfigError) as error:
        load_config(name)
    assert_one_line(error, "digits_c", "synthetic", "get_config()")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "get_config()"),
        ("get_config = 3", "get_config()"),
        ("def get_config(): return {}", "returns a Config"),
        ("def get_config(", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def get_config(): return undefined", "NameError"),
        ("def get_config(x): pass", "TypeError"),
        (
            "from amtl_jax.experiment.config import *\n"
            "def get_config(): return Config(name='a', data=None, budgets=3)",
            "budgets",
        ),
        ("\0", "Error"),
    ],
)
def test_bad_config_file(tmp_path, text, part):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert_one_line(error, "mine.py", part)


def test_config_file_with_dataclasses_and_postponed_annotations(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from amtl_jax.experiment.config import Config, SyntheticConfig\n"
        "@dataclasses.dataclass\n"
        "class Sizes:\n"
        "    budget: int = 100\n"
        "def get_config():\n"
        "    return Config(name='mine', data=SyntheticConfig(), budget=Sizes().budget)\n"
    )
    assert load_config(str(path)).budget == 100


def test_overrides_reach_nested_fields():
    config = overridden(
        *shlex.split("--fit.num-steps 7 --data.target fog_4 --seeds 0 1 --arms uniform a_mtrl"),
        *shlex.split("--floor.count 3 --fit.penalty 0.1 --fit.intercept False --schedule 1 2"),
        name="digits_c",
    )
    plain = load_config("digits_c")
    assert config == dataclasses.replace(
        plain,
        data=DigitsConfig(target="fog_4"),
        seeds=(0, 1),
        arms=("uniform", "a_mtrl"),
        floor=FloorConfig(count=3),
        fit=dataclasses.replace(plain.fit, num_steps=7, penalty=0.1, intercept=False),
        schedule=(1.0, 2.0),
    )


def test_overrides_may_stand_around_the_workdir_and_be_negative():
    assert overridden("--seeds", "1", "--workdir", "x", "--data.noise", "-1").data.noise == -1
    assert overridden("--fit.penalty", "None", "--floor.root", "True").floor.root
    assert overridden() == load_config("synthetic")


BAD = [
    ({"budget": 0}, "budget must be at least 1"),
    ({"budget": 2**31}, "budget"),
    ({"budget": 10.0}, "budget must be int, got 10.0"),
    ({"budget": True}, "budget must be int"),
    ({"budget": "100"}, "budget must be int"),
    ({"num_target": 1}, "num_target must be at least 2"),
    ({"arms": ()}, "arms must be distinct and at least one"),
    ({"arms": ("uniform", "uniform")}, "arms must be distinct"),
    ({"arms": ("best",)}, "one of target_only, uniform, a_mtrl, l1_a_mtrl"),
    ({"arms": "uniform"}, "arms must be a tuple"),
    ({"arms": ["uniform"]}, "arms must be a tuple"),
    ({"seeds": ()}, "seeds must be distinct"),
    ({"seeds": (1, 1)}, "seeds must be distinct"),
    ({"seeds": (-1,)}, "seeds must be between 0"),
    ({"seeds": (2**31,)}, "seeds must be between 0"),
    ({"seeds": (0.5,)}, "each item int"),
    ({"name": "../up"}, "name must be"),
    ({"name": ""}, "name must be"),
    ({"name": ".."}, "name must be"),
    ({"name": "a\nb"}, "name must be"),
    ({"name": None}, "name must be str"),
    ({"schedule": ()}, "schedule must be positive"),
    ({"schedule": (1.0, 0.0)}, "schedule must be positive"),
    ({"schedule": (float("nan"),)}, "a finite float"),
    ({"level": 1.0}, "level must be between"),
    ({"level": float("nan")}, "level must be a finite float"),
    ({"num_resamples": 0}, "num_resamples"),
    ({"block_rows": 0}, "block_rows must be at least 1 or None"),
    ({"data": None}, "data must be DigitsConfig or SyntheticConfig"),
    ({"data": SyntheticConfig(scenario="best")}, "one of gauss, one, spread, dup, dup2"),
    ({"data": SyntheticConfig(noise=float("inf"))}, "data.noise must be a finite float"),
    ({"data": SyntheticConfig(truth_seed=-1)}, "data.truth_seed must be between"),
    ({"data": SyntheticConfig(num_test=1)}, "data.num_test"),
    ({"data": DigitsConfig(pool_seed=-1)}, "data.pool_seed must be between"),
    ({"encoder": EncoderConfig(num_features=0)}, "encoder.num_features must be at least 1"),
    ({"fit": FitConfig(num_steps=0)}, "fit.num_steps"),
    ({"fit": FitConfig(tolerance=-1.0)}, "fit.tolerance"),
    ({"fit": FitConfig(learning_rate=0.0)}, "fit.learning_rate"),
    ({"fit": FitConfig(method="sgd")}, "one of lbfgs, variable_projection"),
    ({"fit": FitConfig(penalty=-1.0)}, "fit.penalty"),
    ({"fit": FitConfig(penalties=(1e-3, 1e-2))}, "fit.penalties must be positive, strongest"),
    ({"fit": FitConfig(penalties=())}, "fit.penalties"),
    ({"fit": FitConfig(intercept=1)}, "fit.intercept must be bool"),
    ({"floor": FloorConfig(count=0.5)}, "floor.count must be int or None"),
    ({"floor": {}}, "floor must be FloorConfig"),
]


@pytest.mark.parametrize(
    ("changes", "part"), BAD, ids=[f"{part}-{i}" for i, (_, part) in enumerate(BAD)]
)
def test_bad_values_are_named(changes, part):
    config = dataclasses.replace(load_config("synthetic"), **changes)
    with pytest.raises(ConfigError) as error:
        check(config)
    assert_one_line(error, part)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        check(dataclasses.replace(load_config("synthetic"), budget=0, level=2.0))
    assert_one_line(error, "budget", "level")


def test_claim_and_refusal(tmp_path):
    config = load_config("synthetic")
    refuse_other(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()
    claim(tmp_path, config)
    before = (tmp_path / "config.json").read_bytes()
    refuse_other(tmp_path, config)
    other = dataclasses.replace(config, budget=5, fit=dataclasses.replace(config.fit, penalty=0.5))
    with pytest.raises(ConfigError) as error:
        refuse_other(tmp_path, other)
    assert_one_line(
        error, "budget: there 8000, here 5", "fit.penalty: there None, here 0.5", "--workdir"
    )
    with pytest.raises(ConfigError, match=r"data.kind: there 'SyntheticConfig', here 'DigitsConfi"):
        refuse_other(tmp_path, dataclasses.replace(config, data=DigitsConfig()))
    assert (tmp_path / "config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "[" * 100_000, "\udcff"])
def test_unreadable_config_json(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as error:
        refuse_other(tmp_path, load_config("synthetic"))
    assert_one_line(error, "config.json" if text in ("", "{") else str(tmp_path))


def test_another_version_is_another_run(tmp_path, monkeypatch):
    config = load_config("synthetic")
    claim(tmp_path, config)
    name = fingerprint(config)
    monkeypatch.setattr("amtl_jax.__version__", "9.9.9")
    assert fingerprint(config) != name
    with pytest.raises(ConfigError, match=r"amtl_jax: there '.*', here '9.9.9'"):
        refuse_other(tmp_path, config)


def test_fingerprint_tells_kinds_of_data_apart():
    configs = [
        Config(name="a", data=DigitsConfig()),
        Config(name="a", data=SyntheticConfig()),
        Config(name="b", data=DigitsConfig()),
    ]
    assert len({fingerprint(config) for config in configs}) == 3
    assert to_plain(configs[0])["data"]["kind"] == "DigitsConfig"
