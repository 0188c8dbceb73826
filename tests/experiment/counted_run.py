"""`amtl run` that notes which rows of a table on disk it draws, and may find NaN in one of them.

    python counted_run.py FILE BAD run CONFIG ...

writes a line of row numbers into FILE for every draw. The features of every table stay on disk.
Row BAD turns into NaN when it is drawn, unless BAD is negative.
"""

import json
import sys
from pathlib import Path

import numpy as np

from amtl_jax.cli import main
from amtl_jax.data import npz
from amtl_jax.data.sources import ArraySource
from amtl_jax.data.stored import StoredMatrix


def counted(file, bad, patch):
    """Notes draws; `patch(owner, name, value)` sets what is looked at."""
    drawn = []  # rows of the draw that is under way
    draw, read = ArraySource.draw, StoredMatrix.__getitem__

    def counted_draw(self, *arguments, **options):
        drawn.append([])
        try:
            return draw(self, *arguments, **options)
        finally:
            with Path(file).open("a") as lines:
                lines.write(json.dumps(sorted(drawn.pop())) + "\n")

    def counted_read(self, rows):
        numbers = read(self, rows)
        if drawn:
            drawn[-1] += np.asarray(rows).tolist()
            numbers[np.asarray(rows) == bad] = np.nan
        return numbers

    patch(npz, "KEPT_ON_DISK", 0)
    patch(ArraySource, "draw", counted_draw)
    patch(StoredMatrix, "__getitem__", counted_read)


if __name__ == "__main__":
    counted(sys.argv[1], int(sys.argv[2]), setattr)
    sys.exit(main(sys.argv[3:]))
