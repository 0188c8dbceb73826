"""A workdir belongs to one config and one version of this package."""

import hashlib
import json
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal

import amtl_jax
from amtl_jax.experiment.config import Config, ConfigError, shown, to_plain
from amtl_jax.experiment.data_digest import data_digest, file_digest
from amtl_jax.files import write_atomically

DATA_DIGEST = "data_sha256"  # of the files of the data, in config.json
ARM_DIGESTS = "arms_sha256"  # of the files of strategies of one's own

BOOK = "campaign.json"  # what a campaign remembers
UNITS = "units"  # folder of a study's results

Owner = Literal["run", "campaign", "study"]
_SIGNS: dict[Owner, str] = {"campaign": BOOK, "study": UNITS, "run": "metrics.jsonl"}


def refuse_other(workdir: Path, config: Config, owner: Owner = "run") -> None:
    """Raises where a workdir was made by another config or version; touches nothing.

    Raises:
      ConfigError: names what differs, or says that it is no workdir, or that of another `owner`.
      OSError: if `config.json` cannot be read.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir {workdir} is a file; give a folder.")
    found = next((one for one, sign in _SIGNS.items() if (workdir / sign).exists()), owner)
    if found != owner:
        goes_on = ", which goes on by amtl ask and amtl tell" if found == "campaign" else ""
        raise ConfigError(
            f"Workdir {workdir} holds a {found}{goes_on}. A {owner} needs a folder of its own. "
            "Choose another --workdir."
        )
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not readable JSON ({error}). Choose another --workdir, or remove this one."
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no config. Choose another --workdir, or remove this one.")
    changes = _changes(found, _described(config))
    if changes:
        raise ConfigError(
            f"Workdir {workdir} belongs to another config: {'; '.join(changes)}. Choose another "
            "--workdir, or repeat the command that made it."
        )


def claim(workdir: Path, config: Config) -> None:
    """Writes `config.json` into a workdir that has none; call `refuse_other` before.

    Raises:
      OSError: if it cannot be written.
    """
    path = workdir / "config.json"
    if not path.exists():
        body = json.dumps(_described(config), indent=2, allow_nan=False)
        write_atomically(path, body.encode() + b"\n")


def fingerprint(config: Config) -> str:
    """Returns a short name that another config or another version does not share."""
    text = json.dumps(_described(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _described(config: Config) -> dict[str, Any]:
    """The config as JSON gives it back, who ran it and on what: others have other numbers."""
    described = {"amtl_jax": amtl_jax.__version__, **to_plain(config)}
    del described["scale"]  # others' numbers differ by rounding at most
    digest = data_digest(config.data)
    if digest is not None:
        described[DATA_DIGEST] = digest
    own = {arm: _module_digest(arm.partition(":")[0]) for arm in config.study.arms if ":" in arm}
    if own:
        described[ARM_DIGESTS] = own
    return json.loads(json.dumps(described))


def _module_digest(module: str) -> str | None:
    """SHA-256 of the file of a module, which is not run; None where it is not found as a file."""
    places: Any = [*sys.path, str(Path.cwd())]
    spec = None
    for part in module.split("."):
        spec = None if places is None else PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations  # None but for packages
    if spec is None or not spec.has_location:
        return None
    return file_digest(Path(str(spec.origin)))


def _changes(found, wanted, prefix="") -> list[str]:
    """Lists the values that differ, as `name: there X, here Y`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        lines = []
        for name in sorted({*found, *wanted}):
            lines += _changes(found.get(name), wanted.get(name), f"{prefix}.{name}".lstrip("."))
        return lines
    return [] if found == wanted else [f"{prefix}: there {shown(found)}, here {shown(wanted)}"]
