"""Where a config comes from: a shipped name, a Python file, or a written `config.json`."""

import ast
import contextlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import amtl_jax
from amtl_jax.experiment.config import Config, ConfigError, from_plain
from amtl_jax.experiment.validation import check
from amtl_jax.experiment.workdir import ARM_DIGESTS, DATA_DIGEST

_MOST_BYTES = 1_000_000  # a written config has about two thousand


class Loaded(NamedTuple):
    """A config and what came with it.

    Attributes:
      config: what to run.
      get_encoder: the `get_encoder()` of a Python file, which returns a linen module; not called
        before the run starts, as it imports JAX. None where there is none.
      note: what a person should know about where the config came from, or None.
    """

    config: Config
    get_encoder: Callable[[], Any] | None = None
    note: str | None = None


def shipped_configs() -> dict[str, Path]:
    """Finds the shipped configs by name, in a wheel or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.py"))}
        if found:
            return found
    return {}


def first_line(path: Path) -> str:
    """Returns the first line of a config file's docstring; the file is read, not executed."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0]


def load_config(name: str) -> Config:
    """Loads a config alone; see `load`."""
    return load(name).config


def load(name: str) -> Loaded:
    """Loads a config and what came with it.

    Args:
      name: of a shipped config; or the path of a Python file with `get_config()` and, for an
        encoder of your own, `get_encoder()`; or of a `config.json` that a run wrote, which is
        data: nothing in it is executed.

    Raises:
      ConfigError: one line that says what is wrong and what could be given instead.
      ImportError: if a Python file needs a package that is not installed.
      OSError: if a file cannot be read.
    """
    shipped = shipped_configs()
    path = shipped.get(name, Path(name))
    if path.suffix == ".py" and path.is_file():
        return _from_python(path)
    if path.suffix == ".json" and path.is_file():
        return _from_json(path)
    raise ConfigError(_not_found(name, path, list(shipped)))


def make_encoder(loaded: Loaded) -> Any:
    """Calls the `get_encoder()` of a config whose encoder is a module; None for other kinds.

    Raises:
      ConfigError: if there is none, it fails, or it returns None.
      ImportError: if it needs a package that is not installed.
    """
    if loaded.config.encoder.kind != "module":
        return None
    if loaded.get_encoder is None:
        raise ConfigError(
            "encoder.kind is module: define get_encoder() beside get_config() in a Python file, "
            "or choose another kind."
        )
    with _blaming("get_encoder()"):
        encoder = loaded.get_encoder()
    if encoder is None:
        raise ConfigError("get_encoder() returned None: return an instance of your linen module.")
    return encoder


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Runs a stranger's code, which may raise whatever it likes, and names it in the error."""
    try:
        yield
    except ConfigError:
        raise
    except ImportError as error:
        raise ImportError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name} failed: {_kind_and_text(error)}.") from error


def _kind_and_text(error: BaseException) -> str:
    """`ValueError: what it says`, without a full stop; the kind alone where it says nothing."""
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    return str(error).strip().rstrip(".")


def _not_found(name: str, path: Path, shipped: list[str]) -> str:
    if name and path.is_dir() and (path / "config.json").is_file():
        return f"{name!r} is a folder. Its config is {path / 'config.json'}."
    close = get_close_matches(name, shipped, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return (
        f"No config {name!r}.{meant} Shipped: {', '.join(shipped) or 'none'}. Or give the path of "
        "a Python file with get_config(), or of a config.json that a run wrote."
    )


def _from_python(path: Path) -> Loaded:
    """Executes a config file and asks it for its config."""
    spec = importlib.util.spec_from_file_location(f"amtl_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that the file defines look their module up by name.
    sys.modules[spec.name] = module
    with _blaming(str(path)):
        spec.loader.exec_module(module)
        return _loaded_from(module, path)


def _loaded_from(module: types.ModuleType, path: Path) -> Loaded:
    get_config = getattr(module, "get_config", None)
    config = get_config() if callable(get_config) else None
    if not isinstance(config, Config):
        raise ConfigError(f"{path} must define get_config() that returns a Config.")
    get_encoder = getattr(module, "get_encoder", None)
    if get_encoder is not None and not callable(get_encoder):
        raise ConfigError(f"{path} must define get_encoder() as a function, or not at all.")
    return Loaded(config, get_encoder)


def _from_json(path: Path) -> Loaded:
    """Reads a written config as data."""
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(
            f"{path} has {path.stat().st_size:,} bytes; a config has at most {_MOST_BYTES:,}."
        )
    try:
        plain = json.loads(
            path.read_text("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ConfigError(f"{path} is not a config: it is nested too deeply.") from error
    except ValueError as error:  # not UTF-8, not JSON, or refused below
        raise ConfigError(f"{path} is not a config: {_text(error)}.") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} is not a config: it holds {type(plain).__name__}, not fields.")
    version = plain.pop("amtl_jax", amtl_jax.__version__)
    plain.pop(DATA_DIGEST, None)
    plain.pop(ARM_DIGESTS, None)
    try:
        config = from_plain(plain)
        check(config)
    except RecursionError as error:
        raise ConfigError(f"{path} is not a config: it is nested too deeply.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if config.encoder.kind == "module":
        raise ConfigError(
            f"{path} used a module of your own, and nothing in a JSON file is executed: run the "
            "Python file with get_encoder()."
        )
    if version == amtl_jax.__version__:
        return Loaded(config)
    note = f"{path} was written by amtl_jax {version!s:.20}; this is {amtl_jax.__version__}"
    return Loaded(config, note=f"{note}, which may give other numbers.")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is there twice: which one counts would be a guess."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} is there twice")
    return plain


def _refuse_constant(text: str):
    raise ValueError(f"{text} is not a number of JSON")
