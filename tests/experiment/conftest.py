"""One tiny run that was never stopped, and one compiled learner for all tests of this folder."""

import collections
import shutil

import pytest
from tiny_runs import learner_key, tiny

from amtl_jax.experiment import build
from amtl_jax.experiment.progress import Printer
from amtl_jax.experiment.run import run


@pytest.fixture(scope="session", autouse=True)
def traces():
    """Keeps learners from run to run, so that `tell` is compiled once for all tests.

    Returns:
      How often the `tell` of each learner was traced, by config.
    """
    kept, counts, original = {}, collections.Counter(), build.build_learner

    def build_learner(config, problem, encoder):
        key = learner_key(config)
        if key not in kept:
            learner, rules = original(config, problem, encoder)

            def tell(*arguments):
                counts[key] += 1
                return learner.tell(*arguments)

            kept[key] = learner._replace(tell=tell), rules
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "build_learner", build_learner)
        # Seconds a run that no test looks at; test_figures draws.
        patch.setattr("amtl_jax.experiment.run._write_figures", lambda result, observer: None)
        yield counts


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run that was never stopped: workdir, summary, lines."""
    workdir, lines = tmp_path_factory.mktemp("whole") / "run", []
    summary = run(tiny(), workdir, observer=Printer(lines.append)).summary
    return workdir, summary, lines


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of that run, to be damaged."""
    return shutil.copytree(whole[0], tmp_path / "copy")
