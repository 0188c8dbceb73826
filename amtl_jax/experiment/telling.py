"""How the command tells errors and warnings: one line each on stderr, and an exit code."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # 130: what a shell gives a command that Ctrl-C ended
_LONGEST = 1000  # characters of a message; values of a stranger's file may be in it


def exit_code(end: SystemExit) -> int:
    """Returns what Python would exit with, and tells what it would print."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    tell(str(end.code))
    return FAILED


def is_about(workdir: str | None, error: OSError) -> bool:
    """Whether an error names a file in the workdir, or a folder that it is in."""
    if workdir is None or not isinstance(error.filename, str):
        return False
    folder, file = Path(workdir), Path(error.filename)
    return folder == file or folder in file.parents or file in folder.parents


def out_of_memory(error: Exception, *, is_run: bool) -> str:
    """Returns what happened and what to do about it; a run could have been looked at before."""
    what = ": ".join(filter(None, ["out of memory", str(error).strip().rstrip(".")]))
    look = "amtl run CONFIG --dry-run says what it needs; " if is_run else ""
    return f"{what[: _LONGEST // 2]}; {look}lower budget, block_rows or num_features"


def fail(error: Exception, code: int, about: str = "") -> int:
    """Tells an error in one line; returns the exit code."""
    if isinstance(error, BrokenPipeError):  # `amtl … | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    tell(f"{about}{error}")
    return code


def tell(text: str) -> None:
    """Tells one line on stderr."""
    print(f"amtl: {one_line(text)}", file=sys.stderr)


def one_line(text: str) -> str:
    """One line of moderate length that leaves a terminal as it is: controls become escapes."""
    line = " ".join(text[: 2 * _LONGEST].split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Shows warnings like errors, in one line on stderr."""

    def show(message, *_):
        tell(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
