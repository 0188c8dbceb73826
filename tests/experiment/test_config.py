"""Configs: loading, checking, and overriding, all without JAX."""

import dataclasses
import json
import shlex
import subprocess
import sys

import pytest

import amtl_jax
from amtl_jax.experiment import loading
from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    DigitsConfig,
    EncoderConfig,
    FitConfig,
    FloorConfig,
    MnistCConfig,
    StudyConfig,
    SyntheticConfig,
    from_plain,
    to_plain,
)
from amtl_jax.experiment.loading import (
    first_line,
    load,
    load_config,
    make_encoder,
    shipped_configs,
)
from amtl_jax.experiment.overrides import explain, options_of, override
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other


def overridden(*overrides, name="synthetic"):
    """The config that `amtl run NAME OVERRIDES` runs."""
    return override(load_config(name), overrides)


def assert_one_line(error, *parts):
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# What the command gives.
A_TABLE = {"path": "some.csv", "task_column": "task", "target_task": "a", "label": ("y",)}
NEED_FILES = dict.fromkeys(("table", "school", "parkinsons"), (r"data\.path", A_TABLE))
NEED_FILES |= {
    name: (r"data\.root", {"root": "mnist_c"}) for name in shipped_configs() if "mnist_c" in name
}


@pytest.mark.parametrize("name", list(shipped_configs()))
def test_shipped_config_loads_and_checks(name):
    config = load_config(name)
    if name in NEED_FILES:
        message, data = NEED_FILES[name]
        with pytest.raises(ConfigError, match=message):
            check(config)
        check(dataclasses.replace(config, data=dataclasses.replace(config.data, **data)))
    else:
        check(config)
    assert config.name == name
    assert load_config(str(shipped_configs()[name])) == config
    hash(config)


def test_the_default_job_is_the_documented_one():
    config = load_config("digits_c")
    assert config.data == DigitsConfig(target="fog_3")
    assert (config.budget, config.encoder.num_features) == (15_000, None)
    assert config.schedule == (0.300, 0.147, 0.221, 0.332)
    assert config.arms == ("target_only", "uniform", "a_mtrl", "l1_a_mtrl", "c_optimal")


@pytest.mark.parametrize("module", ["amtl_jax.experiment.config", "amtl_jax.cli"])
def test_no_array_library_is_imported(module):
    code = (
        f"import sys, {module}\n"
        "from amtl_jax.experiment.loading import load_config\n"
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
        ("1 / 0", "mine.py failed: ZeroDivisionError: division by zero."),
        ("import sys; sys.exit('bye')", "mine.py failed: SystemExit: bye."),
        ("def get_config(): raise SystemExit", "mine.py failed: SystemExit."),
        ("raise MemoryError", "mine.py failed: MemoryError."),
        ("raise ValueError('Enough.')", "mine.py failed: ValueError: Enough."),
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
    assert not str(error.value).endswith("..")


def test_a_missing_package_is_told_with_the_file_that_wants_it(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import no_such_package")
    with pytest.raises(ImportError, match=r"mine\.py: No module named 'no_such_package'"):
        load_config(str(path))
    path.write_text(MODULE + "def get_encoder(): import no_such_package")
    with pytest.raises(ImportError, match=r"get_encoder\(\): No module named 'no_such_package'"):
        make_encoder(load(str(path)))


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


def test_overrides_may_be_negative_or_none_or_joined_to_their_option():
    assert overridden("--seeds", "1", "--data.noise", "-1").data.noise == -1
    assert overridden("--fit.num_steps=7").fit.num_steps == 7
    assert overridden("--fit.penalty", "None", "--floor.root", "True").floor.root
    assert overridden() == load_config("synthetic")


def test_an_option_of_the_other_data_is_told():
    with pytest.raises(ConfigError) as error:
        overridden("--data.target", "fog_1")
    assert_one_line(error, "--data.target", "DigitsConfig and MnistCConfig", "SyntheticConfig")


def test_every_value_is_explained():
    for data in (DigitsConfig(), MnistCConfig(), SyntheticConfig()):
        config = Config(name="a", data=data)
        for option in options_of(config):
            assert option.text, option.flag
        told = explain(config)
        assert told.count("[default: ") + told.count("[default:\n") == len(options_of(config))
        assert type(data).__name__ in told
        before, _, of_a_study = told.partition("Values of a study (amtl study):")
        assert "--study." not in before
        assert "--study.batch" in of_a_study


def test_written_config_is_read_back(tmp_path):
    config = dataclasses.replace(
        load_config("digits_c"),
        seeds=(3, 1),
        floor=FloorConfig(share=0.5),
        encoder=EncoderConfig(kind="mlp", widths=(8, 4)),
    )
    for one in (config, load_config("synthetic")):
        folder = tmp_path / one.name
        claim(folder, one)
        loaded = load(str(folder / "config.json"))
        assert loaded == (one, None, None)
        refuse_other(folder, loaded.config)
        hash(loaded.config)


def test_a_written_config_may_be_partial(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"name": "a", "data": {"kind": "DigitsConfig"}, "fit": {"num_steps": 3}}')
    expected = Config(name="a", data=DigitsConfig(), fit=FitConfig(num_steps=3))
    assert load_config(str(path)) == expected
    assert from_plain(to_plain(expected)) == expected


def written(**changes):
    return json.dumps({"name": "a", "data": {"kind": "SyntheticConfig"}} | changes)


BAD_JSON = [
    ("", "not a config"),
    ("[1]", "not a config: it holds list"),
    ("3", "not a config: it holds int"),
    ("{", "not a config"),
    ("[" * 200_000, "nested too deeply"),
    ('{"a":' * 100_000, "nested too deeply"),
    (written(data={"kind": "SyntheticConfig", "noise": 10**400}), "data.noise must be a finite"),
    (written(seeds=["x" * 9000]), "xxx …"),
    ("9" * 5000, "not a config"),
    (" " * 1_000_001, "1,000,001 bytes"),
    ('{"name": "a", "name": "b"}', "field 'name' is there twice"),
    (written(budget=float("nan")), "NaN is not a number"),
    (written(level=float("-inf")), "Infinity is not a number"),
    ('{"name": "a", "data": {"kind": "SyntheticConfig", "noise": 1e999}}', "data.noise"),
    (written(budgets=3), "Unknown field budgets; known: name, data, num_target, budget"),
    (written(fit={"steps": 3}), "Unknown field fit.steps; known: method, num_steps"),
    (written(data={"kind": "SyntheticConfig", "target": "a"}), "Unknown field data.target"),
    (written(data={"kind": "Config"}), "data.kind must be one of DigitsConfig, MnistCConfig"),
    (written(data={}), "data.kind must be one of"),
    (written(data={"kind": ["DigitsConfig"]}), "data.kind must be one of"),
    (written(data=None), "data must be DigitsConfig or MnistCConfig"),
    ('{"name": "a"}', "Field data is missing"),
    ("{}", "is missing"),
    (written(budget="100"), "budget must be int or None, got '100'"),
    (written(budget=True), "budget must be int or None"),
    (written(budget=1.5), "budget must be int or None"),
    (written(fit=3), "fit must be FitConfig"),
    (written(seeds=[0, "1"]), "seeds must be a tuple"),
    (written(seeds={"0": 1}), "seeds must be a tuple"),
    (written(encoder={"kind": "cnn"}), "one of linear, mlp, conv"),
    (written(encoder={"kind": "module"}), "get_encoder()"),
    ('{"name": "\\ud800", "data": {"kind": "SyntheticConfig"}}', "name must be"),
]


@pytest.mark.parametrize(
    ("text", "part"), BAD_JSON, ids=[f"{part[:30]}-{i}" for i, (_, part) in enumerate(BAD_JSON)]
)
def test_bad_written_config_is_one_line(tmp_path, text, part):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert_one_line(error, "config.json", part)


def test_a_depth_that_only_the_parser_of_json_stands(tmp_path, monkeypatch):
    """How deep each may go depends on the version of Python."""

    def too_deep(plain):
        raise RecursionError

    monkeypatch.setattr(loading, "from_plain", too_deep)
    path = tmp_path / "config.json"
    path.write_text(written())
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert_one_line(error, "config.json is not a config: it is nested too deeply")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert_one_line(error, "not a config")


def test_nothing_in_a_written_config_is_executed(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(written(name="__import__('os').mkdir('x')"))
    with pytest.raises(ConfigError, match="name must be"):
        load(str(path))
    assert [one.name for one in tmp_path.iterdir()] == ["config.json"]


def test_a_config_of_another_version_comes_with_a_note(tmp_path, monkeypatch):
    claim(tmp_path, load_config("synthetic"))
    monkeypatch.setattr(amtl_jax, "__version__", "9.9.9")
    loaded = load(str(tmp_path / "config.json"))
    assert loaded.config == load_config("synthetic")
    assert "9.9.9" in loaded.note
    assert "\n" not in loaded.note


def test_a_folder_is_told_where_its_config_is(tmp_path):
    claim(tmp_path, load_config("synthetic"))
    with pytest.raises(ConfigError) as error:
        load(str(tmp_path))
    assert_one_line(error, str(tmp_path / "config.json"))


MODULE = """
from amtl_jax.experiment.config import Config, EncoderConfig, SyntheticConfig

def get_config():
    return Config(name="mine", data=SyntheticConfig(), encoder=EncoderConfig(kind="module"))
"""


def test_get_encoder_is_called_when_it_is_wanted(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        MODULE + "calls = []\ndef get_encoder():\n    calls.append(1)\n    return calls\n"
    )
    loaded = load(str(path))
    check(loaded.config)
    assert make_encoder(loaded) == [1]
    linear = dataclasses.replace(loaded.config, encoder=EncoderConfig())
    assert make_encoder(loaded._replace(config=linear)) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "define get_encoder()"),
        ("def get_encoder(): return 1 / 0", "ZeroDivisionError"),
        ("def get_encoder(): raise SystemExit('bye')", "get_encoder() failed: SystemExit: bye."),
        ("def get_encoder(): pass", "get_encoder() returned None: return an instance of your"),
        ("get_encoder = 3", "get_encoder() as a function"),
    ],
)
def test_bad_get_encoder(tmp_path, text, part):
    path = tmp_path / "mine.py"
    path.write_text(MODULE + text)
    with pytest.raises(ConfigError) as error:
        make_encoder(load(str(path)))
    assert_one_line(error, part)


def test_first_lines_are_read_not_executed(tmp_path):
    for path in shipped_configs().values():
        assert first_line(path).endswith((".", "?"))
    path = tmp_path / "mine.py"
    path.write_text('"""What it is.\n\nMore."""\nraise SystemExit\n')
    assert first_line(path) == "What it is."


BAD = [
    ({"budget": 0}, "budget must be at least 1"),
    ({"budget": 2**31}, "budget"),
    ({"budget": 10.0}, "budget must be int or None, got 10.0"),
    ({"budget": True}, "budget must be int or None"),
    ({"budget": "100"}, "budget must be int or None"),
    ({"num_target": 1}, "num_target must be at least 2"),
    ({"arms": ()}, "arms must be at least one, got none."),
    ({"arms": ("uniform", "uniform")}, "arms must be distinct, got uniform, uniform."),
    ({"arms": ("pooled", "uniform")}, "arms must be without pooled"),
    ({"arms": ("best",)}, "one of target_only, pooled, uniform, a_mtrl, l1_a_mtrl, c_optimal"),
    ({"arms": "uniform"}, "arms must be a tuple"),
    ({"arms": ["uniform"]}, "arms must be a tuple"),
    ({"seeds": ()}, "seeds must be at least one, got none."),
    ({"seeds": (1, 1)}, "seeds must be distinct, got 1, 1."),
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
    ({"data": None}, "data must be DigitsConfig or MnistCConfig"),
    ({"data": SyntheticConfig(scenario="best")}, "one of gauss, one, spread, dup, dup2"),
    ({"data": SyntheticConfig(noise=float("inf"))}, "data.noise must be a finite float"),
    ({"data": SyntheticConfig(truth_seed=-1)}, "data.truth_seed must be at least 0"),
    ({"data": SyntheticConfig(num_test=1)}, "data.num_test"),
    ({"data": DigitsConfig(pool_seed=-1)}, "data.pool_seed must be at least 0"),
    ({"data": MnistCConfig()}, "one of data.root (the folder of MNIST-C) and data.tfds (the data"),
    ({"data": MnistCConfig(root="a", tfds="b")}, "is needed, got both"),
    ({"data": MnistCConfig(root="")}, "data.root must be a folder, got ''"),
    ({"data": MnistCConfig(root="a", num_source=0)}, "data.num_source must be at least 1"),
    ({"data": MnistCConfig(root="a", num_pool=1)}, "data.num_pool must be at least 2"),
    ({"data": MnistCConfig(root="a", num_test=0)}, "data.num_test must be at least 1"),
    ({"data": MnistCConfig(root="a", split_seed=2**31)}, "data.split_seed must be at most"),
    ({"data": MnistCConfig(root=3)}, "data.root must be str or None, got 3"),
    ({"price": "shared"}, "price must be each; shared is for images, got 'shared'"),
    ({"price": "free"}, "price must be one of each, shared, got 'free'"),
    ({"rounds": "first"}, "rounds must be one of pooled, last"),
    ({"fit": FitConfig(window=1)}, "fit.window must be at least 2, got 1"),
    ({"study": StudyConfig(targets=("fog_3", "fog_3"))}, "study.targets must be distinct"),
    ({"study": StudyConfig(targets=("",))}, "study.targets must be names of tasks such as fog_3"),
    ({"study": StudyConfig(arms=())}, "study.arms must be at least one, got none"),
    ({"study": StudyConfig(arms=("uniform",) * 2)}, "study.arms must be distinct"),
    (
        {"study": StudyConfig(arms=("best",))},
        "alignment, same_digit, all_data, clairvoyant, or package.module",
    ),
    ({"study": StudyConfig(arms=("target_only", "clairvoyant"))}, "chooses among the other arms"),
    ({"study": StudyConfig(arms=("pooled",))}, "study.arms must be of target_only, uniform"),
    ({"study": StudyConfig(arms=("mine:rule()",))}, "got 'mine:rule()'"),
    ({"study": StudyConfig(arms=(":rule",))}, "got ':rule'"),
    ({"study": StudyConfig(budgets=(0,))}, "study.budgets must be at least 1"),
    ({"study": StudyConfig(budgets=(2**31 - 20,))}, "study.budgets must be at most"),
    ({"study": StudyConfig(budgets=(9, 9))}, "study.budgets must be distinct, got 9, 9"),
    ({"study": StudyConfig(target_samples=(1,))}, "study.target_samples must be at least 2"),
    ({"study": StudyConfig(seeds=(-1,))}, "study.seeds must be at least 0"),
    ({"study": StudyConfig(seeds=(2**31,))}, "study.seeds must be at most 2147483647"),
    ({"study": StudyConfig(batch=0)}, "study.batch must be at least 1 or None, got 0"),
    ({"study": StudyConfig(batch=1.5)}, "study.batch must be int or None, got 1.5"),
    ({"encoder": EncoderConfig(num_features=0)}, "encoder.num_features must be at least 1"),
    ({"encoder": EncoderConfig(num_features="bic")}, "must be int or aic or None, got 'bic'"),
    ({"encoder": EncoderConfig(kind="mlp", num_features="aic")}, "aic is for the linear encoder"),
    (
        {
            "encoder": EncoderConfig(num_features="aic"),
            "fit": FitConfig(method="variable_projection"),
        },
        "aic is for the linear encoder, fitted by lbfgs: give a number for encoder.kind 'linear'",
    ),
    ({"target_in_final_fit": None}, "target_in_final_fit must be bool, got None"),
    ({"fit": FitConfig(weigh_noise=1)}, "fit.weigh_noise must be bool, got 1"),
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
    ({"floor": FloorConfig(count=-1)}, "floor.count must be at least 0 or None, got -1"),
    ({"floor": FloorConfig(share=1.5)}, "floor.share must be at most 1 or None, got 1.5"),
    ({"floor": FloorConfig(share=0.1, root=True)}, "at most one of floor.count, floor.share and"),
    ({"floor": FloorConfig(count=0, share=0.0)}, "at most one of floor.count, floor.share and"),
    ({"encoder": EncoderConfig(module="Own()")}, "encoder.module is filled in by run"),
    # Too large for the integers and floats of arrays, or for any machine.
    ({"data": SyntheticConfig(noise=10**400)}, "data.noise must be a finite float"),
    ({"data": SyntheticConfig(noise=10**5000)}, "got a very large int"),
    ({"data": SyntheticConfig(noise=1e39)}, "data.noise must be at most 3.4e+38"),
    ({"data": SyntheticConfig(num_tasks=2**31)}, "data.num_tasks must be at most 1000000"),
    ({"data": SyntheticConfig(input_dim=2**31)}, "data.input_dim must be at most"),
    ({"data": SyntheticConfig(num_features=2**31)}, "data.num_features must be at most"),
    ({"data": SyntheticConfig(num_test=2**31)}, "data.num_test must be at most"),
    ({"encoder": EncoderConfig(num_features=2**31)}, "encoder.num_features must be at most"),
    ({"encoder": EncoderConfig(kind="mlp", widths=(8, 2**31))}, "encoder.widths must be at most"),
    ({"fit": FitConfig(num_steps=2**31)}, "fit.num_steps must be at most 2147483647"),
    ({"fit": FitConfig(batch_rows=2**31)}, "fit.batch_rows must be at most"),
    ({"fit": FitConfig(patience=2**31)}, "fit.patience must be at most"),
    ({"fit": FitConfig(tolerance=1e39)}, "fit.tolerance must be at most"),
    ({"fit": FitConfig(penalty=1e39)}, "fit.penalty must be at most"),
    ({"fit": FitConfig(penalties=(1e39, 1.0))}, "fit.penalties must be at most"),
    ({"fit": FitConfig(learning_rate=1e39)}, "fit.learning_rate must be positive, and float32"),
    ({"schedule": (1e39,)}, "schedule must be at most"),
    ({"num_resamples": 10_000_001}, "num_resamples must be at most 10000000"),
    ({"block_rows": 2**31}, "block_rows must be at most"),
]


@pytest.mark.parametrize(
    ("changes", "part"), BAD, ids=[f"{part}-{i}" for i, (_, part) in enumerate(BAD)]
)
def test_bad_values_are_named(changes, part):
    config = dataclasses.replace(load_config("synthetic"), **changes)
    with pytest.raises(ConfigError) as error:
        check(config)
    assert_one_line(error, part)


def test_what_only_a_study_has_is_checked_and_kept():
    study = StudyConfig(
        targets=("fog_3",), arms=("same_digit", "my.rules:best"), budgets=(9,), target_samples=(2,)
    )
    config = Config(name="a", data=MnistCConfig(tfds="b"), price="shared", study=study)
    config = dataclasses.replace(config, rounds="last")  # for studies: a run refuses it later
    check(config)
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config


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
    assert_one_line(error, "config.json")
    assert ("holds no config" in str(error.value)) == (text in ("[]", "null", "3"))


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
