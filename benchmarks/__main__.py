"""Runs a study: `python -m benchmarks tables --data school --path FILE`."""

import importlib
import sys

from amtl_jax.cpu_threads import calm_threads

_STUDIES = (
    "tables",
    "safety",
    "learning_curves",
    "predictions",
    "study_page",
    "source_scores",
    "peers",
    "throughput",
    "scaling",
)


def main():
    """Hands the rest of the command line to the study that it names."""
    calm_threads()  # before XLA starts
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in _STUDIES:
        sys.exit(f"python -m benchmarks expects a study, one of {', '.join(_STUDIES)}.")
    importlib.import_module(f"benchmarks.{name}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
