"""kombu's publish batch (`Producer.batch()`): everything gathered is stored in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kombu.exceptions import BatchPublishError

from .delivery import PublishToken, outgoing
from .errors import ChannelError, Error
from .outbox import outbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .channel import Channel
    from .messages import Outgoing, Routed
    from .outbox import Taker
    from .transport import Transport


class _Gathered(NamedTuple):
    outgoing: Outgoing
    token: PublishToken
    mandatory: Mapping[str, Any] | None
    """The message itself, where it is to come back if it goes nowhere."""


class PublishBatch:
    """Gathers messages of one producer; not safe to share between threads."""

    def __init__(self, channel: Channel, connection: Transport, max_size: int) -> None:
        self.channel = channel
        self._connection = connection
        self._max_size = max_size
        self._gathered: list[_Gathered] = []
        self._failed = False
        self._closed = False

    def publish(
        self,
        message: Mapping[str, Any],
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **_: Any,
    ) -> None:
        """Gather one message; at `max_size` what was gathered is stored."""
        self._check()
        out, token = outgoing(message, exchange or "", routing_key or "", self._connection.options)
        self._gathered.append(_Gathered(out, token, message if mandatory else None))
        if len(self._gathered) >= self._max_size:
            self.flush()

    def flush(self) -> None:
        """Store what was gathered, all or nothing; committed when this returns.

        Raises BatchPublishError, after which the batch cannot be used: the outcome may be unknown.
        What is `mandatory` and went nowhere is returned then, or NoRoute is raised: the others are stored.
        """
        self._check()
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        connection = self._connection
        box = outbox()
        routed: Sequence[Routed | None]
        try:
            if box is not None and box.takes(connection.place):
                routed = self._hand_to(box, gathered)
            else:
                routed, _ = connection.commands.publish_all([one.outgoing for one in gathered])
        except ChannelError:
            self._failed = True
            raise
        except Error as exc:
            self._failed = True
            raise BatchPublishError(f"a batch of {len(gathered)} messages was not confirmed: {exc}") from exc
        for one in gathered:
            one.token.settled = True
        for one, where in zip(gathered, routed, strict=True):
            if one.mandatory is not None and where is not None and not where.queues:
                self.channel.return_message(one.mandatory, one.outgoing.exchange, one.outgoing.routing_key)

    def _hand_to(self, box: Taker, gathered: list[_Gathered]) -> list[Routed | None]:
        commands = self._connection.commands
        for exchange in {one.outgoing.exchange for one in gathered} - {""}:
            commands.topology.require_exchange(exchange)
        return [box.put(one.outgoing, one.token, commands) for one in gathered]

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
