"""Runs of Celery's own tests in a pytest of their own, and what became of each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.fixtures.process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY = "t/integration"

#: Their pytest reads their settings. Its markers `flaky` are without effect: nothing is run twice.
PYTEST = [
    *(sys.executable, "-m", "pytest", "--rootdir", ".", "-c", "pyproject.toml"),
    *("-p", "celery.contrib.pytest", "-p", "no:rerunfailures", "-p", "no:xdist", "-p", "no:cacheprovider"),
]

#: A test that waits for ever is ended by pytest-timeout, and the next one runs.
TEST_TIMEOUT_S = 300


@dataclass(frozen=True)
class Outcome:
    """What became of one test: `passed`, `failed`, `error`, `skipped` or `xfailed`, and why."""

    state: str
    reason: str = ""


class RunError(Exception):
    """The other pytest did not get to the tests; its output is the message."""


def name_of(test: str) -> str:
    """The id without parameters."""
    return test.partition("[")[0]


def environment(**variables: str) -> dict[str, str]:
    """The tests start `celery` by that name, from this interpreter's directory, and read the worker's log."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "WORKER_LOGLEVEL": "INFO", **variables}


def collect(directory: Path, files: Sequence[str]) -> list[str]:
    """The ids of all tests of the files, as `test_file.py::class::name[parameter]`."""
    done = subprocess.run(
        [*PYTEST, "--collect-only", "-q", *(f"{DIRECTORY}/{name}" for name in files)],
        cwd=directory,
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RunError(f"{done.stdout}\n{done.stderr}")
    prefix = f"{DIRECTORY}/"
    return [line.removeprefix(prefix) for line in done.stdout.splitlines() if line.startswith(prefix)]


def run(directory: Path, tests: Sequence[str], env: dict[str, str], timeout_s: float) -> dict[str, Outcome]:
    """Run some tests in one process and return the outcome of each one that was begun.

    Raises RunError with the output if there is no report, and AssertionError with it after `timeout_s`.
    """
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        report = Path(scratch) / "report.xml"
        argv = [*PYTEST, "-q", "--timeout", str(TEST_TIMEOUT_S), f"--junitxml={report}"]
        argv += [f"{DIRECTORY}/{test}" for test in tests]
        process = Process("Celery's tests", argv, environment(**env), cwd=directory)
        try:
            process.wait(timeout_s)
        finally:
            process.end()
        if not report.exists():
            raise RunError(process.tail())
        outcomes: dict[str, Outcome] = {}
        for case in ET.parse(report).iter("testcase"):
            test = identifier(case)
            outcomes[test] = worse(outcomes.get(test), outcome(case))
        return outcomes


def identifier(case: ET.Element) -> str:
    """The id as `collect` gives it; junit knows `t.integration.test_file.class` and the name."""
    file, *classes = case.get("classname", "").removeprefix("t.integration.").split(".")
    return "::".join([f"{file}.py", *classes, case.get("name", "")])


def outcome(case: ET.Element) -> Outcome:
    for tag, state in (("error", "error"), ("failure", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            if found.get("type") == "pytest.xfail":
                state = "xfailed"
            return Outcome(state, "\n".join(filter(None, [found.get("message"), found.text])))
    return Outcome("passed")


def worse(first: Outcome | None, second: Outcome) -> Outcome:
    """A test may be reported twice: subtests beside it, or an error of its teardown."""
    order = ("error", "failed", "xfailed", "skipped", "passed")
    return second if first is None else min(first, second, key=lambda one: order.index(one.state))
