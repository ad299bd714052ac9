"""PgBouncer in transaction mode before a PostgreSQL server, started for one place and ended with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.servers import PostgresqlServer, UnreachableError

_SETTINGS = """
[databases]
* = host={host} port={port} user={user} password='{password}'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
"""

_START_S = 10.0


class PgbouncerServer(PostgresqlServer):
    """The server behind it is where the place is made; its process is the one whose CPU counts."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._behind = urlsplit(url)
        self._program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def reach(self) -> None:
        """Look for the program, too."""
        if self._program is None:
            raise UnreachableError("pgbouncer is not installed")
        super().reach()

    def facts(self) -> dict[str, str]:
        """Return the pooler's version besides."""
        assert self._program is not None
        said = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True).stdout
        return {**super().facts(), "pooler": f"{said.splitlines()[0]}, transaction mode"}

    def prepare(self, name: str) -> str:
        """Create the database, start a pooler and return the URL through it."""
        place = urlsplit(super().prepare(name))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._start(port)
        return place._replace(netloc=f"anybody:any@127.0.0.1:{port}").geturl()

    def clean(self, name: str) -> None:
        """End the pooler and drop the database."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder)
        super().clean(name)

    def _start(self, port: int) -> None:
        assert self._program is not None
        self._folder = Path(tempfile.mkdtemp(prefix="celery-postgres-benchmark-pooler-"))
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(
                host=self._behind.hostname,
                port=self._behind.port or 5432,
                user=unquote(self._behind.username or ""),
                password=unquote(self._behind.password or ""),
                listen_port=port,
            )
        )
        command = [self._program, str(settings)]
        if os.geteuid() == 0:  # which it refuses to be
            self._folder.chmod(0o755)
            command[1:1] = ["--user", "nobody"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_S
        while not _listens(port):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise UnreachableError(f"pgbouncer did not start:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
