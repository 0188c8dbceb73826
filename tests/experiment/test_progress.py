"""What the command shows: plain lines in a file, a live display on a terminal."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest
from rich.console import Console
from tiny_runs import TINY

from amtl_jax.experiment.display import LiveDisplay
from amtl_jax.experiment.journal import Slot
from amtl_jax.experiment.observer import Plan
from amtl_jax.experiment.progress import Printer, command_observer, is_live
from amtl_jax.experiment.telling import one_line_warnings

ARMS = {"target_only": 1, "uniform": 2, "a_mtrl": 2}
SLOTS = tuple(
    Slot(seed, arm, index) for seed in (0, 1) for arm in ARMS for index in range(ARMS[arm])
)
PLAN = Plan(
    "job",
    "fog_3",
    ("zigzag_1", "stripe_[2]", "a_name_that_is_rather_long"),
    5000,
    40,
    SLOTS,
    ARMS,
    "cpu",
)
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A terminal that keeps what it is told."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "JPY_PARENT_PID", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


def record(slot):
    """A round's line of `metrics.jsonl`, as far as a display reads it."""
    buys = slot.arm != "target_only"
    return {
        "seed": slot.seed,
        "round": slot.index,
        "strategy": slot.arm,
        "counts": [1, 2, 3] if buys else [],
        "nu": [0.5, -2.0, 0.25] if buys else [],
        "samples_total": 2500 * (slot.index + 1) * buys,
        "train_loss": None,
        "target": {"accuracy": 0.951, "mse": None},
    }


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(display):
    """The live part as plain text."""
    console = Console(file=io.StringIO(), width=display._console.width, no_color=True)
    console.print(display._render())
    return console.file.getvalue()


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("width", [10, 40, 63, 64, 65, 66, 80, 200])
def test_a_whole_run_at_any_width(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "20")
    terminal, clock = Terminal(), Clock()
    with LiveDisplay(terminal, clock=clock) as display:
        display.preparing("Preparing the tasks")
        assert "prep" in shown(display)
        display.planned(PLAN)
        for slot in SLOTS:
            display.began(slot)
            clock.now += 2
            shown(display)
            display.finished(slot, record(slot), restored=False)
            lines = shown(display).splitlines()
            # Room for a ^C: were it to wrap, a line would be left behind.
            assert all(len(line) <= width - 3 for line in lines)
        display.noted("the [bold] solver " + "missed " * 30)
    text = terminal.getvalue()
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert text.rindex(SHOW) > text.rindex(HIDE)
    # A note is told whole, brackets and all; a long line of a round ends with the terminal.
    assert "[bold]" in plain(text)
    assert plain(text).count("missed") == 30


def test_what_is_shown_along_the_way(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    terminal, clock = Terminal(), Clock()
    display = LiveDisplay(terminal, clock=clock)
    display.planned(PLAN)
    display.began(SLOTS[0])
    display.finished(SLOTS[0], record(SLOTS[0]), restored=True)
    display.began(SLOTS[1])
    assert "seed 0, uniform, round 1/2: compiling and fitting the first round" in shown(display)
    clock.now += 20
    display.finished(SLOTS[1], record(SLOTS[1]), restored=False)
    display.began(SLOTS[2])
    assert "drawing and fitting" in shown(display)
    assert "left" not in shown(display)  # of a round like the next ones nothing is known
    clock.now += 4
    display.finished(SLOTS[2], record(SLOTS[2]), restored=False)
    text = shown(display)
    # Left: a_mtrl twice; seed 1: its first round, then uniform once and a_mtrl twice.
    assert "3/10  0:24, about 0:40 left" in text
    assert re.search(
        r"uniform +0 +5,000 +95\.10% +stripe_\[2\] -2\.00, zigzag_1 \+0\.50, a_name_", text
    )
    assert re.search(r"target_only +0 +0 +95\.10% +-", text)
    clock.now += 1
    display.began(SLOTS[3])
    clock.now += 3
    assert "about 0:37 left" in shown(display)
    told = plain(terminal.getvalue())
    assert "seed 0  target_only 1/1  accuracy 95.10%        0 samples  (restored)\n" in told
    assert "seed 0  uniform     2/2  accuracy 95.10%    5,000 samples\n" in told


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_the_terminal_is_restored(error):
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    handler = signal.getsignal(signal.SIGTERM)

    def fail():
        with LiveDisplay(terminal) as display:
            display.planned(PLAN)
            raise error

    with pytest.raises(error):
        fail()
    assert SHOW in terminal.getvalue().rpartition(HIDE)[2]
    assert (sys.stdout, sys.stderr) == streams
    assert signal.getsignal(signal.SIGTERM) == handler


def test_kill_leaves_no_hidden_cursor():
    terminal = Terminal()

    def be_killed():
        with LiveDisplay(terminal):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit, match="143"):
        be_killed()
    assert SHOW in terminal.getvalue().rpartition(HIDE)[2]


def test_no_color_is_honoured(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    with LiveDisplay(terminal) as display:
        display.planned(PLAN)
        for slot in SLOTS[:3]:
            display.began(slot)
            display.finished(slot, record(slot), restored=False)
        time.sleep(0.2)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7][0-9;]*m", terminal.getvalue())


def test_warnings_of_a_redirected_stderr_stay_there(monkeypatch):
    elsewhere = io.StringIO()
    monkeypatch.setattr(sys, "stderr", elsewhere)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with LiveDisplay(terminal):
        print("amtl: warning: x", file=sys.stderr)
    assert elsewhere.getvalue() == "amtl: warning: x\n"


@pytest.mark.parametrize(
    ("terminal", "variables", "live"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": ""}, False),
        (True, {"JPY_PARENT_PID": "1"}, False),
        (True, {"NO_COLOR": "1"}, True),
    ],
)
def test_only_a_terminal_that_can_redraw_is_live(monkeypatch, terminal, variables, live):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    assert is_live(stream) == live
    with command_observer(stream) as observer:
        assert isinstance(observer, LiveDisplay if live else Printer)


def run_in_terminal(folder, *, interrupt_at=None):
    """Runs the tiny experiment on a pseudo-terminal; returns exit code and what it showed."""
    path = folder / "tiny.py"
    path.write_text(TINY.replace("seeds=(0, 1)", "seeds=(0,), arms=('target_only', 'uniform')"))
    controller, terminal = pty.openpty()
    environment = dict(os.environ, COLUMNS="100", LINES="30")
    command = [
        sys.executable,
        "-m",
        "amtl_jax.cli",
        "run",
        str(path),
        "--workdir",
        str(folder / "w"),
    ]
    child = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    text = b""
    while True:
        try:
            some = os.read(controller, 65536)
        except OSError:  # the terminal is closed
            break
        text += some
        if interrupt_at and interrupt_at in text:
            child.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(controller)
    return child.wait(), text.decode()


def test_interrupted_and_resumed_on_a_terminal(tmp_path):
    code, text = run_in_terminal(tmp_path, interrupt_at=b"fitting the first round")
    assert code == 130
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert f"Stopped. The same command resumes from {tmp_path / 'w'}." in text
    assert "Traceback" not in text
    code, text = run_in_terminal(tmp_path)
    assert code == 0
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert "(restored)" in plain(text)
    after = text[text.rindex("\x1b[2K") :]  # nothing is erased behind it: the tables stay
    assert "\narm " in after
    assert "test rows" in after


def test_in_a_file_there_are_no_control_characters(tmp_path, capfd):
    lines = []
    printer = Printer(lines.append)
    printer.planned(PLAN)
    for slot in SLOTS:
        printer.began(slot)
        printer.finished(slot, record(slot), restored=False)
    assert len(lines) == 1 + len(SLOTS)
    assert all(line.isprintable() for line in lines)


def test_warnings_do_not_tear_the_display(monkeypatch):
    """Where stderr is the same terminal, a warning goes above the live part."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with one_line_warnings(), command_observer() as display:
        display.planned(PLAN)
        warnings.warn("the disk is nearly full", stacklevel=1)
    assert "amtl: warning: the disk is nearly full" in plain(terminal.getvalue())
