"""The packages that compute, by version, for what is written beside numbers."""

import subprocess
from importlib import metadata
from pathlib import Path

import amtl_jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_PATIENCE = 10.0  # seconds that git has for an answer


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that its numbers depend on, by name.

    Where the package runs from a git checkout, "git revision" says which.
    """
    revision = git_revision(Path(amtl_jax.__file__).parent.parent)
    return {
        "amtl_jax": amtl_jax.__version__,
        **({} if revision is None else {"git revision": revision}),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def git_revision(folder: Path) -> str | None:
    """The commit of a checkout, with `-dirty` where files differ from it.

    Args:
      folder: the top of the checkout; one further up, as around an environment that the package is
        installed in, is another project's.

    Returns:
      None for a folder that is no checkout, and where git is missing or refuses to read it.
    """
    if not (folder / ".git").exists():
        return None
    # It must not take the lock of an index that somebody is committing from.
    command = ["git", "--no-optional-locks", "-C", str(folder)]
    command += ["describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]  # a commit, not how far it is from a tag
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
