"""The harness can fail: each bug that is planted is seen by the tests that are there for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .planting.bugs import BUGS

ROOT = Path(__file__).resolve().parents[2]
PLANTING = Path(__file__).parent / "planting"
SOME_FAILED = 1
AT_MOST_S = 600

pytestmark = pytest.mark.long


@pytest.mark.parametrize("bug", BUGS)
def test_is_seen(bug: str) -> None:
    """Planted into every process of the run, it makes one of these tests fail; else they pass, as ever."""
    tests = BUGS[bug][1].split()
    environment = {
        **os.environ,
        "PLANTED_BUG": bug,
        "PYTHONPATH": os.pathsep.join([str(PLANTING), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-rN", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=AT_MOST_S,
        check=False,
    )
    assert done.returncode == SOME_FAILED, done.stdout[-5000:] + done.stderr[-2000:]
    assert " failed" in done.stdout
