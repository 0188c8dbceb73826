"""Starts two processes that run one experiment together."""

import contextlib
import socket
import subprocess
import sys

SECONDS = 200  # a process that waits for ever fails the test, and does not hang it


@contextlib.contextmanager
def two(config, workdir, *words, programs=(("-m", "amtl_jax.cli"),) * 2):
    """Two processes of `amtl run`; both are ended with the block.

    Args:
      config: file of the config.
      workdir: of the run.
      *words: of the command.
      programs: what Python runs in each.
    """
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    own = ["--distributed", "--coordinator", f"localhost:{port}", "--num-processes", "2"]
    own += ["--workdir", str(workdir)]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                _process(*program, "run", str(config), *words, *own, "--process-id", str(number))
            )
            for number, program in enumerate(programs)
        ]


@contextlib.contextmanager
def _process(*words):
    one = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield one
    finally:
        one.kill()
        one.communicate()


def words_of(text):
    """What the command prints, without what the library behind two CPU processes says."""
    return [line for line in text.splitlines() if line and not line.startswith("[Gloo]")]
