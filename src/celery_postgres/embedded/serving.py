"""A private server in a terminal: `serve` starts it, says how to reach it, and waits to be stopped."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from .server import EmbeddedPostgres

if TYPE_CHECKING:
    from pathlib import Path


def serve(directory: Path | None = None) -> int:
    """Run a private server until Ctrl+C or SIGTERM, then return 0. For the main thread.

    Prints its URL and the line for a second terminal. Raises as EmbeddedPostgres does.
    """
    # SIGINT too: a job that a script starts in the background ignores it by default.
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with EmbeddedPostgres(directory) as server:
            _introduce(server)
            server.wait()
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _introduce(server: EmbeddedPostgres) -> None:
    fate = "temporary data, gone when it stops" if server.directory is None else f"data in {server.directory}"
    print(f"PostgreSQL {server.version} is running ({fate}).")
    print(f"URL: {server.url}")
    print("In a second terminal:")
    print(f"    export DATABASE_URL={server.url}")
    print("Ctrl+C stops it.", flush=True)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
