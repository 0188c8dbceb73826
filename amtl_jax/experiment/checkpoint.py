"""One file of arrays per round, verified before a byte of it is believed.

The first line is JSON: format, length and SHA-256 of all that follows. The second line is JSON
too: whose round this is, its record, and name, dtype and shape of every array. Behind it lie the
arrays' bytes, one after the other. Nothing is decompressed, unpickled or allocated from a number
that the file claims: what is expected is known before it is read.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from amtl_jax.files import write_atomically

_FORMAT = "amtl-checkpoint-2"
_MAX_HEADER = 4096
_DTYPES = ("bool", "uint8", "int32", "int64", "float32", "float64")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or another than expected."""


class Checkpoint(NamedTuple):
    """What a round leaves behind.

    Attributes:
      state: the learner's state, or an empty tuple for an arm that learns nothing.
      predictions: `[n_test, O]` float32 predictions of the arm on the test rows.
      record: the round's line of `metrics.jsonl`.
      answer: the safe answer after this round, `amtl_jax.answer.Answer`.
      answered: `[n_test, O]` float32 predictions of that answer on the test rows.
    """

    state: Any
    predictions: Any
    record: dict[str, Any]
    answer: Any = ()
    answered: Any = ()


def save(path: Path, checkpoint: Checkpoint, *, identity: dict[str, Any]) -> None:
    """Writes a checkpoint atomically.

    Args:
      path: the file.
      checkpoint: what to write.
      identity: plain data that says whose round this is; `load` asks for the same.

    Raises:
      OSError: if it cannot be written; what was there before stays.
      ValueError: if the record holds NaN or Inf.
    """
    arrays = [(name, np.asarray(leaf)) for name, leaf in _leaves(checkpoint)]
    manifest = {
        "identity": identity,
        "record": checkpoint.record,
        "arrays": [_described(name, array) for name, array in arrays],
    }
    line = json.dumps(manifest, allow_nan=False).encode() + b"\n"
    body = line + b"".join(array.tobytes() for _, array in arrays)
    digest = hashlib.sha256(body).hexdigest()
    header = json.dumps({"format": _FORMAT, "length": len(body), "sha256": digest})
    write_atomically(path, header.encode() + b"\n" + body)


def load(path: Path, template: Checkpoint, *, identity: dict[str, Any]) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Args:
      path: the file.
      template: arrays of the wanted structure, shapes and dtypes; anything with
        `shape` and `dtype` will do for an array. Its record is not looked at.
      identity: as it was saved.

    Raises:
      CheckpointError: if the file is truncated or altered, of another structure, or another's.
      OSError: if it cannot be read.
    """
    manifest, body = _verified(path)
    if not isinstance(manifest, dict) or set(manifest) != {"identity", "record", "arrays"}:
        raise CheckpointError(f"{path}: no manifest of arrays.")
    if manifest["identity"] != identity:
        raise CheckpointError(f"{path}: belongs to {manifest['identity']}, expected {identity}.")
    wanted = _leaves(template)
    expected = [_described(name, leaf) for name, leaf in wanted]
    if manifest["arrays"] != expected:
        raise CheckpointError(f"{path}: {_mismatch(manifest['arrays'], expected)}.")
    if not isinstance(manifest["record"], dict):
        raise CheckpointError(f"{path}: expected a record of the round.")
    arrays, start = [], 0
    for _, leaf in wanted:
        dtype, shape = np.dtype(leaf.dtype), tuple(leaf.shape)
        stop = start + dtype.itemsize * math.prod(shape)
        if stop > len(body):
            break
        arrays.append(np.frombuffer(body[start:stop], dtype).reshape(shape))
        start = stop
    if len(arrays) < len(wanted) or start != len(body):
        raise CheckpointError(f"{path}: holds {len(body)} bytes of arrays, expected others.")
    parts = jax.tree.unflatten(jax.tree.structure(_parts(template)), arrays)
    state = jax.tree.map(jax.numpy.asarray, parts["state"])
    return Checkpoint(**(parts | {"state": state, "record": manifest["record"]}))


def load_arrays(
    path: Path, *, identity: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads and verifies a checkpoint whose arrays are as many and as large as it says.

    Args:
      path: the file.
      identity: as it was saved.

    Returns:
      Its record, and its arrays by the names of their places in the tree.

    Raises:
      CheckpointError: if the file is truncated or altered, or another's.
      OSError: if it cannot be read.
    """
    manifest, body = _verified(path)
    try:
        record, described, found = (manifest[key] for key in ("record", "arrays", "identity"))
        sizes = [(one["name"], one["dtype"], tuple(one["shape"])) for one in described]
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: no manifest of arrays.") from error
    if found != identity:
        raise CheckpointError(f"{path}: belongs to {found}, expected {identity}.")
    arrays, start = {}, 0
    for name, kind, shape in sizes:
        is_size = all(isinstance(size, int) and 0 <= size <= len(body) for size in shape)
        if kind not in _DTYPES or not is_size or not isinstance(name, str):
            raise CheckpointError(f"{path}: no array {name!r:.80} of {kind!r:.80}, {shape!r:.80}.")
        stop = start + np.dtype(kind).itemsize * math.prod(shape)
        if stop > len(body):
            raise CheckpointError(f"{path}: holds {len(body)} bytes of arrays, expected more.")
        arrays[name] = np.frombuffer(body[start:stop], kind).reshape(shape)
        start = stop
    if start != len(body) or not isinstance(record, dict):
        raise CheckpointError(f"{path}: expected a record and {start} bytes of arrays, got others.")
    return record, arrays


def _verified(path: Path) -> tuple[Any, memoryview]:
    """Returns the manifest and the arrays' bytes of a file whose checksum is right."""
    with path.open("rb") as file:
        line = file.readline(_MAX_HEADER)
        body = file.read()
    header = _json(path, line, "header")
    if not isinstance(header, dict) or set(header) != {"format", "length", "sha256"}:
        raise CheckpointError(f"{path}: no checkpoint header.")
    if header["format"] != _FORMAT:
        raise CheckpointError(f"{path}: expected format {_FORMAT}, got {header['format']!r}.")
    if header["length"] != len(body):
        raise CheckpointError(f"{path}: expected {header['length']} bytes, got {len(body)}.")
    if header["sha256"] != hashlib.sha256(body).hexdigest():
        raise CheckpointError(f"{path}: the checksum does not match; the file was altered.")
    line, _, arrays = body.partition(b"\n")
    return _json(path, line, "manifest"), memoryview(arrays)


def _json(path: Path, line: bytes, what: str):
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: no checkpoint {what}.") from error


def _parts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What consists of arrays."""
    parts = checkpoint._asdict()
    del parts["record"]
    return parts


def _leaves(checkpoint: Checkpoint) -> list[tuple[str, Any]]:
    """Names and arrays in the order of the file."""
    paths = jax.tree_util.tree_leaves_with_path(_parts(checkpoint))
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in paths]


def _described(name: str, leaf) -> dict[str, Any]:
    return {"name": name, "dtype": np.dtype(leaf.dtype).name, "shape": list(leaf.shape)}


def _mismatch(found, expected: list[dict[str, Any]]) -> str:
    """Says where a list of arrays first differs from the expected one."""
    if not isinstance(found, list) or len(found) != len(expected):
        return f"expected {len(expected)} arrays of this configuration, got others"
    pairs = zip(expected, found, strict=True)
    return next(f"expected {want}, got {got}" for want, got in pairs if want != got)
