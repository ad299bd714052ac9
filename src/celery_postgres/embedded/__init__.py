"""A private PostgreSQL server for development, the demo and the tests.

It needs no installation rights, no configuration and no cleaning up: the server runs as a child process,
listens on the loopback address only, has a random password, and ends with the process that started it,
also when that process is killed. Its binaries come from the `embedded` extra or from an installed server.

Not for production: nobody backs it up, and it is up only while its owner runs. POSIX only.
"""

from __future__ import annotations

from .binaries import find_bindir
from .server import EmbeddedPostgres
from .serving import serve

__all__ = ["EmbeddedPostgres", "find_bindir", "serve"]
