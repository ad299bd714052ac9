"""A transport without a broker: what remains is the cost of Celery and kombu themselves.

Publishing encodes the message, as any transport must, and drops it; the first one is
kept in a file. Consuming decodes that one again and again, with fresh ids, until `count`
is reached. Nothing travels, so there is no latency to measure here, only a ceiling.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.json import dumps, loads

SCHEME = "null"

# Messages handed out in one turn of the event loop, when the prefetch window allows it.
PER_TURN = 10


def register() -> None:
    """Make `null://` known to kombu in this process."""
    TRANSPORT_ALIASES.setdefault(SCHEME, f"{__name__}:Transport")


class Source:
    """Copies of the kept message, each under ids of its own."""

    def __init__(self, kept: Path, count: int) -> None:
        message = loads(kept.read_text())
        # Text is replaced rather than fields, so that one decoding per message is all that is paid.
        self._text = kept.read_text()
        self._task_id = message["headers"]["id"]
        self._tag = message["properties"]["delivery_tag"]
        self.left = count

    def take(self) -> dict[str, Any]:
        """Return the next message, or raise Empty."""
        if self.left <= 0:
            raise Empty
        self.left -= 1
        fresh = str(uuid.uuid4())
        message: dict[str, Any] = loads(self._text.replace(self._task_id, fresh).replace(self._tag, fresh))
        return message


class Channel(virtual.Channel):  # type: ignore[misc]
    """Keeps no queue. Transport options: `kept` (a path), `count` and `queue`."""

    supports_fanout = False
    do_restore = False

    def _new_queue(self, queue: str, **_: Any) -> None:
        pass

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return True

    def _size(self, queue: str) -> int:
        return 0

    def _purge(self, queue: str) -> int:
        return 0

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        text = dumps(message)
        if not self.connection.has_kept:
            self.connection.keep(text)

    def basic_consume(self, *arguments: Any, **options: Any) -> None:
        """Consume, and wake the loop for it."""
        super().basic_consume(*arguments, **options)
        self.connection.wake()

    def basic_qos(self, *arguments: Any, **options: Any) -> None:
        """Change the window, and wake the loop in case that it grew."""
        super().basic_qos(*arguments, **options)
        self.connection.wake()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge; maybe from another thread, while the loop sleeps over a full window."""
        super().basic_ack(delivery_tag, multiple)
        self.connection.wake()

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        if queue != self.connection.queue:
            raise Empty
        message: dict[str, Any] = self.connection.source.take()
        return message


class Transport(virtual.Transport):  # type: ignore[misc]
    """Runs in the worker's event loop, and without one for the pools that have none."""

    Channel = Channel
    driver_type = driver_name = "null"
    polling_interval = 0.01
    implements = virtual.Transport.implements.extend(asynchronous=True)

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._kept = Path(client.transport_options["kept"])
        self._count = client.transport_options.get("count", 0)
        self._source: Source | None = None
        self._bell: int | None = None
        self.queue = client.transport_options["queue"]
        self.has_kept = self._kept.exists()

    @property
    def source(self) -> Source:
        """The messages of this worker; built on first use, when a publisher has left one."""
        if self._source is None:
            self._source = Source(self._kept, self._count)
        return self._source

    def keep(self, text: str) -> None:
        """Leave this message for the workers."""
        self._kept.write_text(text)
        self.has_kept = True

    def driver_version(self) -> str:
        """Return nothing of interest: there is no driver."""
        return "0"

    def wake(self) -> None:
        """Tell the event loop that there may be room in a prefetch window."""
        if self._bell is not None:
            os.eventfd_write(self._bell, 1)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Hand out messages while the prefetch window has room, other events of the loop in between."""
        self._bell = os.eventfd(1, os.EFD_NONBLOCK)
        loop.add_reader(self._bell, self._hand_out, self._bell)

    def _hand_out(self, bell: int) -> None:
        os.eventfd_read(bell)
        for _ in range(PER_TURN):
            channels = [c for c in self.channels if self.queue in c._active_queues and c.qos.can_consume()]
            if not channels or not self.source.left:
                return
            for channel in channels:
                self._deliver(channel._get(self.queue), self.queue)
        self.wake()
