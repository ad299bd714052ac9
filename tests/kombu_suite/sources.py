"""Fetch kombu's own integration tests, which its wheel does not carry."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "celery-postgres" / "sources"
MEMBER = "t/integration/common.py"


class SourceUnavailableError(Exception):
    """The source distribution could not be had; the reason is the message."""


def pip() -> list[str]:
    """A command that is pip: this interpreter's, or any on the path."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    command = shutil.which("pip") or shutil.which("pip3")
    if command is None:
        raise SourceUnavailableError("pip is neither installed here nor on the path")
    return [command]


def fetch(version: str) -> Path:
    """kombu's source archive, from the cache or from the package index that pip is configured for."""
    archive = CACHE / f"kombu-{version}.tar.gz"
    if archive.exists():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [*pip(), "download", "--quiet", "--no-deps", "--no-binary", "kombu", "--dest", str(CACHE)]
    try:
        done = subprocess.run(
            [*command, f"kombu=={version}"], capture_output=True, text=True, timeout=180, check=False
        )
    except subprocess.TimeoutExpired:
        raise SourceUnavailableError("pip download took longer than 180 s") from None
    except OSError as error:
        raise SourceUnavailableError(f"{command[0]} does not start: {error}") from error
    if done.returncode or not archive.exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SourceUnavailableError(f"pip download kombu=={version}: {lines[-1]}")
    return archive


@lru_cache
def integration_mixins() -> ModuleType:
    """The module with kombu's test mixins, of the version that is installed."""
    version = importlib.metadata.version("kombu")
    archive = fetch(version)
    target = CACHE / f"kombu-{version}-common.py"
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"kombu-{version}/{MEMBER}")
        if member is None:
            raise SourceUnavailableError(f"{archive} has no {MEMBER}")
        target.write_bytes(member.read())
    spec = importlib.util.spec_from_file_location("kombu_integration_common", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
