"""Settings that every test shares: how programs are compiled, strict rank promotion, hypothesis."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# The benchmarks are not installed: behind what is, so that an installed package is the one tested.
sys.path.append(str(Path(__file__).parents[1]))

from amtl_jax.cpu_threads import calm_threads

calm_threads()  # before XLA starts

# Most of the tests' time is XLA's. What computes little need not be compiled well, and what one
# test, worker or command has compiled the others read, from a folder that is new each time: nothing
# is run that another tree compiled. The job in `.ci/run` is compiled as users' are.
_QUICK = "JAX_DISABLE_MOST_OPTIMIZATIONS"
os.environ[_QUICK] = "1"
# XLA's older code for fused loops is compiled in half the time. A jaxlib that does not know the
# option would end the tests.
_OLDER_LOOPS = "--xla_cpu_use_fusion_emitters=false"
if version("jaxlib").startswith("0.10.") and _OLDER_LOOPS not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += f" {_OLDER_LOOPS}"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="amtl_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("ours", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("ours")


_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 25_000  # Linux gives a process 65,530, and XLA ends it by a fault where they run out


def _forget(clearings):
    jax.clear_caches()
    gc.collect()
    clearings.append(None)


@pytest.fixture(scope="session")
def clearings():
    """How often compiled code was forgotten: what was compiled before is compiled again."""
    return []


@pytest.fixture(scope="module", autouse=True)
def few_maps(clearings):
    """Forgets compiled code where it fills the process: every program takes some memory maps."""
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        _forget(clearings)


@pytest.fixture(scope="module")
def full_compiles(clearings):
    """Compiles as users' programs are: for what a number's last digits are tested on."""
    _forget(clearings)  # what other modules compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(_QUICK)
        jax.config.update("jax_disable_most_optimizations", False)
        yield
    jax.config.update("jax_disable_most_optimizations", True)
