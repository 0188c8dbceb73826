"""Runs a study: `python -m benchmarks tables --data school --path FILE`."""

import sys

from benchmarks import learning_curves, predictions, safety, tables

_STUDIES = {
    "tables": tables.main,
    "safety": safety.main,
    "learning_curves": learning_curves.main,
    "predictions": predictions.main,
}


def main():
    """Hands the rest of the command line to the study that it names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in _STUDIES:
        sys.exit(f"python -m benchmarks expects a study, one of {', '.join(_STUDIES)}.")
    _STUDIES[name](sys.argv[2:])


if __name__ == "__main__":
    main()
