"""What is written beside numbers: versions, and the commit of a checkout."""

import shutil
import subprocess
from pathlib import Path

import pytest

import amtl_jax
from amtl_jax.experiment import versions
from amtl_jax.experiment.versions import git_revision, package_versions

WHO = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]


@pytest.fixture
def checkout(tmp_path):
    """A git checkout of one commit, and what asks git about it."""
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def git(*words):
        command = ["git", "-C", str(tmp_path), *WHO, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    return tmp_path, git


def test_the_commit_of_a_checkout(checkout):
    folder, git = checkout
    head = git("rev-parse", "HEAD")
    assert git_revision(folder) == head
    git("tag", "-a", "v1", "-m", "v1")
    assert git_revision(folder) == head
    (folder / "file").write_text("two")
    assert git_revision(folder) == f"{head}-dirty"


def test_a_folder_within_a_checkout_is_none(checkout):
    inner = checkout[0] / "site-packages"
    inner.mkdir()
    assert git_revision(inner) is None


def test_without_git_or_a_commit(checkout, monkeypatch, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    subprocess.run(["git", "init", "-q", str(empty)], check=True)
    assert git_revision(empty) is None
    monkeypatch.setenv("PATH", "")
    assert git_revision(checkout[0]) is None


def test_it_stands_with_the_versions(monkeypatch):
    asked = []
    monkeypatch.setattr(versions, "git_revision", lambda folder: asked.append(folder) or "abc")
    found = package_versions()
    assert found["git revision"] == "abc"
    assert found["amtl_jax"] == amtl_jax.__version__
    assert asked == [Path(amtl_jax.__file__).parent.parent]
    monkeypatch.setattr(versions, "git_revision", lambda folder: None)
    assert set(package_versions()) == {"amtl_jax", "jax", "jaxlib", "flax", "optax", "numpy"}
