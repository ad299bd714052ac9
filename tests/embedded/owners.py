"""Processes that own a private server, and what is left of them."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

import celery_postgres
from celery_postgres.embedded import find_bindir
from celery_postgres.embedded.account import Account, reachable_bindir
from tests.fixtures.waiting import PATIENCE_S, wait_until

IS_ROOT = os.geteuid() == 0

# Starts a server, tells its URL, and then does what the test wants.
SCRIPT = """
import os, sys
from celery_postgres.embedded import EmbeddedPostgres

server = EmbeddedPostgres(sys.argv[1] if len(sys.argv) > 1 else None)
server.start()
print(server.url, flush=True)
{then}
"""
WAIT = "sys.stdin.read()"


class Place:
    """A folder that every account can enter, to own servers in; `temporary` is their TMPDIR."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.folder.chmod(0o755)
        self.temporary.chmod(0o777)

    def start(self, *command: str, **how: Any) -> subprocess.Popen[str]:
        """Start a process whose temporary files lie here, in a session of its own like a terminal's."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment.update(how.pop("env", {}), TMPDIR=str(self.temporary))
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **how,
        )
        self.started.append(process)
        return process

    def own(self, then: str = WAIT, directory: Path | None = None) -> subprocess.Popen[str]:
        """Start a process that owns a server."""
        arguments = [] if directory is None else [str(directory)]
        return self.start(sys.executable, "-c", SCRIPT.format(then=then), *arguments)

    def processes(self) -> list[psutil.Process]:
        """The living processes whose command line names this place."""
        return [process for process in psutil.process_iter() if str(self.folder) in command_line(process)]

    def clear(self) -> None:
        """End what a failed test left running; the servers then end by themselves."""
        for process in self.started:
            process.kill()
            process.communicate()
        self.expect_nothing_left()

    def expect_nothing_left(self) -> None:
        wait_until(lambda: not self.processes(), "every process to end")
        wait_until(lambda: not any(self.temporary.iterdir()), "the temporary files to go")


def finish(process: subprocess.Popen[str], say: str | None = None) -> tuple[str, str]:
    """Wait for the process's end, after saying a last word to it; its output and its errors."""
    return process.communicate(say, timeout=PATIENCE_S)


def command_line(process: psutil.Process) -> str:
    """Empty for a process that has ended, also for one that nobody has reaped yet."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def first_line(process: subprocess.Popen[str]) -> str:
    """What the process says first; fails with its errors if it ends without a word."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise AssertionError(process.communicate()[1])
    return line


@functools.cache
def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=True)


@functools.cache
def open_python() -> str | None:
    """A Python that every account can run; the one of this run may lie in a closed home."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [python, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"],
                check=True,
                cwd="/",
                **nobody().switch,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


def open_environment(place: Place) -> dict[str, str]:
    """Variables with which the open Python finds the private server, which needs no library."""
    package = place.folder / "lib" / "celery_postgres"
    source = Path(celery_postgres.__file__).parent
    shutil.copytree(source / "embedded", package / "embedded", ignore=shutil.ignore_patterns("__pycache__"))
    for module in ("errors.py", "sqlstates.py"):
        shutil.copy(source / module, package)
    (package / "__init__.py").touch()
    for path in (package.parent, *package.parent.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    bindir = reachable_bindir(find_bindir(), nobody(), place.folder)
    return {"PYTHONPATH": str(place.folder / "lib"), "PG_BINDIR": str(bindir)}
