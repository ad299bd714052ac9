"""kombu's channel: AMQP's words onto our verbs.

Rules not explained here are those of AMQP 0-9-1. A broken rule raises one of `errors.ChannelError` and
leaves the channel usable.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport.base import StdChannel, to_rabbitmq_queue_arguments

from .batch import PublishBatch
from .dead_letter import MAX_DELIVERIES
from .delivery import ENQUEUED_AT, TOKEN, Message, PublishToken, outgoing, read_json
from .errors import AccessRefused, ChannelError, DatabaseUnavailable, NoRoute
from .outbox import outbox
from .qos import UNLIMITED, QoS
from .subscription import Source, Subscription
from .topology import check_name, check_not_reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .messages import Claimed
    from .topology import Queue
    from .transport import Transport

_log = logging.getLogger(__name__)


class Channel(StdChannel):
    """A channel of one connection; many share its two sessions."""

    def __init__(self, connection: Transport) -> None:
        self._connection = connection
        self.closed = False
        self.channel_id = connection.next_channel_id()
        self.events: dict[str, set[Callable[..., Any]]] = {"basic_return": set()}
        self.no_ack_consumers: set[str] = set()
        self.qos = QoS()
        self._subscriptions: dict[str, Subscription] = {}
        self._acked = Source(self.qos.window, self.qos.size)
        # A consumer without acks has no window: it is claimed for as fast as its callbacks take.
        self._unacked = Source(lambda: UNLIMITED, lambda: UNLIMITED)

    @property
    def connection(self) -> Transport | None:
        """None when kombu has forgotten the connection, as with py-amqp.

        By that the retry of a publish finds that the channel it began with leads nowhere, and declares on the
        one that has taken its place.
        """
        return self._connection if self._connection.client is not None else None

    # -- exchanges -----------------------------------------------------------------------------------

    def exchange_declare(
        self,
        exchange: str = "",
        type: str = "direct",  # noqa: A002
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not exchange:
            return
        topology = self._connection.topology
        if passive:
            topology.require_exchange(exchange)
            return
        check_not_reserved("exchange", exchange)
        topology.declare_exchange(
            exchange, type, durable=bool(durable), auto_delete=bool(auto_delete), arguments=arguments or {}
        )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False, **_: Any) -> None:
        self._connection.topology.delete_exchange(exchange, if_unused=if_unused)

    def exchange_bind(self, *_: Any, **__: Any) -> None:
        raise ChannelError("binding an exchange to an exchange is not supported: bind the queue to both")

    exchange_unbind = exchange_bind

    # -- queues --------------------------------------------------------------------------------------

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        """Returns AMQP's declare-ok: name, messages waiting (up to 1,000 unless passive), consumers."""
        connection = self._connection
        if passive:
            known, consumers = connection.topology.find_queue(queue, connection.holder)
            return queue_declare_ok_t(queue, connection.topology.count(known.id), consumers)
        check_not_reserved("queue", queue)
        queue = queue or f"amq.gen-{uuid.uuid4()}"
        _declared, messages, consumers = connection.topology.declare_queue(
            queue,
            durable=bool(durable),
            auto_delete=bool(auto_delete),
            exclusive=bool(exclusive),
            holder=connection.intake.incarnation.id if exclusive else connection.holder,
            arguments=arguments or {},
        )
        return queue_declare_ok_t(queue, messages, consumers)

    def prepare_queue_arguments(self, arguments: Mapping[str, Any] | None, **options: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments or {}, **options)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._connection.topology.bind(queue, exchange, routing_key or "")

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self._connection.topology.unbind(queue, exchange, routing_key or "")

    def queue_purge(self, queue: str, nowait: bool = False, **_: Any) -> int:
        """Returns how many messages were removed: waiting and held for later, not the unacked."""
        found, _consumers = self._find(queue)
        return self._connection.topology.purge(found.id)

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, nowait: bool = False, **_: Any
    ) -> int:
        connection = self._connection
        deleted, messages = connection.topology.delete_queue(
            queue, connection.holder, if_unused=bool(if_unused), if_empty=bool(if_empty)
        )
        for subscription in [s for s in self._subscriptions.values() if s.queue.name == queue]:
            self._forget(subscription)
        if deleted is not None and connection.usable:
            connection.intake.forget_queue(deleted.id)
        return messages

    def after_reply_message_received(self, queue: str) -> None:
        """kombu's remote control is done with its reply queue."""
        self.queue_delete(queue)

    def get_bindings(self) -> list[tuple[str, str, str]]:
        return self._connection.topology.bindings()

    def _find(self, name: str) -> tuple[Queue, int]:
        return self._connection.topology.find_queue(name, self._connection.holder)

    # -- publishing ----------------------------------------------------------------------------------

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A message for `basic_publish`. kombu prepares anew for each retry, with the same properties."""
        if properties is None:
            properties = {}
        token = properties.setdefault(TOKEN, PublishToken())
        kept = {key: value for key, value in properties.items() if key not in (TOKEN, ENQUEUED_AT)}
        kept.setdefault("priority", priority or 0)
        return {
            "body": body,
            "content-type": content_type,
            "content-encoding": content_encoding,
            "headers": headers or {},
            "properties": kept,
            "token": token,
        }

    def basic_publish(
        self,
        message: Mapping[str, Any],
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Store the message in every queue it is routed to; committed when this returns.

        Within `enlist`, its caller commits.
        """
        connection = self._connection
        out, token = outgoing(message, exchange or "", routing_key or "", connection.options)
        box = outbox()
        if box is not None and box.takes(connection.place):
            routed = box.put(out, token, connection.commands)
        else:
            routed = connection.commands.publish(out, timeout or connection.patience)
            token.settled = True
        if mandatory and routed is not None and not routed.queues:
            self.return_message(message, out.exchange, out.routing_key)

    def return_message(self, message: Mapping[str, Any], exchange: str, routing_key: str) -> None:
        """AMQP's basic.return: to whoever asked for it, else as an error."""
        error = NoRoute(f"no queue is bound for exchange {exchange!r} and routing key {routing_key!r}")
        if not self.events["basic_return"]:
            raise error
        returned = {**message["properties"], "headers": message["headers"]}
        for callback in list(self.events["basic_return"]):
            callback(error, exchange, routing_key, {"body": message["body"], "properties": returned})

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """kombu's `Producer.batch()`: what is gathered is stored in one transaction."""
        return PublishBatch(self, self._connection, max_size)

    # -- consuming -----------------------------------------------------------------------------------

    def basic_qos(
        self, prefetch_size: int = 0, prefetch_count: int = 0, a_global: bool = False, **_: Any
    ) -> None:
        """Limit the unsettled deliveries of this channel; 0 is no limit."""
        self.qos.prefetch_count = prefetch_count
        self._acked.look = True

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        callback: Callable[[Message], None] | None = None,
        consumer_tag: str | None = None,
        nowait: bool = False,
        exclusive: bool = False,
        **_: Any,
    ) -> str:
        """Returns the consumer tag. `callback(message)` runs inside `drain_events` or the event loop."""
        tag = consumer_tag or f"ctag-{uuid.uuid4()}"
        check_name("consumer tag", tag)
        if tag in self._subscriptions:
            raise AccessRefused(f"the consumer tag {tag!r} is in use on this channel: choose another")
        found, _consumers = self._find(queue)
        intake = self._connection.intake

        subscription = Subscription(
            tag,
            # Celery numbers the consumers of each channel from 1, so the channel is part of the name.
            f"{self.channel_id}.{tag}",
            found,
            self._unacked if no_ack else self._acked,
            accept=lambda claimed: self._accept(claimed, tag, no_ack=no_ack),
            deliver=callback or _nobody,
            no_ack=no_ack,
            exclusive=exclusive,
        )
        if not intake.subscribe(subscription):
            raise AccessRefused(f"queue {queue!r} has a consumer already and one of them wants to be alone")
        self._subscriptions[tag] = subscription
        if no_ack:
            self.no_ack_consumers.add(tag)
        if not no_ack or intake.pooled:  # behind a pooler a consumer is alive as long as its beat is heard
            self._connection.maintain()
        self._connection.consuming()
        return tag

    def _accept(self, claimed: Claimed, tag: str | None, *, no_ack: bool) -> Message:
        if no_ack:
            self._connection.intake.ack(claimed)
            self._connection.intake.pace()
            return Message(self, self.qos.next_tag(), claimed, tag)
        return Message(self, self.qos.deliver(claimed), claimed, tag)

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, **_: Any) -> None:
        """What was delivered stays to be acked; what was claimed and not delivered returns to its place."""
        subscription = self._subscriptions.get(consumer_tag)
        if subscription is None:
            return
        self._forget(subscription)
        queue = subscription.queue
        if queue.auto_delete:
            try:
                self._connection.topology.delete_queue(
                    queue.name, self._connection.holder, if_unused=True, if_empty=False
                )
            except ChannelError:  # others consume it
                return
            except DatabaseUnavailable:  # the sweep finds it
                _log.info("queue %s is left behind, the database is away", queue.name)
            self._connection.intake.forget_queue(queue.id)

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription.tag, None)
        self.no_ack_consumers.discard(subscription.tag)
        self._connection.intake.cancel(subscription)

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Message | None:
        """The next message, or None. Blocks for a round trip."""
        found, _consumers = self._find(queue)
        intake = self._connection.intake
        self._connection.maintain()
        claimed = intake.claim_one(found)
        if claimed is None:
            return None
        return self._accept(claimed, None, no_ack=no_ack)

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Returns at once; the acknowledgement leaves within 20 ms. An unknown tag is no error."""
        for claimed in self.qos.settle(delivery_tag, multiple=multiple):
            self._connection.intake.ack(claimed)
        self._credit()

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Give back in place, marked as redelivered; or drop, or dead-letter.

        What comes back after `max_deliveries`, since it kills each process that executes it, say, is kept in
        `dead_letter` instead.
        """
        intake = self._connection.intake
        for claimed in self.qos.settle(delivery_tag):
            if requeue and self._exhausted(claimed):
                intake.reject(claimed, MAX_DELIVERIES)
            elif requeue:
                intake.release([claimed])
            else:
                intake.reject(claimed)
        if requeue and not self._connection.in_event_loop:
            intake.flush()  # whoever looks next, with basic_get say, must find it
        self._credit()

    def _exhausted(self, claimed: Claimed) -> bool:
        limit = self._connection.options.max_deliveries
        if claimed.logged or not limit or claimed.deliveries < limit:
            return False
        _log.warning(
            "message %d (task %s) was given back after %d deliveries: it goes to dead_letter",
            claimed.message_id,
            read_json(claimed.headers).get("id"),
            claimed.deliveries,
        )
        return True

    def basic_recover(self, requeue: bool = True) -> None:
        """Give back everything delivered and not settled."""
        if not requeue:
            raise ChannelError("basic.recover without requeue is not supported: use requeue=True")
        self._connection.intake.release(self.qos.settle(0, multiple=True))
        self._connection.intake.flush()
        self._credit()

    basic_recover_async = basic_recover

    def _credit(self) -> None:
        self._connection.progress()

    def flow(self, active: bool = True) -> bool:
        return active

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel the consumers and give back what was not settled."""
        if self.closed:
            return
        self.closed = True
        connection = self._connection
        try:
            if connection.holder is not None and connection.usable:
                for tag in list(self._subscriptions):
                    self.basic_cancel(tag)
                unsettled = self.qos.settle(0, multiple=True)
                connection.intake.release(unsettled)
                connection.intake.flush()
        finally:
            self._subscriptions.clear()
            connection.channel_closed(self)


def _nobody(_: Message) -> None:
    """The callback of a consumer that has none."""
