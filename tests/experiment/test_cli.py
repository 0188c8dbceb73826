"""The command line: exit codes, one-line errors, help."""

import shlex
import subprocess
import sys

import pytest

import amtl_jax
from amtl_jax import cli
from amtl_jax.experiment import run as driver
from amtl_jax.experiment.rounds import RunError

# No arm that buys: nothing to compile but a ridge on twenty rows.
QUICK = shlex.split(
    "--arms target_only --data.num-test 50 --num-target 20 --data.num-tasks 5 "
    "--data.input-dim 6 --num-resamples 20"
)


def amtl(capsys, *argv):
    """Runs the command in this process; returns exit code, stdout and stderr."""
    code = cli.main(list(argv))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def assert_one_line(err, *parts):
    assert err.startswith("amtl: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


@pytest.fixture
def replaced_run(monkeypatch):
    """Puts a function in the driver's place, which gets its arguments."""

    def replace(function):
        monkeypatch.setattr(driver, "run", function)

    return replace


def test_version(capsys):
    assert amtl(capsys, "--version") == (0, f"amtl_jax {amtl_jax.__version__}\n", "")


def test_help(capsys):
    for argv in (("--help",), ("run", "--help"), ("run", "-h"), ("run", "--help", "synthetic")):
        code, out, err = amtl(capsys, *argv)
        assert (code, err) == (0, "")
        assert "run" in out
    assert "digits_c, synthetic" in out
    assert "--workdir" in out


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_config_lists_every_value_with_its_default(capsys, flag):
    code, out, err = amtl(capsys, "run", "synthetic", flag)
    assert (code, err) == (0, "")
    for part in (
        "--workdir",
        "--budget",
        "8000",
        "--fit.num-steps",
        "--fit.penalty",
        "--floor.count",
        "--data.scenario",
        "gauss,one,spread,dup,dup2",
        "--seeds",
        "--arms",
    ):
        assert part in out
    code, out, _ = amtl(capsys, "run", "digits_c", flag)
    assert "--data.target" in out


@pytest.mark.parametrize("argv", [(), ("walk",), ("run",), ("run", "--workdir")])
def test_wrong_usage(capsys, argv):
    code, out, err = amtl(capsys, *argv)
    assert (code, out) == (2, "")
    assert "usage: amtl" in err


@pytest.mark.parametrize(
    "overrides",
    [
        "--fit.num-stepz 3",
        "--budget many",
        "--arms best",
        "stray",
        "--data.target fog_1",
        "--budget",
    ],
)
def test_wrong_override(capsys, tmp_path, overrides):
    workdir = tmp_path / "run"
    code, out, err = amtl(capsys, "run", "synthetic", "--workdir", str(workdir), *overrides.split())
    assert (code, out) == (2, "")
    assert overrides.split()[0] in err
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("config", "overrides", "part"),
    [
        ("nothing", "", "Shipped: digits_c, synthetic"),
        ("synthetic", "--budget 0", "budget must be at least 1"),
        ("synthetic", "--seeds 1 1", "seeds must be distinct"),
        ("synthetic", "--name ../x", "name must be"),
        ("synthetic", "--fit.tolerance nan", "fit.tolerance"),
        # What only the library knows.
        ("synthetic", "--floor.root True --budget 100", "floors that fit into the round"),
        ("synthetic", "--floor.count 1 --floor.share 0.1", "at most one of count, share and root"),
        ("synthetic", "--floor.count -1", "floor"),
        ("synthetic", "--budget 2", "at least one sample in each of 4 rounds"),
        ("synthetic", "--data.noise -1", "noise"),
        ("synthetic", "--data.num-features 50", "num_features"),
        ("synthetic", "--data.num-tasks 0", "num_tasks"),
        ("digits_c", "--data.target fog_10", "data.target must be <corruption>_<digit>"),
        ("digits_c", "--data.target 3", "fog"),
    ],
)
def test_wrong_values_end_in_one_line_and_leave_nothing(capsys, tmp_path, config, overrides, part):
    workdir = tmp_path / "run"
    code, out, err = amtl(capsys, "run", config, "--workdir", str(workdir), *overrides.split())
    assert (code, out) == (2, "")
    assert_one_line(err, part)
    assert not workdir.exists()


def test_a_run_and_another_config_in_its_workdir(capsys, tmp_path):
    argv = ("run", "synthetic", "--workdir", str(tmp_path / "run"), *QUICK)
    code, out, err = amtl(capsys, *argv)
    assert (code, err) == (0, "")
    assert "target_only" in out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = amtl(capsys, *argv, "--data.noise", "0.5")
    assert (code, out) == (2, "")
    assert_one_line(err, "data.noise: there 1.0, here 0.5")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_damaged_checkpoint_is_one_line_of_warning(capsys, tmp_path):
    argv = ("run", "synthetic", "--workdir", str(tmp_path / "run"), *QUICK)
    amtl(capsys, *argv)
    (path,) = tmp_path.rglob("*.ckpt")
    path.write_bytes(b"damaged")
    code, _, err = amtl(capsys, *argv)
    assert code == 0
    assert_one_line(err, "amtl: warning: ", path.name, "computed again")


@pytest.mark.parametrize("workdir", ["file", "file/run"])
def test_workdir_that_cannot_be_written(capsys, tmp_path, workdir):
    (tmp_path / "file").write_text("in the way")
    code, _, err = amtl(capsys, "run", "synthetic", "--workdir", str(tmp_path / workdir), *QUICK)
    assert code == 1
    assert_one_line(err, "file")


def test_default_workdir(capsys, replaced_run):
    seen = []
    replaced_run(lambda config, workdir, *, observer: seen.append((config.name, workdir)))
    assert amtl(capsys, "run", "synthetic") == (0, "", "")
    assert amtl(capsys, "run", "synthetic", "--name", "mine")[0] == 0
    assert amtl(capsys, "run", "synthetic", "--workdir", "there")[0] == 0
    assert seen == [("synthetic", "runs/synthetic"), ("mine", "runs/mine"), ("synthetic", "there")]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("Round 2 of uniform:\nnot finite"), 1, "amtl: Round 2 of uniform: not finite\n"),
        (OSError(28, "No space left on device", "x"), 1, "No space left on device: 'x'\n"),
        (ImportError("pip install it"), 2, "amtl: pip install it\n"),
        (KeyboardInterrupt(), 130, "The same command resumes from runs/synthetic.\n"),
    ],
)
def test_exit_codes(capsys, replaced_run, error, code, text):
    def fail(config, workdir, *, observer):
        raise error

    replaced_run(fail)
    found, out, err = amtl(capsys, "run", "synthetic")
    assert (found, out) == (code, "")
    assert err.endswith(text)


def test_a_bug_keeps_its_traceback(replaced_run):
    def fail(config, workdir, *, observer):
        raise ZeroDivisionError

    replaced_run(fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "synthetic"])


def test_as_a_program_without_jax():
    command = [sys.executable, "-m", "amtl_jax.cli"]
    done = subprocess.run([*command, "run", "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert_one_line(done.stderr, "No config 'none'")


def test_a_reader_that_leaves_early_is_no_traceback(tmp_path):
    command = f"{sys.executable} -u -m amtl_jax.cli run synthetic --workdir {tmp_path} "
    done = subprocess.run(
        ["bash", "-c", command + " ".join(QUICK) + " | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
