"""The packages that compute, by version, for what is written beside numbers."""

from importlib import metadata

import amtl_jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that its numbers depend on, by name."""
    return {
        "amtl_jax": amtl_jax.__version__,
        **{name: metadata.version(name) for name in _PACKAGES},
    }
