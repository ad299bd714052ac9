"""A publisher at full speed that knows what it was told."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from kombu import Connection

from tests.fixtures.standby import execute
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

PATIENT = {"max_retries": 1000, "interval_start": 0.05, "interval_step": 0.05, "interval_max": 0.2}


class Publisher:
    """Publishes numbers to the queue `q` in a thread until the block ends, repeating what failed."""

    def __init__(self, url: str, name: str = "", **options: Any) -> None:
        self.confirmed: set[str] = set()
        """What `publish` returned for."""
        self.attempted: set[str] = set()
        self._url, self._name, self._options = url, name, options
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"publisher {name}", daemon=True)

    def _work(self) -> None:
        try:
            with Connection(self._url, transport_options=self._options) as connection:
                producer = connection.Producer(routing_key="q")
                for number in itertools.count():
                    if self._stopped.is_set():
                        return
                    body = f"{self._name}{number}"
                    self.attempted.add(body)
                    producer.publish(body.encode(), retry=True, retry_policy=PATIENT)
                    self.confirmed.add(body)
        except BaseException as exc:
            self._error = exc
            raise

    def confirmed_more(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until so many more were confirmed."""
        wanted = len(self.confirmed) + count
        eventually(
            lambda: len(self.confirmed) >= wanted or self._error is not None,
            timeout_s,
            f"{count} more are published",
        )
        assert self._error is None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def stored_bodies(url: str) -> list[str]:
    """The bodies of all messages, as text."""
    return [str(body) for (body,) in execute(url, "SELECT convert_from(body, 'UTF8') FROM celery.message")]
