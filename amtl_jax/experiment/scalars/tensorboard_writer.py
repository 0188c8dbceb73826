"""Event files for TensorBoard, by tensorboardX: no TensorFlow."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amtl_jax.experiment.scalars.writers import TENSORBOARD, Series, package_missing

_SUFFIX = ".amtl"  # tells our event files from those of others
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


def require() -> None:
    """Imports tensorboardX.

    Raises:
      ImportError: names the extra.
    """
    try:
        from tensorboardX.event_file_writer import EventsWriter  # noqa: F401
    except ImportError as error:
        raise package_missing(TENSORBOARD, "tensorboardX", error) from error


class TensorBoardWriter:
    """Writes a folder of event files a series, anew in every process.

    Restored rounds are written again, so a file is whole, and the one of an earlier process goes
    when its series is opened: a round that had to be computed again must not be there twice.
    Events are written at once. The writer with a thread, which tensorboardX has too, would wait
    forever on a full disk.

    Args:
      folder: of all series; made at the first number.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path):
        self._folder = folder.absolute()  # a relative s3: would be a bucket for tensorboardX
        self._files: dict[str, Any] = {}

    def write(self, series: Series, step: int, values: Mapping[str, float]) -> None:
        """Writes an event, and flushes it, for those who watch.

        Raises:
          OSError: if it cannot be written.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if series.name not in self._files:
            self._files[series.name] = _fresh(self._folder, series.name)
        file = self._files[series.name]
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        file.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        file.flush()

    def end(self, series: Series) -> None:
        """Closes the file of a series."""
        if series.name in self._files:
            self._files.pop(series.name).close()

    def close(self) -> None:
        """Closes all files."""
        while self._files:
            self._files.popitem()[1].close()


def _fresh(folder: Path, name: str) -> Any:
    """An empty event file in the folder of a series, in place of those that are there."""
    from tensorboardX.event_file_writer import EventsWriter

    own = folder.joinpath(*(_NOT_IN_NAMES.sub("_", part) for part in name.split("/")))
    own.mkdir(parents=True, exist_ok=True)
    for old in own.glob(f"events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    return EventsWriter(str(own / "events"), _SUFFIX)
