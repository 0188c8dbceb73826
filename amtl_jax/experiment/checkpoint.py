"""One file of arrays per round, verified before a byte of it is believed.

A header line of JSON holds length and SHA-256 of what follows: an NPZ archive without pickle
with the leaves of the learner's state, the predictions on the test rows, and the round's
record as JSON text.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from amtl_jax.experiment.files import write_atomically

_FORMAT = "amtl-checkpoint-1"
_MAX_HEADER = 4096
_RECORD, _PREDICTIONS = "record", "predictions"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another structure than expected."""


class Checkpoint(NamedTuple):
    """What a round leaves behind.

    Attributes:
      state: the learner's state, or an empty tuple for an arm that learns nothing.
      predictions: `[n_test, O]` float32 predictions on the test rows.
      record: the round's line of `metrics.jsonl`.
    """

    state: Any
    predictions: np.ndarray
    record: dict


def _leaves(tree) -> dict[str, Any]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {"state" + jax.tree_util.keystr(path): leaf for path, leaf in paths}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically."""
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(checkpoint.state).items()}
    arrays[_PREDICTIONS] = np.asarray(checkpoint.predictions, np.float32)
    arrays[_RECORD] = np.frombuffer(json.dumps(checkpoint.record).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    body = stream.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    header = json.dumps({"format": _FORMAT, "length": len(body), "sha256": digest})
    write_atomically(path, header.encode() + b"\n" + body)


def load(path: Path, template) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Args:
      path: the file.
      template: a state of the wanted structure, shapes and dtypes.

    Raises:
      CheckpointError: if the file is truncated, altered, or of another structure.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        line = file.readline(_MAX_HEADER)
        try:
            header = json.loads(line)
            length, digest, form = header["length"], header["sha256"], header["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: no checkpoint header.") from error
        if form != _FORMAT:
            raise CheckpointError(f"{path}: expected format {_FORMAT}, got {form!r}.")
        size = path.stat().st_size - len(line)
        if size != length:
            raise CheckpointError(f"{path}: expected {length} bytes of arrays, got {size}.")
        body = file.read(size)
    if hashlib.sha256(body).hexdigest() != digest:
        raise CheckpointError(f"{path}: the checksum does not match; the file was altered.")
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    wanted = _leaves(template)
    if set(arrays) != {*wanted, _RECORD, _PREDICTIONS}:
        raise CheckpointError(f"{path}: holds other arrays than this configuration needs.")
    for name, leaf in wanted.items():
        if arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype:
            raise CheckpointError(
                f"{path}: expected {name} {leaf.dtype}{list(leaf.shape)}, got "
                f"{arrays[name].dtype}{list(arrays[name].shape)}."
            )
    structure = jax.tree.structure(template)
    state = jax.tree.unflatten(structure, [jax.numpy.asarray(arrays[name]) for name in wanted])
    record = json.loads(arrays[_RECORD].tobytes())
    return Checkpoint(state, arrays[_PREDICTIONS], record)
