"""What a worker tells its monitors: heartbeats, and what becomes of each task (`celery worker -E`)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery_postgres.errors import DatabaseUnavailable, Error, MessageTooLarge, NoRoute

from .replacing import PATIENCE, is_ours, replace

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

#: Seconds for which the events of tasks are gathered at most.
GATHERED_FOR = 0.02

#: How many of them leave as one message at most. Celery says 24, for a message that leaves at once.
GATHERED_AT_MOST = 240

#: Seconds for which nothing is told after something could not be.
PAUSE = 1.0

HEARTBEAT = "worker-heartbeat"

#: Seconds for which Celery's heartbeat of every 2 s is left out after one for which no queue was bound. A
#: monitor that begins asks all workers for one, and from then on each of them is sent.
UNHEARD = 9.0


def adapt() -> None:
    replace("celery.worker.heartbeat", "Heart", "_send", _beat)
    replace("celery.worker.consumer.events", "Events", "start", _gather)
    replace("celery.worker.consumer.events", "Events", "shutdown", _send_the_last)


def _beat(original: Callable[..., Any]) -> Callable[..., Any]:
    """Celery repeats a heartbeat that cannot be sent until it can, inside the loop, which stands still then.

    Without that it keeps it for later, as it does with every other event. Where no monitor listens most are
    left out: a hundred workers would send fifty a second.
    """

    def _send(self: Any, event: str, retry: bool = True) -> Any:
        if not is_ours(getattr(self.eventer, "connection", None)):
            return original(self, event, retry=retry)
        if event == HEARTBEAT and getattr(self.eventer.producer, "nobody_listens", False):
            if self._send_sent_signal is not None:  # who watches the worker by it sees that it lives
                self._send_sent_signal(sender=self)
            return None
        return original(self, event, retry=False)

    return _send


def _gather(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any, consumer: Any) -> None:
        original(self, consumer)
        dispatcher = consumer.event_dispatcher
        if not is_ours(dispatcher.connection):
            return
        if dispatcher.producer is not None:
            dispatcher.producer = Teller(dispatcher.producer)
        dispatcher.buffer_group = frozenset({"task"})
        dispatcher.buffer_limit = GATHERED_AT_MOST
        dispatcher.on_send_buffered = Gathering(dispatcher, consumer.hub, consumer.timer).add

    return start


def _send_the_last(original: Callable[..., Any]) -> Callable[..., Any]:
    """The loop has ended, and with it what would have sent the events of the tasks that ended last."""

    def shutdown(self: Any, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        if dispatcher is not None and is_ours(dispatcher.connection):
            dispatcher.flush()
        original(self, consumer)

    return shutdown


class Teller:
    """In the place of the dispatcher's producer: the worker's loop waits for what this sends.

    What cannot be sent within `PATIENCE` Celery keeps for later, and offers again with the next event, one
    after the other: for a moment all of it is refused then. What never can be sent would be kept for ever.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._not_before = 0.0
        self._unheard_until = 0.0

    @property
    def nobody_listens(self) -> bool:
        """Whether no queue was bound a moment ago for what all monitors hear."""
        return time.monotonic() < self._unheard_until

    def publish(self, event: Any, **options: Any) -> None:
        """Raises DatabaseUnavailable, or what the server says, where it is to be kept."""
        if time.monotonic() < self._not_before:
            raise DatabaseUnavailable("an event before this one could not be sent just now")
        heartbeat = isinstance(event, dict) and event.get("type") == HEARTBEAT
        try:
            self._producer.publish(event, timeout=PATIENCE, mandatory=heartbeat, **options)
            self._unheard_until = 0.0
        except NoRoute:
            self._unheard_until = time.monotonic() + UNHEARD
        except MessageTooLarge as exc:
            _log.warning("%d events are not told: %s", len(event) if isinstance(event, list) else 1, exc)
        except Error:
            self._not_before = time.monotonic() + PAUSE
            raise


class Gathering:
    """The events of tasks leave together, `GATHERED_FOR` after the first of them.

    Celery sends them at the next step of its loop, or at once where it has none, in green pools: under load
    that is a message, and a commit to wait for, for each one or two. One for each connection of the worker's.
    Any thread may add.
    """

    def __init__(self, dispatcher: Any, hub: Any, timer: Any) -> None:
        """`hub` is the loop, with a timer of its own; None in green pools."""
        self._dispatcher = dispatcher
        self._hub = hub
        self._timer = hub.timer if hub else timer
        self._coming = False

    def add(self) -> None:
        """An event has been put into the dispatcher's buffer."""
        if not self._coming:
            self._coming = True
            if self._hub:
                self._hub.call_soon(self._begin)  # only the loop may touch its timers
            else:
                self._begin()

    def _begin(self) -> None:
        self._timer.call_after(GATHERED_FOR, self._leave)

    def _leave(self) -> None:
        self._coming = False  # first: what another thread adds from now on asks again
        self._dispatcher.flush()
        if self._dispatcher.producer is not None and self._dispatcher._outbound_buffer:  # noqa: SLF001
            # Celery would offer what could not be told with the next task's events, whenever that comes.
            self._coming = True
            self._timer.call_after(PAUSE, self._leave)
