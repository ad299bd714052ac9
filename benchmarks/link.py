"""The observer's end of a slow link: a process that passes everything on, later (`delaying.py`)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.clients import ROOT, MeasurementError

if TYPE_CHECKING:
    from typing_extensions import Self

_PORTS = {"redis": 6379, "amqp": 5672}
_POSTGRESQL_PORT = 5432


class Link:
    """Leads to the server of a URL, `round_trip_ms` there and back; use as a context manager.

    `url` is the one to use instead, and valid inside the `with` block.
    """

    def __init__(self, url: str, round_trip_ms: float) -> None:
        self._parts = urlsplit(url)
        self._round_trip_ms = round_trip_ms
        self.url = ""

    def __enter__(self) -> Self:
        host = self._parts.hostname or "127.0.0.1"
        port = self._parts.port or _PORTS.get(self._parts.scheme, _POSTGRESQL_PORT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.delaying", host, str(port), str(self._round_trip_ms / 2)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        listening_on = self._process.stdout.readline().decode().strip()
        if not listening_on:
            raise MeasurementError(f"the slow link ended with {self._process.wait()}")
        account, at, _ = self._parts.netloc.rpartition("@")
        self.url = self._parts._replace(netloc=f"{account}{at}127.0.0.1:{listening_on}").geturl()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        processes.stop(self._process, patience_s=5)

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        return processes.cpu_s(self._process.pid)
