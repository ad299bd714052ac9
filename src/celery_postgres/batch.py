"""kombu's publish batch (`Producer.batch()`): everything gathered is stored in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError

from .delivery import PublishToken, outgoing
from .errors import ChannelError, Error
from .outbox import outbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .channel import Channel
    from .messages import Outgoing
    from .outbox import Taker


class PublishBatch:
    """Gathers messages of one producer; not safe to share between threads."""

    def __init__(self, channel: Channel, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._gathered: list[tuple[Outgoing, PublishToken]] = []
        self._failed = False
        self._closed = False

    def publish(
        self, message: Mapping[str, Any], exchange: str = "", routing_key: str = "", **_: Any
    ) -> None:
        """Gather one message; at `max_size` what was gathered is stored."""
        self._check()
        out, token = outgoing(message, exchange or "", routing_key or "", self.channel.connection.options)
        self._gathered.append((out, token))
        if len(self._gathered) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Store what was gathered, all or nothing; committed when this returns.

        Raises BatchPublishError, after which the batch cannot be used: the outcome may be unknown.
        """
        self._check()
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        connection = self.channel.connection
        box = outbox()
        try:
            if box is not None and box.takes(connection.place):
                self._hand_to(box, gathered)
            else:
                connection.commands.publish_all([out for out, _ in gathered])
        except ChannelError:
            self._failed = True
            raise
        except Error as exc:
            self._failed = True
            raise BatchPublishError(f"a batch of {len(gathered)} messages was not confirmed: {exc}") from exc
        for _, token in gathered:
            token.settled = True

    def _hand_to(self, box: Taker, gathered: list[tuple[Outgoing, PublishToken]]) -> None:
        commands = self.channel.connection.commands
        for exchange in {out.exchange for out, _ in gathered} - {""}:
            commands.topology.require_exchange(exchange)
        for out, token in gathered:
            box.put(out, token, commands)

    def discard(self) -> None:
        """Drop what was gathered and not stored."""
        self._gathered.clear()
        self._failed = True

    def close(self) -> None:
        self._gathered.clear()
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("the publish batch is closed")
        if self._failed:
            raise RuntimeError("the publish batch failed or was discarded")
