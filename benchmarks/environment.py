"""Machine and versions: without them a figure means nothing to anybody else."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.clients import ROOT

_PACKAGES = (
    "celery-postgres",
    "celery",
    "kombu",
    "billiard",
    "amqp",
    "redis",
    "psycopg",
    "sqlalchemy",
    "gevent",
    "pgmq",
    "pgqueuer",
    "procrastinate",
)


def machine() -> dict[str, str]:
    """Return processor, memory, system, and how busy it was before the first measurement."""
    memory_kb = _field(Path("/proc/meminfo"), "MemTotal").split()[0]
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory_kb) / 2**20:.0f} GiB",
        "system": platform.platform(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """Return Python, the installed packages, and the commit of this project where there is one."""
    found = {"python": platform.python_version()}
    found.update((package, _version(package)) for package in _PACKAGES)
    commit = _commit()
    if commit:
        found["commit"] = commit
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return asked.stdout.strip() or None


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
