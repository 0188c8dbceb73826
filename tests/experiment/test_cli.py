"""The command line: exit codes, one-line errors, help."""

import os
import shlex
import subprocess
import sys

import pytest
from tiny_runs import assert_same_results

import amtl_jax
from amtl_jax import cli
from amtl_jax.cpu_threads import IN_ORDER
from amtl_jax.experiment import run as driver
from amtl_jax.experiment.config import Config, DigitsConfig, MnistCConfig, SyntheticConfig
from amtl_jax.experiment.loading import first_line, load_config, shipped_configs
from amtl_jax.experiment.overrides import options_of
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
    code, out, err = amtl(capsys, "--help")
    assert (code, err) == (0, "")
    for part in ("run", "configs", "--version"):
        assert part in out
    code, out, err = amtl(capsys, "configs", "--help")
    assert (code, err) == (0, "")
    assert "amtl configs" in out


@pytest.mark.parametrize("argv", ["run --help", "run -h", "run --workdir x --help"])
def test_help_of_run_explains_every_option_with_its_general_default(capsys, argv):
    code, out, err = amtl(capsys, *argv.split())
    assert (code, err) == (0, "")
    flags = {"--workdir", "--dry-run", "--help"}
    for data in (DigitsConfig(), MnistCConfig(), SyntheticConfig()):
        flags |= {option.flag for option in options_of(Config(name="a", data=data))}
    missing = [flag for flag in flags if f"{flag} " not in out]
    assert not missing
    assert "encoder.module" not in out  # `run` fills it in
    assert max(map(len, out.splitlines())) <= 88
    assert ". (" not in out
    for part in (*shipped_configs(), "[default: 15000]", "[default: fog_3]", "[default: gauss]"):
        assert part in out


@pytest.mark.parametrize("argv", ["synthetic --help", "-h synthetic", "synthetic --budget 3 -h"])
def test_help_of_a_config_lists_every_value_with_its_default(capsys, argv):
    code, out, err = amtl(capsys, "run", *argv.split())
    assert (code, err) == (0, "")
    for option in options_of(load_config("synthetic")):
        assert f"{option.flag} " in out
    assert "[default: 8000]" in out
    assert "{gauss, one, spread, dup, dup2, noise, mis}" in out
    assert "--data.target" not in out
    assert "--workdir" in out
    assert "--data.target" in amtl(capsys, "run", "digits_c", "--help")[1]


def test_help_of_a_wrong_config_is_one_line(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from amtl_jax.experiment.config import Config\n"
        "def get_config():\n"
        "    return Config(name='mine', data='digits')\n"
    )
    for argv in (("--help",), (), ("--budget", "3")):
        code, out, err = amtl(capsys, "run", str(path), *argv)
        assert (code, out) == (2, "")
        assert_one_line(err, "data must be DigitsConfig or MnistCConfig")


def test_help_on_a_narrow_ascii_terminal():
    environment = dict(os.environ, COLUMNS="40", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    command = [sys.executable, "-m", "amtl_jax.cli", "run", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--fit.penalty" in done.stdout


def test_configs_are_listed_a_line_each(capsys):
    code, out, err = amtl(capsys, "configs")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_configs())
    for name, line in zip(shipped_configs(), lines, strict=True):
        assert f"amtl run {name}" in line
        assert first_line(shipped_configs()[name]) in line


IMPORTS = """
import contextlib, io, sys
before = set(sys.modules)
from amtl_jax import cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    cli.main({argv!r}.split())
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(loaded - sys.stdlib_module_names))
"""


@pytest.mark.parametrize("argv", ["--help", "--version", "configs", "run --help", "run none"])
def test_what_is_told_at_once_imports_this_package_alone(argv):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(argv=argv)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "amtl_jax\n"


def test_a_config_and_a_wrong_value_import_no_array_library():
    for argv in ("run digits_c --help", "run synthetic --fog 1", "run synthetic --budget x"):
        command = [sys.executable, "-c", IMPORTS.format(argv=argv)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        heavy = {"jax", "jaxlib", "numpy", "flax", "optax", "scipy", "rich"}
        assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("", ["run, ", "configs, ", "--help"]),
        ("walk", ["'walk'", "run, ", "configs, "]),
        ("rum synthetic", ["Did you mean run?"]),
        ("--verison", ["--verison", "run, ", "configs, "]),
        ("configs x", ["'x'", "amtl configs --help"]),
        ("configs --x", ["'--x'"]),
        ("run", ["CONFIG", "digits_c", "synthetic"]),
        ("run --budget 3 synthetic", ["CONFIG must come first"]),
        ("run --workdir", ["--workdir", "amtl run --help"]),
        ("run synthetic --workdir=", ["--workdir expects a folder"]),
        ("run synthetic --workdir a --workdir b", ["Option --workdir is given twice"]),
        ("run sinthetic", ["Did you mean synthetic?", "Shipped: auto_mpg, digits_c,"]),
    ],
)
def test_wrong_usage_is_one_line(capsys, argv, parts):
    code, out, err = amtl(capsys, *argv.split())
    assert (code, out) == (2, "")
    assert_one_line(err, *parts)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ("--fit.num-stepz 3", "Unknown option --fit.num-stepz. Did you mean --fit.num-steps?"),
        ("--num-steps 3", "Did you mean --fit.num-steps?"),
        ("--num-steps=3", "Did you mean --fit.num-steps?"),
        ("--dry-rum", "Did you mean --dry-run?"),
        ("--budget many", "--budget expects INT or None, got 'many'"),
        ("--budget=many", "--budget expects INT or None, got 'many'"),
        ("--budget 3 4", "--budget expects INT or None, got '3 4'"),
        ("--budget 3.5", "--budget expects INT or None, got '3.5'"),
        ("--budget", "--budget expects INT or None, got nothing"),
        (
            "--arms best",
            "l1_a_mtrl, c_optimal, alignment} ..., got 'best'",
        ),
        ("--data.scenario best", "{gauss, one, spread, dup, dup2, noise, mis}, got 'best'"),
        ("--fit.intercept maybe", "--fit.intercept expects {True, False}, got 'maybe'"),
        ("--fit.penalty x", "--fit.penalty expects FLOAT or None, got 'x'"),
        ("--seeds 1 --fit.method adam --level 0.9", "{lbfgs, variable_projection, joint} or None"),
        ("--schedule a b", "--schedule expects FLOAT ..., got 'a b'"),
        ("--encoder.widths 3 x", "--encoder.widths expects INT ... or None, got '3 x'"),
        ("--encoder.kind module", "get_encoder()"),
        ("--budget 5 --budget 6", "Option --budget is given twice."),
        ("--fit.num_steps=5 --fit.num-steps 6", "Option --fit.num-steps is given twice."),
        ("--data x", "Unknown option --data. Options of data: --data.scenario, --data.num-tasks"),
        ("--fit lbfgs", "Unknown option --fit. Options of fit: --fit.method, --fit.num-steps"),
        ("--encoder.module x", "Unknown option --encoder.module"),
        ("stray", "Unexpected 'stray'"),
        ("--data.target fog_1", "--data.target is an option of DigitsConfig"),
        ("--study.seeds 1", "--study.seeds is for amtl study; amtl run has one target, --data.ta"),
        ("--study.target_samples=3", "--study.target-samples is for amtl study"),
        ("-x", "Unknown option -x"),
        ("--", "Unknown option --"),
        ("--version", "Unknown option --version"),
        ("--helpp", "Did you mean --help?"),
    ],
)
def test_wrong_override_is_one_line(capsys, tmp_path, overrides, part):
    workdir = tmp_path / "run"
    code, out, err = amtl(capsys, "run", "synthetic", "--workdir", str(workdir), *overrides.split())
    assert (code, out) == (2, "")
    assert_one_line(err, part)
    assert not workdir.exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("config", "overrides", "part"),
    [
        ("nothing", "", "Shipped: auto_mpg, digits_c,"),
        ("synthetic", "--budget 0", "budget must be at least 1"),
        ("synthetic", "--seeds 1 1", "seeds must be distinct"),
        ("synthetic", "--name ../x", "name must be"),
        ("synthetic", "--fit.tolerance nan", "fit.tolerance"),
        # What only the library knows.
        ("synthetic", "--floor.root True --budget 100", "floors that fit into the round"),
        ("synthetic", "--floor.count 1 --floor.share 0.1", "at most one of floor.count, floor.sha"),
        ("synthetic", "--floor.count -1", "floor.count must be at least 0"),
        ("synthetic", "--arms uniform uniform", "arms must be distinct, got uniform, uniform."),
        # Beyond the integers and floats of the arrays.
        ("synthetic", "--fit.num-steps 3000000000", "fit.num_steps must be at most 2147483647"),
        ("synthetic", "--data.noise 1e39", "data.noise must be at most 3.4e+38, got 1e+39"),
        ("synthetic", "--data.noise 1" + "0" * 400, "data.noise"),
        (
            "synthetic",
            "--arms target_only --block-rows 1000000000000",
            "block_rows must be at most",
        ),
        ("synthetic", "--budget 2", "at least one sample in each of 4 rounds"),
        ("synthetic", "--data.noise -1", "noise"),
        ("synthetic", "--data.num-features 50", "num_features"),
        ("synthetic", "--data.num-tasks 0", "num_tasks"),
        ("synthetic", "--rounds last", "rounds last is for amtl study: runs and campaigns fit all"),
        ("synthetic", "--price shared", "price must be each; shared is for images"),
        ("mnist_c_linear", "", "one of data.root (the folder of MNIST-C) and data.tfds"),
        ("mnist_c_linear", "--data.root nowhere", "nowhere does not exist; expected a folder with"),
        ("mnist_c_linear", "--data.tfds nowhere", "has none of its corruptions; expected all 16"),
        ("digits_c", "--data.target fog_10", "data.target must be <corruption>_<digit>"),
        ("digits_c", "--data.target 3", "fog"),
    ],
)
def test_wrong_values_end_in_one_line_and_leave_nothing(
    capsys, tmp_path, config, overrides, part, dry
):
    workdir = tmp_path / "run"
    argv = ("run", config, "--workdir", str(workdir), *overrides.split(), *dry)
    code, out, err = amtl(capsys, *argv)
    assert (code, out) == (2, "")
    assert_one_line(err, part)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--arms uniform", "--arms is not for amtl study. Give --study.arms."),
        ("--data.target=fog_3", "--data.target is not for amtl study. Give --study.targets."),
    ],
)
def test_a_study_refuses_what_it_would_not_look_at(capsys, tmp_path, words, part):
    workdir = tmp_path / "study"
    argv = ("study", "mnist_c_linear", "--workdir", str(workdir), *words.split())
    code, out, err = amtl(capsys, *argv)
    assert (code, out) == (2, "")
    assert_one_line(err, part)
    assert not workdir.exists()


def test_dry_run_tells_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = amtl(capsys, "run", "synthetic", "--dry-run", *QUICK)
    assert (code, err) == (0, "")
    assert "target_only 1 round" in out
    assert "nothing written" in out
    assert list(tmp_path.iterdir()) == []


def test_a_written_config_can_be_run_again_and_elsewhere(capsys, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert amtl(capsys, "run", "synthetic", "--workdir", str(first), *QUICK)[0] == 0
    written = str(first / "config.json")
    assert amtl(capsys, "run", written, "--workdir", str(second))[0::2] == (0, "")
    assert (second / "config.json").read_bytes() == (first / "config.json").read_bytes()
    assert_same_results(second, first)
    assert amtl(capsys, "run", written, "--workdir", str(first))[0::2] == (0, "")


def test_an_encoder_of_ones_own_reaches_the_run(capsys, tmp_path, replaced_run):
    path = tmp_path / "mine.py"
    path.write_text(
        "from amtl_jax.experiment.config import Config, EncoderConfig, SyntheticConfig\n"
        "def get_config():\n"
        "    return Config(name='mine', data=SyntheticConfig(),\n"
        "        encoder=EncoderConfig(kind='module', num_features=3))\n"
        "def get_encoder():\n"
        "    return 'a module'\n"
    )
    seen = []
    replaced_run(lambda config, workdir, *, observer, encoder: seen.append(encoder))
    assert amtl(capsys, "run", str(path)) == (0, "", "")
    assert seen == ["a module"]
    assert amtl(capsys, "run", str(path), "--help")[0] == 0


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


@pytest.mark.parametrize(
    ("workdir", "code", "part"),
    [
        ("file", 2, "amtl: --workdir {} is a file; give a folder."),
        ("file/run", 1, "amtl: cannot use workdir {}: [Errno 20]"),
    ],
)
def test_workdir_that_cannot_be_written(capsys, tmp_path, workdir, code, part):
    (tmp_path / "file").write_text("in the way")
    path = str(tmp_path / workdir)
    found, _, err = amtl(capsys, "run", "synthetic", "--workdir", path, *QUICK)
    assert found == code
    assert_one_line(err, part.format(path))
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_value_too_large_for_the_memory_claims_no_workdir(capsys, tmp_path, monkeypatch):
    def too_large(setting):
        raise MemoryError

    monkeypatch.setattr(driver, "templates", too_large)
    code, _, err = amtl(capsys, "run", "synthetic", "--workdir", str(tmp_path / "run"), *QUICK)
    assert code == 1
    assert_one_line(err, "out of memory; amtl run CONFIG --dry-run says what it needs")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_out_of_memory_is_not_sent_to_the_dry_run(capsys, monkeypatch):
    def too_large(config, *, encoder):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")

    monkeypatch.setattr("amtl_jax.experiment.preview.preview", too_large)
    code, out, err = amtl(capsys, "run", "synthetic", "--dry-run")
    assert (code, out) == (1, "")
    assert_one_line(err, "allocating 8 bytes; lower budget, block_rows or num_features\n")


def test_messages_leave_the_terminal_alone_and_end_somewhere(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise ValueError('\\x1b[31m red \\x07' + 9000 * 'x')")
    code, out, err = amtl(capsys, "run", str(path))
    assert (code, out) == (2, "")
    assert_one_line(err, r"ValueError: \x1b[31m red \x07xxx", " …\n")
    assert err.removesuffix("\n").isprintable()
    assert len(err) < 1100


def test_control_characters_of_a_found_config(capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "\\u001b[2J", "\\u001b[3J": 1}')
    code, _, err = amtl(capsys, "run", "synthetic", "--workdir", str(tmp_path))
    assert code == 2
    assert_one_line(err, "name: there '\\x1b[2J', here 'synthetic'", "\\x1b[3J: there 1")
    assert err.removesuffix("\n").isprintable()


def test_default_workdir(capsys, replaced_run):
    seen = []
    replaced_run(lambda config, workdir, *, observer: seen.append((config.name, workdir)))
    assert amtl(capsys, "run", "synthetic") == (0, "", "")
    assert amtl(capsys, "run", "synthetic", "--name", "mine")[0] == 0
    assert amtl(capsys, "run", "synthetic", "--workdir", "there")[0] == 0
    assert seen == [("synthetic", "runs/synthetic"), ("mine", "runs/mine"), ("synthetic", "there")]


def test_default_workdir_of_a_written_config(capsys, replaced_run, tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"name": "mine", "data": {"kind": "SyntheticConfig"}}')
    seen = []
    replaced_run(lambda config, workdir, *, observer: seen.append(workdir))
    assert amtl(capsys, "run", str(path)) == (0, "", "")
    assert seen == ["runs/mine"]


def test_note_about_another_version_is_one_line(capsys, replaced_run, tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"amtl_jax": "0.0.1", "name": "mine", "data": {"kind": "SyntheticConfig"}}')
    replaced_run(lambda config, workdir, *, observer: None)
    code, _, err = amtl(capsys, "run", str(path))
    assert code == 0
    assert_one_line(err, "amtl: note: ", "0.0.1", amtl_jax.__version__)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("Round 2 of uniform:\nnot finite"), 1, "amtl: Round 2 of uniform: not finite\n"),
        (OSError(28, "No space left on device", "x"), 1, "No space left on device: 'x'\n"),
        (ImportError("pip install it"), 2, "amtl: pip install it\n"),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "cannot use workdir runs/synthetic: [Errno 13] Permission denied: 'runs'\n",
        ),
        (
            MemoryError(),
            1,
            "amtl: out of memory; amtl run CONFIG --dry-run says what it needs; "
            "lower budget, block_rows or num_features\n",
        ),
        (RuntimeError("RESOURCE_EXHAUSTED: 8 bytes."), 1, "block_rows or num_features\n"),
        (SystemExit("bye"), 1, "amtl: bye\n"),
        (SystemExit(143), 143, ""),
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


def test_an_interrupted_dry_run_has_nothing_to_resume(capsys, monkeypatch):
    def stop(config, *, encoder):
        raise KeyboardInterrupt

    monkeypatch.setattr("amtl_jax.experiment.preview.preview", stop)
    assert amtl(capsys, "run", "synthetic", "--dry-run") == (130, "", "\nStopped.\n")


@pytest.mark.parametrize("error", [ZeroDivisionError, RuntimeError, RecursionError])
def test_a_bug_keeps_its_traceback(replaced_run, error):
    def fail(config, workdir, *, observer):
        raise error

    replaced_run(fail)
    with pytest.raises(error):
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


def test_lapack_calls_run_in_order(capsys, monkeypatch):
    """Two batched ones at a time can wait for each other for ever; a user's own flags stay."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    amtl(capsys, "configs")
    assert os.environ["XLA_FLAGS"] == f"--xla_cpu_enable_fast_math=false {IN_ORDER}"
    own = "--xla_cpu_enable_concurrency_optimized_scheduler=true"
    monkeypatch.setenv("XLA_FLAGS", own)
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    amtl(capsys, "configs")
    assert os.environ["XLA_FLAGS"] == own
    assert os.environ["NPROC"] == "8"
