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
        chosen = {**peer.options, **peer.configuration}
        self.facts = {**self.server.facts(), **{name: str(value) for name, value in chosen.items()}}
        # Underscores, because it becomes the name of a database, a queue and exchanges.
        self._place = f"benchmark_{run}_{peer.name}".replace("-", "_")
        self._kept = directory / f"{self._place}.message"
        self._server_pid = self.server.process_id()

    def __enter__(self) -> Self:
        self._url = self.server.prepare(self._place)
        if self.peer.scheme is not None:
            self._url = f"{self.peer.scheme}://{self._url.partition('://')[2]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.clean(self._place)

    def settings(self, count: int = 0, **changes: Any) -> Settings:
        """Return the settings of a child process; `count` is what a worker will find in the queue."""
        options = dict(self.peer.options)
        if self._url.startswith(f"{null_transport.SCHEME}:"):
            options.update(kept=str(self._kept), queue=self._place, count=count)
        return Settings(self._url, self._place, options, dict(self.peer.configuration), **changes)

    def server_cpu_s(self) -> float | None:
        """Return the CPU seconds of all processes of the server so far, None if they cannot be seen."""
        return None if self._server_pid is None else processes.tree_cpu_s(self._server_pid)

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
