"""kombu's messages to and from ours."""

from __future__ import annotations

import json
import logging
import reprlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kombu.message import Message as KombuMessage
from kombu.utils.json import dumps as kombu_dumps
from kombu.utils.json import loads as kombu_loads

from .errors import MessageTooLarge, PreconditionFailed
from .messages import Claimed, Outgoing, readable, time_ordered_uuid
from .topology import LARGEST, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .options import Options

_log = logging.getLogger(__name__)

#: The properties that AMQP knows, beside those that have columns of their own.
AMQP = frozenset(
    {
        *("app_id", "cluster_id", "correlation_id", "delivery_mode", "expiration", "message_id"),
        *("priority", "reply_to", "timestamp", "type", "user_id"),
    }
)

#: Under this key a publish call's token travels in the property mapping, which kombu hands to every retry of
#: one call and makes anew for the next. It is never stored and never delivered.
TOKEN = "celery-postgres.publish"  # noqa: S105

#: A property of every delivered message: when it was stored, in microseconds since 2000. A worker's process
#: finds it in `task.request.properties`, so that the result can tell how long the task has waited.
ENQUEUED_AT = "celery-postgres.enqueued_at"


class PublishToken:
    """Tells the retry of a publish, whose outcome is unknown, from a deliberate repeat."""

    __slots__ = ("attempts", "settled", "uuid")

    def __init__(self) -> None:
        self.uuid = time_ordered_uuid()
        self.attempts = 0
        self.settled = False

    def current(self) -> Any:
        """The uuid to publish with: the same until one attempt is known to have succeeded."""
        if self.settled:
            self.uuid, self.attempts, self.settled = time_ordered_uuid(), 0, False
        self.attempts += 1
        return self.uuid


class Message(KombuMessage):
    """A delivered message."""

    def __init__(self, channel: Any, tag: int, claimed: Claimed, consumer_tag: str | None) -> None:
        properties, headers = read_json(claimed.properties), read_json(claimed.headers)
        claimed.take_note(headers)
        if claimed.enqueued_at is not None:
            properties[ENQUEUED_AT] = claimed.enqueued_at
        super().__init__(
            body=claimed.body,
            delivery_tag=tag,
            content_type=claimed.content_type,
            content_encoding=claimed.content_encoding,
            delivery_info={
                "consumer_tag": consumer_tag,
                "exchange": claimed.exchange,
                "routing_key": claimed.routing_key,
                "redelivered": claimed.redelivered,
                "priority": properties.get("priority"),
            },
            properties=properties,
            headers=headers,
            channel=channel,
        )


def read_json(text: bytes) -> Any:
    """What `write_json` wrote, or anybody else: what only looks like a value of kombu's stays as it is."""
    # kombu's decoder looks at every mapping for values that JSON has no form for.
    if b'"__type__"' in text:
        try:
            return kombu_loads(text.decode())
        except Exception:  # noqa: BLE001  a decoder that the sender has registered and we have not, say
            _log.debug("a header or property holds a value of a type that is not known here")
    return json.loads(text)


def write_json(value: object) -> str:
    """Escaped JSON: neither \\u0000 nor half of a surrogate pair reaches PostgreSQL as a character."""
    try:
        return json.dumps(value)
    except TypeError:
        return str(kombu_dumps(value))


def _write_properties(properties: Mapping[str, Any]) -> str:
    """As RabbitMQ's client does, leave behind what is no property of AMQP's if JSON has no form for it.

    Celery's signals before a publish have such arguments, and their receivers pass them on.
    """
    try:
        return write_json(properties)
    except TypeError:
        kept = {name: value for name, value in properties.items() if name in AMQP or _has_form(value)}
        left = ", ".join(sorted(set(properties) - set(kept)))
        _log.warning("a message was published without its property %s, which JSON cannot hold", left)
        return write_json(kept)


def _has_form(value: object) -> bool:
    try:
        write_json(value)
    except TypeError:
        return False
    return True


def outgoing(
    message: Mapping[str, Any], exchange: str, routing_key: str, options: Options
) -> tuple[Outgoing, PublishToken]:
    """What to store for a message that `Channel.prepare_message` made.

    Raises MessageTooLarge (311), PreconditionFailed (406) for a name, a priority or an expiration that
    cannot be.
    """
    check_name("exchange", exchange)
    check_name("routing key", routing_key)
    headers: dict[str, Any] = message["headers"] or {}
    properties: dict[str, Any] = message["properties"]
    token: PublishToken = message["token"]
    body = _bytes(message["body"], message["content-encoding"])
    if len(body) > options.max_message_bytes:
        raise MessageTooLarge(
            f"the body has {len(body):,} bytes, allowed are {options.max_message_bytes:,}: pass a reference "
            "instead, or raise the option max_message_bytes"
        )
    task = headers.get("task")
    priority = min(255, max(0, _number("priority", properties.get("priority") or 0)))
    return Outgoing(
        uuid=token.current(),
        exchange=exchange,
        routing_key=routing_key,
        # Redis runs the lowest number first; negative, they keep their order among themselves.
        priority=-priority if options.priority_order == "redis" else priority,
        ttl_ms=_ttl(headers, properties),
        task=readable(task),
        task_id=readable(headers.get("id")),
        content_type=readable(message["content-type"]),
        content_encoding=readable(message["content-encoding"]),
        headers=write_json(headers),
        properties=_write_properties(properties),
        body=body,
        due_at=_due(headers) if options.hold_eta and task else None,
        durable=properties.get("delivery_mode") != 1,
        repeated=token.attempts > 1,
        traced=options.publish_dedup,
    ), token


def _bytes(body: Any, encoding: str | None) -> bytes:
    if isinstance(body, str):
        codec = encoding if encoding and encoding not in ("binary", "ascii-8bit") else "utf-8"
        return body.encode(codec, "surrogatepass" if codec.lower().startswith("utf") else "strict")
    return bytes(body if body is not None else b"")


def _ttl(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> int | None:
    """Milliseconds to live. Celery's own expiry is the worker's to tell: it marks the task revoked."""
    expiration = properties.get("expiration")
    if expiration is None or (headers.get("task") and headers.get("expires")):
        return None
    return min(LARGEST, max(0, _number("expiration", expiration)))


def _number(name: str, value: object) -> int:
    try:
        return int(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise PreconditionFailed(f"{name} is {reprlib.repr(value)}: a number is needed") from None


def _due(headers: Mapping[str, Any]) -> str | None:
    """Celery's eta as an instant; one without an offset means the worker's time zone, so the worker waits."""
    eta = headers.get("eta")
    if not isinstance(eta, str):
        return None
    try:
        instant = datetime.fromisoformat(eta.replace("Z", "+00:00"))
    except ValueError:
        return None
    return instant.isoformat() if instant.tzinfo is not None else None
