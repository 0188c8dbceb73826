"""Every config of MNIST-C shrunk to one round on a tiny archive, then resumed; and its workdir."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from mnist_c_files import NUM_TEST, write_archive

from amtl_jax import cli
from amtl_jax.data.corruptions import CORRUPTIONS
from amtl_jax.experiment import data_digest as digests
from amtl_jax.experiment.build import build_problem
from amtl_jax.experiment.campaign import start_campaign
from amtl_jax.experiment.config import (
    Config,
    ConfigError,
    EncoderConfig,
    FitConfig,
    FloorConfig,
    MnistCConfig,
)
from amtl_jax.experiment.data_digest import data_digest
from amtl_jax.experiment.examples import read_examples
from amtl_jax.experiment.loading import load_config, shipped_configs
from amtl_jax.experiment.observer import Observer
from amtl_jax.experiment.run import run
from amtl_jax.experiment.workdir import claim, fingerprint, refuse_other

SIZES = {"num_source": 20, "num_pool": 10}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def copied(archive, tmp_path):
    return shutil.copytree(archive, tmp_path / "mnist_c")


def of_archive(folder, **changes) -> Config:
    config = Config(name="tiny", data=MnistCConfig(root=str(folder), **SIZES), num_target=8)
    return dataclasses.replace(config, budget=600, **changes)


@pytest.mark.parametrize("name", [name for name in shipped_configs() if "mnist_c" in name])
def test_shrunk_and_resumed(archive, tmp_path, name):
    config = load_config(name)
    encoder = dataclasses.replace(config.encoder, num_features=5)
    if config.encoder.kind == "conv":
        encoder = dataclasses.replace(encoder, widths=(2, 3))
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(archive), **SIZES),
        num_target=8,
        budget=600,
        schedule=(1.0,),
        rounds="pooled",  # what only a study can do otherwise
        floor=FloorConfig(),
        arms=("target_only", "a_mtrl"),
        num_resamples=50,
        encoder=encoder,
        fit=dataclasses.replace(config.fit, num_steps=6),
    )
    first = run(config, tmp_path / "run", observer=Observer())
    assert first.rounds[1]["counts"] == [4] * 150
    assert first.summary["num_sources"] == 150
    (tmp_path / "run/checkpoints/seed_0/a_mtrl/round_0.ckpt").unlink()
    again = run(config, tmp_path / "run", observer=Observer())
    assert {**first.summary, "seconds": 0} == {**again.summary, "seconds": 0}
    examples = read_examples(tmp_path / "run")
    assert examples.images.shape[2:] == (28, 28)
    assert examples.names[0] == "fog_3"


def test_the_problem_of_a_target(archive):
    config = of_archive(archive)
    problem = build_problem(config)
    assert problem.target_name == "fog_3"
    assert (problem.kind, problem.num_target, problem.budget) == ("binary", 8, 600)
    assert problem.source.names[:2] == ("identity_0", "identity_1")
    assert not [name for name in problem.source.names if name.startswith("fog")]
    assert problem.source.input_shape == (784,)
    np.testing.assert_array_equal(problem.source.capacity, [20] * 150)
    assert (problem.source.price == 1).all()
    assert len(np.unique(problem.source.group)) == 150
    target = problem.draw_target(jax.random.key(0))
    fog = CORRUPTIONS.index("fog")
    np.testing.assert_array_equal(np.rint(target.x[:, 0] * 255), [fog] * 8)
    assert len(set(np.rint(target.x[:, 1] * 255))) == 8  # no row twice
    assert len(problem.test.x) == NUM_TEST
    # Rows of the target's pool are no source rows.
    rows = problem.source.draw(jax.random.key(0), problem.source.capacity)
    sources = set(np.rint(rows.x[:, 1] * 255).astype(int))
    assert not sources & set(np.rint(target.x[:, 1] * 255).astype(int))
    conv = build_problem(dataclasses.replace(config, encoder=EncoderConfig(kind="conv")))
    assert conv.source.input_shape == (28, 28, 1)
    np.testing.assert_array_equal(conv.test.x.reshape(NUM_TEST, -1), problem.test.x)


def test_a_shared_price_pays_an_image_once(archive, tmp_path):
    """A sample is an image with ten labels: 12 of each corruption, for 180."""
    config = of_archive(
        archive,
        price="shared",
        schedule=(1.0,),
        arms=("uniform",),
        encoder=EncoderConfig(num_features=5),
        fit=FitConfig(num_steps=4, penalty=1e-2),
        num_resamples=20,
    )
    config = dataclasses.replace(config, budget=15 * 12)
    problem = build_problem(config)
    np.testing.assert_array_equal(problem.source.group, np.repeat(np.arange(15), 10))
    result = run(config, tmp_path, observer=Observer())
    assert result.rounds[0]["counts"] == [12] * 150
    assert result.rounds[0]["samples_total"] == 15 * 12 * 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_target": 11}, "num_target is 11, but the target has 10 rows"),
        ({"data": {"target": "snow_3"}}, "data.target must be <corruption>_<digit> with a corrup"),
        ({"data": {"num_source": 99}}, "num_source 99 and num_pool 10, which are disjoint, need"),
    ],
)
def test_what_does_not_fit_leaves_no_workdir(archive, tmp_path, changes, message):
    config = of_archive(archive)
    data = dataclasses.replace(config.data, **changes.get("data", {}))
    config = dataclasses.replace(config, **{**changes, "data": data})
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        run(config, tmp_path / "run", observer=Observer())
    assert not (tmp_path / "run").exists()


def test_other_files_are_other_data(copied, tmp_path):
    config = of_archive(copied)
    workdir = tmp_path / "run"
    claim(workdir, config)
    refuse_other(workdir, config)
    written = json.loads((workdir / "config.json").read_text())
    assert written["data_sha256"] == data_digest(config.data)
    assert load_config(str(workdir / "config.json")) == config
    path, before = copied / "scale" / "train_images.npy", fingerprint(config)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(config) != before
    with pytest.raises(ConfigError, match="belongs to another config: data_sha256: there"):
        refuse_other(workdir, config)
    content[-1] ^= 1
    path.write_bytes(content)
    refuse_other(workdir, config)


def test_a_digest_of_large_files_looks_at_places_of_them(copied, monkeypatch):
    data = MnistCConfig(root=str(copied))
    path = copied / "scale" / "train_images.npy"
    whole = data_digest(data)
    assert whole == data_digest(MnistCConfig(root=str(copied.parent)))  # not where they lie
    monkeypatch.setattr(digests, "_WHOLE", 10_000)
    monkeypatch.setattr(digests, "_STRETCH", 64)
    some, content = data_digest(data), path.read_bytes()
    assert some != whole
    for place in (0, len(content) // 15 * 7 + 20, len(content) - 1):  # header, middle and end
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert data_digest(data) != some
    path.write_bytes(content + b"!")
    assert data_digest(data) != some


def test_a_digest_needs_the_files(tmp_path):
    with pytest.raises(ConfigError, match="nothing does not exist; expected a folder with MNIST-C"):
        data_digest(MnistCConfig(root=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="has none of its corruptions"):
        data_digest(MnistCConfig(tfds=str(tmp_path)))


def test_prepared_data_are_the_same_problem(archive, tmp_path):
    for package in ("tensorflow_datasets", "array_record", "PIL"):
        pytest.importorskip(package, reason="needs pip install amtl-jax[tfds-read]")
    from mnist_c_files import write_prepared

    write_prepared(tmp_path)
    config = of_archive(archive)
    sizes = {"num_source": 30, "num_pool": 10}
    ours, theirs = (
        build_problem(dataclasses.replace(config, data=data))
        for data in (
            MnistCConfig(tfds=str(tmp_path), **sizes),
            MnistCConfig(root=str(archive), **sizes),
        )
    )
    assert ours.source.names == theirs.source.names

    def in_order(rows):
        order = np.lexsort((rows.x[:, 1], rows.task))
        return rows.x[order], rows.y[order], rows.task[order]

    for one, other in zip(in_order(ours.test), in_order(theirs.test), strict=True):
        np.testing.assert_array_equal(one, other)
    digest = data_digest(MnistCConfig(tfds=str(tmp_path)))
    path = tmp_path / "mnist_corrupted/fog/1.0.0/dataset_info.json"
    path.write_text(path.read_text() + "\n")
    assert data_digest(MnistCConfig(tfds=str(tmp_path))) != digest


def test_what_only_a_study_has_is_refused_by_runs_and_campaigns(archive, tmp_path):
    config = of_archive(archive, rounds="last", arms=("uniform",))
    for begin in (run, start_campaign):
        with pytest.raises(ConfigError, match=r"rounds last is for amtl study.* --rounds pooled"):
            begin(config, tmp_path / "run", observer=Observer())
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_is_wrong_with_a_file(copied, tmp_path, capsys):
    path = copied / "fog" / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    argv = ["run", "mnist_c_linear", "--data.root", str(copied), "--workdir", str(tmp_path / "run")]
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"{path} is cut short" in err
    assert not (tmp_path / "run").exists()
