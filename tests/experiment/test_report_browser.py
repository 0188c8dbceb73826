"""The page in a browser, where there is one: no errors, nothing loaded, one target at a time."""

import json
import re
import shutil
import subprocess

import pytest
from fabricated_study import fabricate
from pages import VOID

from amtl_jax.experiment.page.writing import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--enable-logging=stderr",
)
# Of the browser itself, whatever it shows.
OWN_HOSTS = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The page as the browser understood it, what it said, and what it asked for."""
    folder = tmp_path_factory.mktemp("browser")
    fabricate(folder / "study", corruptions=3, digits=3, budgets=(15_000,))
    page = write_report([folder / "study"]).page
    log = folder / "net.json"
    try:
        result = subprocess.run(
            [
                BROWSER,
                *FLAGS,
                f"--user-data-dir={folder / 'profile'}",
                f"--log-net-log={log}",
                "--dump-dom",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"Chromium does not start here: {error}")
    return page.read_text(), result.stdout.decode(), result.stderr.decode(), log.read_text()


def test_no_script_fails_and_no_rule_is_broken(seen):
    assert [line for line in seen[2].splitlines() if "CONSOLE" in line] == []


def test_nothing_is_asked_of_anybody(seen):
    hosts = set(re.findall(r'"url":"\w+://([^/"]*)', seen[3]))
    assert {host for host in hosts if not host.endswith(OWN_HOSTS)} == set()
    assert json.loads(seen[3])["events"]


def test_the_browser_sees_the_elements_that_were_written(seen):
    names = [re.findall(r"<([a-zA-Z][\w:-]*)", page) for page in seen[:2]]
    written, understood = ([name for name in found if name not in VOID] for found in names)
    assert understood == written
