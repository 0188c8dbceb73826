"""Runs with encoders beyond the linear one, a module of one's own among them."""

import textwrap

import flax.linen as nn
import pytest
from tiny_runs import TINY, assert_same_results, metrics_of, tiny

from amtl_jax import cli
from amtl_jax.experiment.config import Config, ConfigError, EncoderConfig, FitConfig
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.run import run

OWN = textwrap.dedent(
    """
    import flax.linen as nn


    class Own(nn.Module):
        num_features: int
        activation: object = nn.tanh

        @nn.compact
        def __call__(self, x):
            x = self.activation(nn.Dense(8)(x))
            return nn.Dense(self.num_features)(x)
    """
)


def own_module(num_features=3):
    namespace = {"__name__": __name__}
    exec(OWN, namespace)
    return namespace["Own"](num_features)


def quick(kind, **encoder) -> Config:
    batch_rows = None if kind == "identity" else 64
    fit = FitConfig(num_steps=12, batch_rows=batch_rows, learning_rate=0.02, penalties=(1e-2, 1e-3))
    changes = {"seeds": (0,), "arms": ("target_only", "uniform", "a_mtrl")}
    return tiny(encoder=EncoderConfig(kind=kind, **encoder), fit=fit, **changes)


@pytest.mark.parametrize("kind", ["mlp", "identity"])
def test_a_kind_runs_and_resumes(tmp_path, kind):
    config = quick(kind, **({"num_features": 3, "widths": (8,)} if kind == "mlp" else {}))
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    result = run(config, whole, observer=Observer())
    run(config, halved, observer=Observer())
    (halved / "checkpoints/seed_0/a_mtrl/round_2.ckpt").unlink()
    run(config, halved, observer=Observer())
    assert_same_results(halved, whole)
    for line in metrics_of(whole):
        assert line["target"]["excess_risk"] > 0
        is_linear = kind == "identity" and bool(line["counts"])
        assert (line["target"]["representation_risk"] is not None) == is_linear
    assert result.summary["strategies"]["a_mtrl"]["samples_total"] == 200


def test_a_module_of_ones_own(tmp_path):
    config = quick("module")
    run(config, tmp_path / "one", observer=Observer(), encoder=own_module())
    steps = [line["gradient_passes"] for line in metrics_of(tmp_path / "one") if line["counts"]]
    assert min(steps) > 0
    before = metrics_of(tmp_path / "one")
    # Another process, where functions live at other addresses, resumes it; another module not.
    run(config, tmp_path / "one", observer=Observer(), encoder=own_module())
    assert metrics_of(tmp_path / "one") == before
    with pytest.raises(ConfigError, match=r"encoder\.module: there .*num_features = 3.*= 4"):
        run(config, tmp_path / "one", observer=Observer(), encoder=own_module(4))


def test_a_module_of_ones_own_by_the_command(tmp_path, capsys, monkeypatch):
    path = tmp_path / "own.py"
    config = TINY.replace("EncoderConfig(num_features=3)", 'EncoderConfig(kind="module")')
    config = config.replace("num_steps=20", "num_steps=12, batch_rows=64, learning_rate=0.02")
    assert "module" in config
    path.write_text(f"{config}\n{OWN}\n\ndef get_encoder():\n    return Own(num_features=3)\n")
    argv = ["run", str(path), "--workdir", str(tmp_path / "run"), "--seeds", "0"]
    argv += ["--arms", "uniform"]
    assert cli.main(argv) == 0
    capsys.readouterr()
    assert len(metrics_of(tmp_path / "run")) == 3
    # What it wrote is data: it names the module, and does not bring it along.
    assert cli.main(["run", str(tmp_path / "run/config.json")]) == 2
    err = capsys.readouterr().err
    assert "module of your own" in err
    assert err.count("\n") == 1


def test_modules_that_do_not_fit_the_config(tmp_path):
    quiet = {"observer": Observer()}
    with pytest.raises(ConfigError, match="no module was given"):
        run(quick("module"), tmp_path / "run", **quiet)
    with pytest.raises(ConfigError, match=r"'linear', but the module .* was given"):
        run(tiny(), tmp_path / "run", encoder=own_module(), **quiet)
    with pytest.raises(ConfigError, match=r"num_features is 5, but the module has.*3"):
        run(quick("module", num_features=5), tmp_path / "run", encoder=own_module(), **quiet)
    with pytest.raises(ConfigError, match=r"flax\.linen module, got type"):
        run(quick("module"), tmp_path / "run", encoder=type(own_module()), **quiet)
    with pytest.raises(ConfigError, match="Dense with num_features=None"):
        run(quick("module"), tmp_path / "run", encoder=nn.Dense(3), **quiet)
    with pytest.raises(ConfigError, match=r"num_features = 3, got inputs of shape \(6,\)"):
        run(quick("identity", num_features=3), tmp_path / "run", **quiet)
    with pytest.raises(ConfigError, match=r"ConvEncoder expects images"):
        run(quick("conv"), tmp_path / "run", **quiet)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("encoder", "fit", "part"),
    [
        ({"num_features": 0}, {}, "encoder.num_features must be at least 1"),
        ({"kind": "mlp", "widths": ()}, {}, "encoder.widths must be positive"),
        ({"kind": "linear", "widths": (3,)}, {}, "encoder.widths is for the kinds mlp and conv"),
        ({"kind": "mlp", "pool_each": True}, {}, "encoder.pool_each is for the kind conv"),
        ({"kind": "mlp"}, {"method": "lbfgs"}, "fit.method lbfgs is for the linear encoder"),
        ({"kind": "transformer"}, {}, "encoder.kind must be one of linear, mlp, conv"),
        ({}, {"stop_share": 0.7}, "fit.stop_share must be between"),
        ({}, {"patience": 0}, "fit.patience must be at least 1"),
        ({}, {"batch_rows": 0}, "fit.batch_rows must be at least 1"),
        ({}, {"batch_rows": 64}, "fit.batch_rows is for variable projection; the linear encoder"),
        ({}, {"batch_rows": 64, "method": "lbfgs"}, "set fit.method variable_projection"),
        ({"kind": "identity"}, {"batch_rows": 64}, "fit.batch_rows .* nothing is trained"),
        ({"kind": "identity"}, {"method": "lbfgs"}, "fit.method .* nothing is trained"),
        ({"module": "Own()"}, {}, "encoder.module is filled in by run"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, encoder, fit, part):
    config = tiny(encoder=EncoderConfig(**encoder), fit=FitConfig(**fit))
    with pytest.raises(ConfigError, match=part):
        run(config, tmp_path / "run", observer=Observer())
