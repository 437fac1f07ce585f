"""The campaign of faults, its short form: every group loses nothing (`make faults`: all of it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.__main__ import GROUPS

TESTS = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it needs Linux's /proc"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    out = folder / "faults.json"
    command = ["-m", "faults", "--share", "0.02", "--output", str(out), "--folder", str(folder)]
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.exists(), done.stdout + done.stderr
    return json.loads(out.read_text())["groups"] | {"": done}


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_lost(report, group):
    assert group in report, report[""].stdout + report[""].stderr
    assert report[group]["lost"] == {} and report[group]["tried"] >= 3


def test_the_last_line_says_how_many(report):
    tried = sum(each["tried"] for name, each in report.items() if name)
    assert report[""].stdout.splitlines()[-1] == f"{tried} faults tried, 0 lost"
    assert report[""].returncode == 0
