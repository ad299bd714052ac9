"""A peer made ready for one run: its place on the server, its queue, and what the run asks of both."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks import null_transport, processes
from benchmarks.link import Link
from benchmarks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

    from benchmarks.addresses import Addresses
    from benchmarks.counters import Counters
    from benchmarks.peers import Peer
    from benchmarks.servers import Server


class Broker:
    """Use as a context manager: leaving removes everything from the server."""

    def __init__(
        self, peer: Peer, addresses: Addresses, run: str, directory: Path, link_ms: float = 0.0
    ) -> None:
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
        self._link_ms = link_ms
        self._links: list[Link] = []
        self._left = ExitStack()
        #: Where the results of the peer go; empty if it takes part in no figure of results.
        self.result_backend = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            place = self.server.prepare(self._place)
            stack.callback(self.server.clean, self._place)
            #: Where the server keeps the messages, for an observer who looks at it directly.
            self.place = place
            self._url = self._linked(_under(self.peer.scheme, place), stack)
            if self._result_server is not None:
                results = self._result_server.prepare(self._place)
                stack.callback(self._result_server.clean, self._place)
                self.result_backend = self._linked(results, stack)
            elif self.peer.results is not None:
                self.result_backend = _under(self.peer.results.scheme, self._linked(place, stack))
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def _linked(self, url: str, stack: ExitStack) -> str:
        """The URL over the slow link, for clients and workers; the observer stays beside the server."""
        if not self._link_ms or url.startswith(f"{null_transport.SCHEME}:"):
            return url
        link = stack.enter_context(Link(url, self._link_ms))
        self._links.append(link)
        return link.url

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

    def link_cpu_s(self) -> float:
        """Return the CPU seconds of the slow link so far: ours, though no part of what is measured."""
        return sum(link.cpu_s() for link in self._links)

    def counters(self) -> Counters:
        """Return what the server of the messages has counted."""
        return self.server.counters(self._place)

    def send(self, task: str, *arguments: Any) -> None:
        """Publish one task from here."""
        with self._application() as app:
            app.send_task(task, arguments)

    def size(self) -> int:
        """Return how many messages wait in the queue; a queue that is gone, as in Redis, has none."""
        with self._channel() as channel:
            try:
                return int(channel.queue_declare(self._place, passive=True).message_count)
            except channel.connection.client.channel_errors:
                return 0

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._place

    def purge(self) -> None:
        """Empty the queue."""
        with self._channel() as channel:
            channel.queue_purge(self._place)

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        # Through an application, because that is what makes every scheme known to kombu.
        with self._application() as app, app.connection_for_write() as connection:
            yield connection.default_channel

    @contextmanager
    def _application(self) -> Iterator[Any]:
        from celery import Celery

        null_transport.register()
        with Celery(set_as_current=False) as app:
            app.conf.update(self.settings().celery())
            yield app


def _under(scheme: str | None, url: str) -> str:
    """The URL under another scheme; None keeps its own."""
    return url if scheme is None else f"{scheme}://{url.partition('://')[2]}"
