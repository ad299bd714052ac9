"""A consumer's batches over a long way: the next one does not wait for the answer to the one before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu import Connection, Consumer, Queue

from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.proxy import Proxy

    from .hand import Hand

WINDOW = 4


def held(hand: Hand) -> int:
    """How many messages the server believes to be with a consumer."""
    number: int = hand.value("SELECT count(*) FROM celery.unacked")
    return number


class Far:
    """A consumer with a window of four behind a link, and what it was given."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got: list[Any] = []
        channel = connection.channel()
        channel.basic_qos(0, WINDOW, False)
        Consumer(channel, [Queue("q")], on_message=self.got.append).consume()

    def drain(self) -> None:
        """Until nothing comes for a while."""
        try:
            while True:
                self.connection.drain_events(timeout=0.1)
        except TimeoutError:
            pass


@contextmanager
def far(url: str, proxy: Proxy, messages: int) -> Iterator[Far]:
    """With as many messages in its queue, and all in hand that the window allows."""
    with Connection(url) as near, Connection(proxy.url) as connection:
        queue = near.SimpleQueue("q")
        for number in range(messages):
            queue.put(number)
        queue.close()
        consumer = Far(connection)
        eventually(lambda: consumer.drain() or len(consumer.got) == min(WINDOW, messages))
        yield consumer


def test_acknowledgement_does_not_wait_for_the_answer_to_another(url: str, proxy: Proxy, hand: Hand) -> None:
    with far(url, proxy, messages=2) as consumer:
        proxy.backward.clear()
        for left, message in ((1, consumer.got[0]), (0, consumer.got[1])):
            message.ack()
            eventually(lambda left=left: held(hand) == left)
        proxy.backward.set()


def test_claims_under_way_keep_within_the_window(url: str, proxy: Proxy, hand: Hand) -> None:
    """Each claims what is free besides what those before it may bring; all comes once, in its order."""
    with far(url, proxy, messages=5 * WINDOW) as consumer:
        for begin in range(0, 4 * WINDOW, WINDOW):
            proxy.backward.clear()
            for count, message in enumerate(consumer.got[begin : begin + WINDOW], begin + 1):
                message.ack()
                left = 5 * WINDOW - count
                eventually(lambda left=left: hand.value("SELECT count(*) FROM celery.message") == left)
                assert held(hand) <= WINDOW
            eventually(lambda: held(hand) == WINDOW)
            proxy.backward.set()
            expected = begin + 2 * WINDOW
            eventually(lambda expected=expected: consumer.drain() or len(consumer.got) == expected)
        assert [message.payload for message in consumer.got] == list(range(5 * WINDOW))
