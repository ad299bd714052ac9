"""Exchanges, queues and bindings: shared by all processes, so they live in the database alone.

Rules are those of AMQP 0-9-1 with RabbitMQ's queue arguments. A declaration that differs from what exists
keeps the existing one with a warning, or is refused (406) with `strict_declare`.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from .errors import AccessRefused, ConfigurationError, NotFound, PreconditionFailed, ResourceLocked
from .liveness import is_live
from .sql import messages as message_sql
from .sql import topology as sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .encoding import Rows
    from .wire import Call

_log = logging.getLogger(__name__)

#: Celery's default prefix for the queues of event receivers, each of which one process reads.
EVENT_QUEUE_PREFIX = "celeryev."

#: What Celery appends to a worker's name for the queue of its remote control.
_MAILBOX = ".celery.pidbox"

EXCHANGE_TYPES = ("direct", "topic", "fanout")

_COUNT_AT_MOST = 1000

#: Others may delete a queue, or take over a dead holder's, in the very moment.
_DECLARATIONS_AT_MOST = 5

#: The largest number in a queue's arguments; as milliseconds not beyond PostgreSQL's calendar.
LARGEST = 2**53

# What has been warned of: a process declares the same queue on many connections, and says it once.
_warned: set[str] = set()


class Run(Protocol):
    """Runs calls as one transaction and returns a result for each."""

    def __call__(self, *calls: Call) -> list[Rows]: ...


@dataclass(frozen=True)
class Queue:
    """A queue as it is declared."""

    id: int
    name: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    holder: UUID | None
    arguments: Mapping[str, Any]
    max_length: int | None
    max_length_bytes: int | None
    dead_letter_exchange: str | None
    dead_letter_routing_key: str | None
    broadcast_from: str | None
    """Where the queue's part of the broadcast log begins; None for a queue of rows."""

    @property
    def prompt(self) -> bool:
        """Whether its consumers are woken for each message; event receivers read at the poll instead."""
        return not self.name.startswith(EVENT_QUEUE_PREFIX)


def check_name(kind: str, name: str) -> None:
    """AMQP's short strings have 255 bytes; PostgreSQL's text has no NUL."""
    if "\0" in name:
        raise PreconditionFailed(f"the {kind} name {name[:60]!r} contains a NUL: remove it")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise PreconditionFailed(f"the {kind} name {name[:60]!r} is not valid Unicode: rename it") from None
    if size > 255:
        raise PreconditionFailed(
            f"the {kind} name {name[:40]!r}… has {size} bytes: AMQP allows 255, choose a shorter one"
        )


def check_not_reserved(kind: str, name: str) -> None:
    """Names of this form are the broker's to give (AMQP)."""
    if name.startswith("amq.") and name not in ("amq.direct", "amq.topic", "amq.fanout"):
        raise AccessRefused(f"the {kind} name {name!r} begins with amq., which is reserved: rename it")


def topic_regex(pattern: str) -> str:
    """An AMQP topic pattern as a regular expression: `*` is one word, `#` any number of words."""
    words = pattern.split(".")
    words = [word for i, word in enumerate(words) if not (word == "#" and words[i - 1 : i] == ["#"])]
    if words == ["#"]:
        return ".*"
    # A `#` takes its dot along, so that it can stand for nothing at all.
    out = ""
    for position, word in enumerate(words):
        if word == "#":
            out += r"([^.]+\.)*" if position == 0 else r"(\.[^.]+)*"
            continue
        if position > 0 and not (position == 1 and words[0] == "#"):
            out += r"\."
        out += "[^.]+" if word == "*" else re.escape(word)
    return f"^{out}$"


class Topology:
    """The verbs; each is one round trip, a few when something unusual is found."""

    def __init__(self, run: Run, *, strict: bool) -> None:
        self._run = run
        self._strict = strict

    # -- exchanges -----------------------------------------------------------------------------------

    def declare_exchange(
        self, name: str, kind: str, *, durable: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> None:
        check_name("exchange", name)
        if kind not in EXCHANGE_TYPES:
            raise PreconditionFailed(
                f"exchange {name!r} has the type {kind!r}: only {', '.join(EXCHANGE_TYPES)} are supported"
            )
        text = json.dumps(dict(arguments or {}), sort_keys=True, default=str)
        values = (name, kind, durable, auto_delete, text)
        if self._run((sql.DECLARE_EXCHANGE, values))[0].count:
            return
        found = self._run((sql.FIND_EXCHANGE, (name,)))[0]
        if not found.count:  # deleted in between
            self._run((sql.DECLARE_EXCHANGE, values))
            return
        if found.text(0, 0) != kind:
            raise PreconditionFailed(
                f"exchange {name!r} is of type {found.text(0, 0)}, declared as {kind}: delete it or choose "
                "another name"
            )
        existing = {
            "durable": found.flag(0, 1),
            "auto_delete": found.flag(0, 2),
            "arguments": found.text(0, 3),
        }
        self._compare(
            f"exchange {name!r}",
            existing,
            {"durable": durable, "auto_delete": auto_delete, "arguments": text},
        )

    def require_exchange(self, name: str) -> None:
        check_name("exchange", name)
        if not self._run((sql.FIND_EXCHANGE, (name,)))[0].count:
            raise NotFound(f"no exchange {name!r}: declare it first")

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        check_name("exchange", name)
        rows = self._run((sql.DELETE_EXCHANGE, (name, if_unused)))[0]
        if rows.flag(0, 0) and not rows.flag(0, 1):
            raise PreconditionFailed(f"exchange {name!r} is in use: unbind its queues first")

    # -- queues --------------------------------------------------------------------------------------

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        exclusive: bool,
        holder: UUID | None,
        arguments: Mapping[str, Any],
    ) -> tuple[Queue, int, int]:
        """The queue, how many messages wait (counted up to 1,000), how many consume it."""
        check_name("queue", name)
        arguments = dict(arguments or {})
        text = json.dumps(arguments, sort_keys=True, default=str)
        values = (
            name,
            durable,
            auto_delete,
            exclusive,
            holder,
            text,
            _integer(arguments, "x-message-ttl"),
            _integer(arguments, "x-expires"),
            _integer(arguments, "x-max-length"),
            _integer(arguments, "x-max-length-bytes"),
            _integer(arguments, "x-max-priority", 255),
            _name(arguments, "x-dead-letter-exchange"),
            _name(arguments, "x-dead-letter-routing-key"),
            _is_broadcast(name, arguments, durable=durable, exclusive=exclusive),
        )
        for _ in range(_DECLARATIONS_AT_MOST):
            rows = self._run((sql.DECLARE_QUEUE, values))[0]
            if rows.count:
                return _queue(name, rows), 0, 0
            found = self.find(name)
            if found is None:  # deleted in between
                continue
            queue, consumers = found
            if not queue.exclusive or queue.holder == holder:
                break
            self._take_over(queue)
        else:
            raise ConfigurationError(
                f"queue {name!r} vanished again and again while it was declared: somebody deletes it"
            )
        self._compare(
            f"queue {name!r}",
            {
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "exclusive": queue.exclusive,
                "arguments": json.dumps(queue.arguments, sort_keys=True),
            },
            {"durable": durable, "auto_delete": auto_delete, "exclusive": exclusive, "arguments": text},
        )
        counted, _ = self._run(
            (message_sql.COUNT, (queue.id, _COUNT_AT_MOST)), (sql.TOUCH_QUEUES, ([queue.id],))
        )
        return queue, counted.integer(0, 0), consumers

    def find_queue(self, name: str, holder: UUID | None = None) -> tuple[Queue, int]:
        """The queue and how many consume it. Raises NotFound, and ResourceLocked for another's own."""
        check_name("queue", name)
        found = self.find(name)
        if found is None:
            raise NotFound(f"no queue {name!r}: declare it first")
        if found[0].exclusive and found[0].holder != holder:
            raise ResourceLocked(f"queue {name!r} is exclusive to another connection: use a name of your own")
        return found

    def find(self, name: str) -> tuple[Queue, int] | None:
        """The queue, whoever owns it, and how many consume it; None where there is none."""
        rows = self._run((sql.FIND_QUEUE, (name,)))[0]
        if not rows.count:
            return None
        queue, consumers = _queue(name, rows), rows.integer(0, 13)
        if consumers == 0 and rows.flag(0, 14):  # x-expires is over, and nobody has swept yet
            self.drop_queue(queue.id, if_unused=True)
            return None
        return queue, consumers

    def _take_over(self, queue: Queue) -> None:
        """An exclusive queue dies with its connection, so that of a dead holder is already gone (AMQP)."""
        if queue.holder and is_live(self._run, queue.holder):
            raise ResourceLocked(_in_use(queue.name))
        self.drop_queue(queue.id)

    def count(self, queue_id: int) -> int:
        """How many messages wait, exactly."""
        return self._run((message_sql.COUNT, (queue_id, 2**62)))[0].integer(0, 0)

    def purge(self, queue_id: int) -> int:
        """Remove what waits and what is held for later; returns how many."""
        return self._run((message_sql.PURGE, (queue_id,)))[0].integer(0, 0)

    def delete_queue(
        self, name: str, holder: UUID | None, *, if_unused: bool, if_empty: bool
    ) -> tuple[Queue | None, int]:
        """Returns the queue, None when there is none, and how many waiting messages went with it."""
        try:
            queue, _ = self.find_queue(name, holder)
        except NotFound:
            return None, 0
        deleted, messages = self.drop_queue(queue.id, if_unused=if_unused, if_empty=if_empty)
        if not deleted:
            reason = "has consumers" if if_unused else "is not empty"
            raise PreconditionFailed(f"queue {name!r} {reason}: it was not deleted")
        return queue, messages

    def drop_queue(
        self, queue_id: int, *, if_unused: bool = False, if_empty: bool = False
    ) -> tuple[bool, int]:
        """Returns whether it was deleted, and how many waiting messages went with it."""
        rows = self._run(*deletion(queue_id, if_unused=if_unused, if_empty=if_empty))[-1]
        return rows.flag(0, 0), rows.integer(0, 1)

    # -- bindings ------------------------------------------------------------------------------------

    def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        if not exchange:
            return  # AMQP: every queue is bound to the default exchange by its name, and only so
        _check_names(queue, exchange, routing_key)
        rows = self._run((sql.BIND, (exchange, routing_key, queue, topic_regex(routing_key))))[0]
        for position, kind, name in ((0, "exchange", exchange), (1, "queue", queue)):
            if not rows.flag(0, position):
                raise NotFound(f"no {kind} {name!r} to bind: declare it first")

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        _check_names(queue, exchange, routing_key)
        self._run((sql.LOCK_EXCHANGE, (exchange,)), (sql.UNBIND, (exchange, routing_key, queue)))

    def routes(self, exchange: str, routing_key: str) -> set[str]:
        """Names of the queues to which the exchange routes what is published with this key."""
        rows = self._run((message_sql.ROUTES, (None, exchange, routing_key)))[0]
        return {rows.text(row, 0) or "" for row in range(rows.count)}

    def bindings(self) -> list[tuple[str, str, str]]:
        """All of (exchange, routing key, queue)."""
        rows = self._run((sql.LIST_BINDINGS, ()))[0]
        return [
            (rows.text(row, 0) or "", rows.text(row, 1) or "", rows.text(row, 2) or "")
            for row in range(rows.count)
        ]

    def _compare(self, what: str, existing: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
        differing = [key for key in declared if declared[key] != existing[key]]
        if not differing:
            return
        said = "; ".join(f"{key} is {existing[key]}, declared {declared[key]}" for key in differing)
        if self._strict:
            raise PreconditionFailed(f"{what}: {said}: delete it or declare it as it is")
        if f"{what}: {said}" not in _warned:
            _warned.add(f"{what}: {said}")
            _log.warning(
                "%s: %s: keeping the existing one; declare it as it is, or delete it (strict_declare refuses "
                "instead)",
                what,
                said,
            )


def deletion(queue_id: int, *, if_unused: bool = False, if_empty: bool = False) -> list[Call]:
    """The calls that delete a queue, for one transaction; the last one's answer is that of DELETE_QUEUE."""
    return [
        (sql.LOCK_QUEUE, (queue_id,)),
        (sql.LOCK_EXCHANGES_OF, (queue_id,)),
        (sql.DELETE_QUEUE, (queue_id, if_unused, if_empty)),
    ]


#: What only a queue of rows can do.
_ROW_ARGUMENTS = ("x-max-priority", "x-max-length", "x-max-length-bytes", "x-dead-letter-exchange")


def _is_broadcast(name: str, arguments: Mapping[str, Any], *, durable: bool, exclusive: bool) -> bool:
    """Whether the queue is a cursor in the broadcast log: one connection reads it and dies with it."""
    if durable or any(key in arguments for key in _ROW_ARGUMENTS):
        return False
    return exclusive or name.startswith(EVENT_QUEUE_PREFIX)


def _check_names(queue: str, exchange: str, routing_key: str) -> None:
    check_name("queue", queue)
    check_name("exchange", exchange)
    check_name("routing key", routing_key)


def _name(arguments: Mapping[str, Any], key: str) -> str | None:
    value = arguments.get(key)
    if value is not None:
        check_name(key, str(value))
    return None if value is None else str(value)


def _integer(arguments: Mapping[str, Any], key: str, highest: int = LARGEST) -> int | None:
    value = arguments.get(key)
    if value is None:
        return None
    try:
        number = -1 if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number <= highest:
        raise PreconditionFailed(f"{key} is {value!r}: a whole number from 0 to {highest} is needed")
    return number


def _in_use(name: str) -> str:
    if name.endswith(_MAILBOX):
        return (
            f"a worker named {name.removesuffix(_MAILBOX)} runs already: start this one under another name, "
            "with the option -n"
        )
    return f"queue {name!r} is exclusive to another live connection: close that one, or use another name"


def _queue(name: str, rows: Rows) -> Queue:
    holder = rows.text(0, 4)
    return Queue(
        id=rows.integer(0, 0),
        name=name,
        durable=rows.flag(0, 1),
        auto_delete=rows.flag(0, 2),
        exclusive=rows.flag(0, 3),
        holder=UUID(holder) if holder else None,
        arguments=json.loads(rows.text(0, 5) or "{}"),
        max_length=rows.number(0, 8),
        max_length_bytes=rows.number(0, 9),
        dead_letter_exchange=rows.text(0, 10),
        dead_letter_routing_key=rows.text(0, 11),
        broadcast_from=rows.text(0, 12),
    )
