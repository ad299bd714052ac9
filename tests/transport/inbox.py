"""What arrives at a consumer, and what a broker refuses."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Queue

from tests.fixtures.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from kombu.message import Message
    from typing_extensions import Self


class Inbox:
    """A consumer that keeps its deliveries in the order of arrival and settles nothing by itself."""

    def __init__(
        self, channel: Any, *queues: Queue, prefetch_count: int | None = None, no_ack: bool = False
    ) -> None:
        self.connection: Connection = channel.connection.client
        self.messages: list[Message] = []
        self.consumer = Consumer(
            channel,
            list(queues),
            on_message=self.messages.append,
            prefetch_count=prefetch_count,
            no_ack=no_ack,
        )

    def __enter__(self) -> Self:
        self.consumer.consume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.consumer.cancel()

    def take(self, count: int, timeout_s: float = PATIENCE_S) -> list[Message]:
        """The next `count` deliveries; AssertionError if they do not arrive in time."""
        deadline = time.monotonic() + timeout_s
        while len(self.messages) < count and self._drain(deadline):
            pass
        got = [message.body for message in self.messages]
        assert len(got) >= count, f"{len(got)} of {count} within {timeout_s:g} s: {got}"
        taken = self.messages[:count]
        del self.messages[:count]
        return taken

    def take_bodies(self, count: int, timeout_s: float = PATIENCE_S) -> list[Any]:
        """The payloads of the next `count` deliveries, acknowledged one by one."""
        bodies = []
        for _ in range(count):
            (message,) = self.take(1, timeout_s)
            bodies.append(message.payload)
            message.ack()
        return bodies

    def stays_empty(self, for_s: float = 0.3) -> None:
        """AssertionError if anything is delivered within `for_s`."""
        deadline = time.monotonic() + for_s
        while self._drain(deadline):
            pass
        assert [message.body for message in self.messages] == []

    def _drain(self, deadline: float) -> bool:
        """Wait for one event; False once the deadline has passed."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            self.connection.drain_events(timeout=left)
        except socket.timeout:  # noqa: UP041 - kombu's contract has this name
            pass
        return True


def bodies_of(queue: Queue, count: int) -> list[Any]:
    """Take `count` messages out of a queue one at a time, in the order in which it gives them."""
    bodies = []
    for _ in range(count):
        message = queue.get(no_ack=True)
        assert message is not None, f"only {bodies}"
        bodies.append(message.payload)
    return bodies


def size(queue: Queue) -> int:
    """How many messages are ready. An empty queue does not exist in Redis."""
    if queue.channel.connection.client.transport_cls == "redis":
        return int(queue.channel._size(queue.name))
    count: int = queue.queue_declare(passive=True).message_count
    return count


def consumers(queue: Queue) -> int:
    """How many consumers the queue has."""
    count: int = queue.queue_declare(passive=True).consumer_count
    return count


def reply_code(error: Any) -> int:
    """AMQP's code of an error; py-amqp has it in `reply_code` where the class alone does not say it."""
    return int(getattr(error, "reply_code", None) or error.code)


@contextmanager
def refused(connection: Connection, code: int) -> Iterator[Any]:
    """A channel on which the block must fail with this AMQP reply code. AMQP closes it thereafter."""
    channel = connection.channel()
    with pytest.raises(connection.channel_errors) as caught:
        yield channel
    assert reply_code(caught.value) == code, repr(caught.value)
    channel.close()


def missing(connection: Connection, name: str) -> bool:
    """Whether a passive declaration of the queue finds nothing."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue=name, passive=True)
    except connection.channel_errors as error:
        if reply_code(error) != 404:
            raise
        return True
    finally:
        channel.close()
    return False
