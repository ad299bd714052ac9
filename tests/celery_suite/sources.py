"""Celery's own integration tests, which its wheel does not carry, laid out so that they run from there."""

from __future__ import annotations

import re
import shutil
import tarfile
from typing import TYPE_CHECKING

from tests.fixtures.sources import SourceUnavailableError, fetch

if TYPE_CHECKING:
    from pathlib import Path

#: What is taken from the archive: the tests, what they import, and the settings that pytest reads there.
MEMBERS = ("t/__init__.py", "t/canvas_helpers.py", "t/integration/", "pyproject.toml")

#: Most tests with this guard only count with Redis what the tasks did; the few others are exceptions of ours.
GUARD = re.compile(r"""(?<=conf\.result_backend\.startswith\()(?:\('redis', [^()]*\)|['"]redis['"])(?=\))""")
OPEN_GUARD = "('redis', 'postgres')"


def unpack(target: Path) -> None:
    """Put the tests of the installed Celery into `target`, with the guards opened for our URLs."""
    archive = fetch("celery")
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(f"{root}/")
            source = tar.extractfile(member) if name.startswith(MEMBERS) else None
            if source is None:
                continue
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if open_guards(target / "t" / "integration") == 0:
        raise SourceUnavailableError(f"{archive.name} has no test that asks for Redis as the result backend")


def open_guards(directory: Path) -> int:
    """Let what is guarded by a Redis URL also run with ours, and say how many guards there were."""
    total = 0
    for path in directory.glob("test_*.py"):
        text, count = GUARD.subn(OPEN_GUARD, path.read_text())
        path.write_text(text)
        total += count
    return total
