"""`results.csv` of a study: one line per target, arm, seed, cell and round, exact and distrusted.

Other programs may have written or changed the file, so it is read back strictly: what does not
have the form that `write_rows` gives it is refused by line, never skipped or repaired.
"""

import csv
import io
import math
import operator
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from amtl_jax.files import write_atomically

METRICS = ("balanced_accuracy", "mse", "accuracy", "auc")  # in the order in which people look
SHARES = frozenset(METRICS) - {"mse"}
_MAX_BYTES = 2**26  # ten times a study of 160 targets, 8 arms, 4 rounds, 3 seeds and 4 cells
_MAX_NAME = 200
_MAX_DIGITS = 18
_ROUNDING = 1e-6  # shares are computed in float32
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")


class RowsError(ValueError):
    """A results file that does not exist, is damaged, or is none."""


class Row(NamedTuple):
    """What an arm reached on a target after a round; a line of `results.csv`.

    Attributes:
      target: name of the task, `<corruption>_<digit>`.
      corruption: of the target; its ten targets share test images.
      digit: class of the target, from 0.
      arm: its name.
      seed: from 0.
      budget: samples that every buying arm may spend.
      round: from 1; the last one of a unit is the arm's result.
      samples_total: source samples charged so far; 0 for arms without.
      target_samples: rows of the target sample.
      accuracy: share of test rows predicted right; None where undefined, as all metrics.
      balanced_accuracy: mean of the accuracies on positive and on negative rows.
      auc: probability that a positive row scores above a negative one.
      mse: mean squared error.
      seconds: computing time of this row.
    """

    target: str
    corruption: str
    digit: int
    arm: str
    seed: int
    budget: int
    round: int
    samples_total: int
    target_samples: int
    accuracy: float | None
    balanced_accuracy: float | None
    auc: float | None
    mse: float | None
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int, int, int]:
        """What no two rows share: target, arm, seed, budget, target samples, round."""
        return self.target, self.arm, self.seed, self.budget, self.target_samples, self.round


HEADER = Row._fields


def computing_seconds(rows: Iterable[Row]) -> float:
    """Seconds of computing that all rows are charged with, two decimals.

    A clairvoyant arm has the seconds of those that it chooses among: they count once.
    """
    return round(sum(row.seconds for row in rows if row.arm != "clairvoyant"), 2)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes `results.csv` whole or not at all; numbers as the shortest decimals that are exact.

    Args:
      path: the file.
      rows: what to write, in this order. Metrics that are NaN or infinite become empty cells.

    Raises:
      RowsError: for two rows of one key, a value that `read_rows` would refuse, or too many rows.
      OSError: if it cannot be written; what was there before stays.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    seen: dict[tuple, int] = {}
    for line, row in enumerate(rows, start=2):
        cells = list(map(_cell, HEADER, row))
        _refuse_repeated(_row(cells, path, line), seen, path, line)
        writer.writerow(cells)
    body = stream.getvalue().encode()
    if len(body) > _MAX_BYTES:
        raise RowsError(
            f"{path}: expected at most {_MAX_BYTES:,} bytes of rows, got {len(body):,}; split the "
            "study over several workdirs."
        )
    write_atomically(path, body)


def read_rows(path: Path) -> list[Row]:
    """Reads `results.csv` back, exactly as it was written.

    Raises:
      RowsError: names file and line where there is no file, another header, a cell that is not of
        its type or range, a row twice, or a file that is too large, cut off or not UTF-8.
      OSError: if it cannot be read.
    """
    if not path.is_file():
        raise RowsError(
            f"{path} {'is a folder' if path.exists() else 'does not exist'}; expected the results "
            "of a study, which amtl study writes into its workdir."
        )
    with path.open("rb") as file:
        body = file.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        raise RowsError(
            f"{path}: expected a file of at most {_MAX_BYTES:,} bytes, got a larger one."
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RowsError(
            f"{path}: expected UTF-8, got other bytes at byte {error.start}."
        ) from error
    if not text.endswith("\n"):
        raise RowsError(f"{path}: expected a line end as the last byte; the file was cut off.")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader)
        if tuple(header) != HEADER:
            raise RowsError(
                f"{path}, line 1: expected the header {','.join(HEADER)}, got "
                f"{_shown(','.join(header))}."
            )
        rows, seen = [], {}
        for cells in reader:
            row = _row(cells, path, reader.line_num)
            _refuse_repeated(row, seen, path, reader.line_num)
            rows.append(row)
    except csv.Error as error:
        raise RowsError(f"{path}, line {reader.line_num}: expected CSV, got {error}.") from error
    return rows


def _cell(name: str, value: str | float | None) -> str:
    """A value as it is written: a float as plain decimals that give exactly it back."""
    kind = Row.__annotations__[name]
    if value is None or kind is str:
        return str(value or "")
    if kind is int:
        return str(operator.index(value))
    return format(Decimal(repr(float(value))), "f") if math.isfinite(value) else ""


def _row(cells: Sequence[str], path: Path, line: int) -> Row:
    """The row of the cells of a line."""
    if len(cells) != len(HEADER):
        raise RowsError(f"{path}, line {line}: expected {len(HEADER)} cells, got {len(cells)}.")
    row = Row(*map(_value, HEADER, cells, [path] * len(cells), [line] * len(cells)))
    if row.target != f"{row.corruption}_{row.digit}":
        raise RowsError(
            f"{path}, line {line}: expected target {_shown(f'{row.corruption}_{row.digit}')} from "
            f"its corruption and digit, got {_shown(row.target)}."
        )
    return row


def _value(name: str, cell: str, path: Path, line: int) -> str | int | float | None:
    """The value of a cell, of the type and range of its column."""
    kind = Row.__annotations__[name]
    if kind is str:
        value, what = _name(cell), f"a name of 1 to {_MAX_NAME} printable characters"
    elif kind is int:
        least = 1 if name in ("budget", "round", "target_samples") else 0
        value, what = _integer(cell, least), f"a whole number from {least}"
    else:
        if not cell and name != "seconds":
            return None
        most = 1 + _ROUNDING if name in SHARES else math.inf
        value = _number(cell, most)
        what = "a share from 0 to 1" if name in SHARES else "a number from 0"
        what += "" if name == "seconds" else " or nothing"
    if value is None:
        raise RowsError(f"{path}, line {line}, {name}: expected {what}, got {_shown(cell)}.")
    return value


def _name(cell: str) -> str | None:
    return cell if 0 < len(cell) <= _MAX_NAME and cell.isprintable() else None


def _integer(cell: str, least: int) -> int | None:
    is_number = cell.isascii() and cell.isdigit() and len(cell) <= _MAX_DIGITS
    return int(cell) if is_number and int(cell) >= least else None


def _number(cell: str, most: float) -> float | None:
    if not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if 0 <= value <= most and math.isfinite(value) else None


def _refuse_repeated(row: Row, seen: dict[tuple, int], path: Path, line: int) -> None:
    first = seen.setdefault(row.key, line)
    if first != line:
        raise RowsError(
            f"{path}, line {line}: expected each target, arm, seed, budget, number of target "
            f"samples and round once, got {_shown(', '.join(map(str, row.key)))} again, which is "
            f"on line {first}."
        )


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r} …"
