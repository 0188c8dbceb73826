"""Ctrl-C that is heeded, at the next round at the latest.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. Inside a callback that the
garbage collector or a compiler written in C++ made, it is printed as ignored and forgotten, and a
run of hours would go on.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_asked = threading.Event()


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Remembers Ctrl-C for `stop_if_asked` while the block runs.

    Nothing changes where somebody else handles it, nor in a thread, which gets no signals.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    before = signal.signal(signal.SIGINT, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


def stop_if_asked() -> None:
    """Raises `KeyboardInterrupt` where Ctrl-C came before and was lost."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()
    signal.default_int_handler(number, frame)
