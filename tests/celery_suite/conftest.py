"""A Redis of our own, with which Celery's tests count what their tasks did."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def new_redis(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], dict[str, str]]]:
    """Starts one, and returns the variables under which the tests find it.

    Not the shared one: they look at all of its channels, and use the same keys each time.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("not run: redis-server is not on the path, and the tests count with it")
    servers: list[Process] = []

    def start() -> dict[str, str]:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = str(bound.getsockname()[1])
        directory = str(tmp_path_factory.mktemp("redis"))
        options = ("--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", "")
        server = Process("redis-server", [program, *options])
        servers.append(server)
        server.wait_for_line("eady to accept connections")
        return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port}

    try:
        yield start
    finally:
        for server in servers:
            server.end()
