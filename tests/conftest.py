"""Settings that every test shares: strict rank promotion, and hypothesis without deadlines."""

import gc
import sys
from pathlib import Path

# The benchmarks are not installed: behind what is, so that an installed package is the one tested.
sys.path.append(str(Path(__file__).parents[1]))

from amtl_jax.cpu_threads import calm_threads

calm_threads()  # before XLA starts

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("ours", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ours")


_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 25_000  # Linux gives a process 65,530, and XLA ends it by a fault where they run out


@pytest.fixture(scope="session")
def clearings():
    """How often compiled code was forgotten: what was compiled before is compiled again."""
    return []


@pytest.fixture(scope="module", autouse=True)
def few_maps(clearings):
    """Forgets compiled code where it fills the process: every program takes some memory maps."""
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
        clearings.append(_MAPS.read_bytes().count(b"\n"))


@pytest.fixture
def quick_compiles():
    """For code that computes little and compiles much: XLA works half as long on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
