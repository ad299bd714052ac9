"""A process that has published and consumes, and then forks: run as `python parent.py HOW CHILD`.

HOW the child comes to be, and to its end: `exit` (os.fork, and Python's own end), `_exit`, `multiprocessing`.
What the CHILD does: `nothing`, `publish`, or `stay` until somebody ends it, while its parent waits.
Prints `forked PID`; ends with 0 only if the parent's connection has come through unharmed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING

from kombu import Connection, Consumer, Producer, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu import Message


class Parent:
    """One connection that publishes and consumes, with a message in hand."""

    def __init__(self, url: str) -> None:
        self.connection = Connection(url)
        self.received: list[Message] = []
        self.queue = Queue("q", routing_key="q")(self.connection.default_channel)
        self.queue.declare()
        self.producer = Producer(self.connection)
        self.consumer = Consumer(
            self.connection.channel(), [self.queue], on_message=self.received.append, accept=["text/plain"]
        )
        self.consumer.consume()
        self.publish("before")
        self.take(1)

    def publish(self, payload: str) -> None:
        self.producer.publish(payload, routing_key="q", retry=True)

    def take(self, count: int) -> None:
        """Consume until so many have been received altogether."""
        while len(self.received) < count:
            self.connection.drain_events(timeout=10)

    def sessions(self) -> list[int]:
        transport = self.connection.transport
        return [transport.commands.session.backend_pid, transport.intake.session.backend_pid]


def child(parent: Parent, what: str) -> None:
    if what == "publish":
        mine = parent.sessions()
        parent.publish("from the child")
        assert parent.connection.transport.commands.session.backend_pid not in mine
    elif what == "stay":
        time.sleep(600)


def fork(how: str, work: Callable[[], None]) -> tuple[int, Callable[[], int]]:
    """The child's process id, and how to wait for its exit status."""
    if how == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()

        def status() -> int:
            process.join()
            return process.exitcode or 0

        return process.pid or 0, status
    pid = os.fork()
    if pid == 0:
        work()
        (os._exit if how == "_exit" else sys.exit)(0)
    return pid, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    how, what = sys.argv[1:]
    parent = Parent(os.environ["PROBE_BROKER_URL"])
    before = parent.sessions()
    pid, status = fork(how, lambda: child(parent, what))
    print("forked", pid, flush=True)
    if ended := status():
        sys.exit(f"the child ended with {ended}")
    parent.publish("after")
    parent.take(3 if what == "publish" else 2)
    assert parent.sessions() == before, "the parent had to connect anew"
    for message in parent.received:
        message.ack()
    expected = {"before", "after"} | ({"from the child"} if what == "publish" else set())
    assert {message.payload for message in parent.received} == expected
    parent.connection.release()


if __name__ == "__main__":
    main()
