"""Runs of `celery-postgres verify`, as a user starts them, and their reports."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fixtures.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).parent

_REPORT = "report.json"


@dataclass(frozen=True)
class Run:
    """What a finished run said."""

    code: int
    text: str
    report: dict[str, Any]

    def check(self, name: str) -> dict[str, Any]:
        """What the report says of one check."""
        (found,) = [check for check in self.report["checks"] if check["name"] == name]
        return found

    def verdicts(self) -> dict[str, str]:
        return {check["name"]: check["verdict"] for check in self.report["checks"]}

    def failed(self) -> set[str]:
        return {name for name, verdict in self.verdicts().items() if verdict == "FAIL"}


def start(url: str, *arguments: str, app: str | None = None, env: Mapping[str, str] | None = None) -> Process:
    """Start a run; with an application by `celery -A app postgres verify`."""
    program = ["celery_postgres.cli"] if app is None else ["celery", "-A", app, "postgres"]
    module = [sys.executable, "-m", *program] if app else [sys.executable, "-c", _CLI]
    return Process("verify", [*module, "verify", *arguments], {**_environment(url), **(env or {})})


def run(
    url: str, folder: Path, *arguments: str, app: str | None = None, env: Mapping[str, str] | None = None
) -> Run:
    """Run to the end."""
    process = begin(url, folder, *arguments, app=app, env=env)
    try:
        return finish(process, folder)
    finally:
        process.end()


def begin(
    url: str, folder: Path, *arguments: str, app: str | None = None, env: Mapping[str, str] | None = None
) -> Process:
    """Start a run with its temporary files in the folder, and its report."""
    report = ("--json", str(folder / _REPORT))
    return start(url, *report, *arguments, app=app, env={"TMPDIR": str(folder), **(env or {})})


def finish(process: Process, folder: Path) -> Run:
    """Wait for its end."""
    code = process.wait(300)
    process._reader.join(5)
    text, file = process.tail(10_000), folder / _REPORT
    assert file.exists(), text
    return Run(code, text, json.loads(file.read_text()))


_CLI = "from celery_postgres.cli import main; main(prog_name='celery-postgres')"


def _environment(url: str) -> dict[str, str]:
    paths = [str(APPS), str(ROOT / "examples"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {"DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "LC_ALL": "C.UTF-8"}
