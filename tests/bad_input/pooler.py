"""PgBouncer, which hands a server session to another client after each transaction."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = """
[databases]
* = host={host} port={port} user={user} password='{password}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
"""


@contextmanager
def pooler(server_url: str, mode: str = "transaction", size: int = 3) -> Iterator[str]:
    """The URL of the same database behind a pooler with so many sessions; skips where there is none."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("not run: PgBouncer is not installed")
    parts = urlsplit(server_url)
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="pooler-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            host=parts.hostname,
            port=parts.port or 5432,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            listen_port=port,
            mode=mode,
            size=size,
        )
    )
    command = [program, str(settings)]
    if os.geteuid() == 0:  # which PgBouncer refuses to serve
        folder.chmod(0o755)
        command[1:1] = ["--user", "nobody"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = parts._replace(netloc=f"anybody:any@127.0.0.1:{port}").geturl()
    try:
        wait_until(lambda: process.poll() is not None or answers(url), "the pooler answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
