"""A workdir belongs to one config."""

import json
from pathlib import Path

from amtl_jax.experiment.config import Config, ConfigError, to_plain
from amtl_jax.experiment.files import write_atomically


def claim(workdir: Path, config: Config) -> None:
    """Writes `config.json` into a new workdir, or checks that an old one has the same config.

    Raises:
      ConfigError: if the workdir holds another config; names what differs.
    """
    path = workdir / "config.json"
    wanted = json.loads(json.dumps(to_plain(config)))
    if not path.exists():
        body = json.dumps(wanted, indent=2, allow_nan=False)
        write_atomically(path, body.encode())
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path} is not readable JSON ({error}). Choose another --workdir, or remove this one."
        ) from error
    changes = _changes(found, wanted)
    if changes:
        raise ConfigError(
            f"Workdir {workdir} belongs to another config: {'; '.join(changes)}. Choose another "
            "--workdir, or repeat the command that made it."
        )


def _changes(found, wanted, prefix="") -> list[str]:
    """Lists the values that differ, as `name: there X, here Y`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        lines = []
        for name in sorted({*found, *wanted}):
            lines += _changes(found.get(name), wanted.get(name), f"{prefix}.{name}".lstrip("."))
        return lines
    return [] if found == wanted else [f"{prefix}: there {found!r}, here {wanted!r}"]
