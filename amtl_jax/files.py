"""Files that are whole or absent."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, body: bytes | memoryview) -> None:
    """Writes a file under a temporary name, syncs it and renames it; readers never see half.

    Raises:
      OSError: if the folder cannot be made or written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: it would hide the file from the group, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # Ctrl-C may come after the rename: then there is nothing to remove.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable where the system can sync folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
