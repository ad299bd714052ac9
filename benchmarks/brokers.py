"""A peer made ready for one run: its place on the server, its queue, and what the run asks of both."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks import null_transport, processes
from benchmarks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

    from benchmarks.addresses import Addresses
    from benchmarks.peers import Peer
    from benchmarks.servers import Server


class Broker:
    """Use as a context manager: leaving removes everything from the server."""

    def __init__(self, peer: Peer, addresses: Addresses, run: str, directory: Path) -> None:
        self.peer = peer
        self.server: Server = peer.reach(addresses)
        self._result_server = peer.reach_results(addresses)
        chosen = {**peer.options, **peer.configuration}
        self.facts = {**self.server.facts(), **{name: str(value) for name, value in chosen.items()}}
        if self._result_server is not None:
            self.facts.update(
                (f"results {name}", value) for name, value in self._result_server.facts().items()
            )
        # Underscores, because it becomes the name of a database, a queue and exchanges.
        self._place = f"benchmark_{run}_{peer.name}".replace("-", "_")
        self._kept = directory / f"{self._place}.message"
        servers = [self.server] if self._result_server is None else [self.server, self._result_server]
        self._server_pids = {server.process_id() for server in servers}
        #: Where the results of the peer go; empty if it takes part in no figure of results.
        self.result_backend = ""

    def __enter__(self) -> Self:
        place = self.server.prepare(self._place)
        self._url = _under(self.peer.scheme, place)
        if self._result_server is not None:
            self.result_backend = self._result_server.prepare(self._place)
        elif self.peer.results is not None:
            self.result_backend = _under(self.peer.results.scheme, place)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.clean(self._place)
        if self._result_server is not None:
            self._result_server.clean(self._place)

    def settings(self, count: int = 0, **changes: Any) -> Settings:
        """Return the settings of a child process; `count` is what a worker will find in the queue."""
        options = dict(self.peer.options)
        if self._url.startswith(f"{null_transport.SCHEME}:"):
            options.update(kept=str(self._kept), queue=self._place, count=count)
        return Settings(self._url, self._place, options, dict(self.peer.configuration), **changes)

    def server_cpu_s(self) -> float | None:
        """Return the CPU seconds of all processes of the servers so far, None if they cannot be seen."""
        total = 0.0
        for pid in self._server_pids:
            if pid is None:
                return None
            total += processes.tree_cpu_s(pid)
        return total

    def size(self) -> int:
        """Return how many messages wait in the queue; a queue that is gone, as in Redis, has none."""
        with self._channel() as channel:
            try:
                return int(channel.queue_declare(self._place, passive=True).message_count)
            except channel.connection.client.channel_errors:
                return 0

    def purge(self) -> None:
        """Empty the queue."""
        with self._channel() as channel:
            channel.queue_purge(self._place)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        # Through an application, because that is what makes every scheme known to kombu.
        from celery import Celery

        null_transport.register()
        app = Celery(set_as_current=False)
        app.conf.update(self.settings().celery())
        with app.connection_for_write() as connection:
            yield connection.default_channel


def _under(scheme: str | None, url: str) -> str:
    """The URL under another scheme; None keeps its own."""
    return url if scheme is None else f"{scheme}://{url.partition('://')[2]}"
