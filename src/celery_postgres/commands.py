"""The other half of a connection: publishing, declaring, counting. Each call blocks for its round trip."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from .dead_letter import Burial
from .errors import DatabaseRejected, NotFound
from .messages import Outgoing, Routed, read_claimed, read_routed
from .sql import messages as sql
from .sql.flush import FLUSH
from .topology import EVENT_QUEUE_PREFIX, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .connection import Server
    from .options import Options
    from .wakeup import Bell
    from .wire import Batch, Call, Rows, Session

_log = logging.getLogger(__name__)

_ROUTES_AT_MOST = 1000

_DEADLOCKS = ("40P01", "40001")
_DEADLOCK_PAUSES = (0.02, 0.1, 0.5)

#: Nobody waited for a queue: for so many seconds that is taken for granted. Who goes idle meanwhile looks
#: again after a little more (`cadence.AFTER_IDLE`).
QUIET = 0.01


class Commands:
    """One session for everything that waits for its answer. Safe to share between threads."""

    def __init__(self, session: Session, server: Server, bell: Bell, options: Options) -> None:
        self.session = session
        self.unroutable = 0
        """How many messages no queue was bound for."""
        self._server = server
        self._bell = bell
        self._options = options
        self._timeout = options.statement_timeout or None
        self.topology = Topology(self.run, strict=options.strict_declare)
        # Where earlier messages of a route went, so that the bell can leave with the message. Only a hint:
        # what it misses is rung for after the answer.
        self._routes: dict[tuple[str, str], list[int]] = {}
        self._quiet_until: dict[int, float] = {}

    def run(self, *calls: Call) -> list[Rows]:
        """Run calls as one transaction; again if it met others in a deadlock, for nothing of it was done."""
        for pause in _DEADLOCK_PAUSES:
            try:
                return self.session.run(*calls, timeout=self._timeout)
            except DatabaseRejected as exc:
                if exc.sqlstate not in _DEADLOCKS:
                    raise
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        return self.session.run(*calls, timeout=self._timeout)

    def publish(self, outgoing: Outgoing, timeout: float | None = None) -> Routed:
        """Route and store one message; committed when this returns.

        Raises NotFound (404) for an exchange that does not exist, DatabaseUnavailable when the outcome is
        unknown: publishing the same `Outgoing` again stores nothing twice.
        """
        session, server = self.session, self._server
        expected: list[int] = []
        if outgoing.due_at is None and self._options.notify:
            expected = self._not_quiet(self._routes.get((outgoing.exchange, outgoing.routing_key), ()))
        hurried = bool(expected) and outgoing.durable and server.can_flush
        batch = session.send([outgoing.call("off" if hurried else server.durable)])
        # The bell leaves in the same flush, in a transaction of its own.
        rung = self._ring(expected)
        if (hurried or outgoing.repeated) and server.can_flush:
            session.wait(session.send([(FLUSH, (server.durable,))]), timeout or self._timeout)
        routed = read_routed(outgoing, session.wait(batch, timeout or self._timeout)[0])
        self._after([(outgoing, routed)], rung)
        return routed

    def publish_all(self, batch: Sequence[Outgoing], first: Sequence[Call] = ()) -> list[Rows]:
        """The same for many, all or none of them, behind the calls `first`, whose answers are returned."""
        for exchange in {outgoing.exchange for outgoing in batch} - {""}:
            self.topology.require_exchange(exchange)
        results = self.run(*first, *(outgoing.call(self._server.durable) for outgoing in batch))
        answers, results = results[: len(first)], results[len(first) :]
        routed = [read_routed(outgoing, rows) for outgoing, rows in zip(batch, results, strict=True)]
        self._after(list(zip(batch, routed, strict=True)), set())
        return answers

    def _after(self, published: Iterable[tuple[Outgoing, Routed]], rung: set[int]) -> None:
        wake: set[int] = set()
        for outgoing, routed in published:
            if not routed.queues:
                self._count_unroutable(outgoing, routed)
            for name in routed.limited:
                self._trim(name)
            if not routed.held and self._options.notify:
                wake.update(self._remember(outgoing, routed))
        self._ring(wake - rung)

    def _trim(self, name: str) -> None:
        """Drop or dead-letter the oldest of a queue with a maximal length.

        They are claimed for a consumer that does not exist: if this process dies in between, they return.
        """
        found = self.topology.find(name)
        if found is None:
            return
        queue, nobody = found[0], uuid4()
        values = (nobody, queue.id, queue.max_length, queue.max_length_bytes)
        excess = read_claimed(self.run((sql.CLAIM_EXCESS, values))[0])
        if excess:
            burial = Burial(nobody, excess, queue, "maxlen", keep=self._options.keep_rejected)
            self._ring(burial.run(self.run))

    def _remember(self, outgoing: Outgoing, routed: Routed) -> list[int]:
        ids = [id_ for id_, name in routed.queues.items() if not name.startswith(EVENT_QUEUE_PREFIX)]
        if len(self._routes) >= _ROUTES_AT_MOST:
            self._routes.clear()
            self._quiet_until.clear()
        self._routes[outgoing.exchange, outgoing.routing_key] = ids
        return ids

    def _count_unroutable(self, outgoing: Outgoing, routed: Routed) -> None:
        if not routed.exchange_exists:
            raise NotFound(f"no exchange {outgoing.exchange!r}: declare it before publishing to it")
        self.unroutable += 1
        _log.debug(
            "no queue is bound for exchange %r and routing key %r: dropped",
            outgoing.exchange,
            outgoing.routing_key,
        )

    def _not_quiet(self, queue_ids: Iterable[int]) -> list[int]:
        """Those queues of which it is not known that just now nobody waited."""
        now = time.monotonic()
        return [id_ for id_ in queue_ids if self._quiet_until.get(id_, 0.0) <= now]

    def _ring(self, queue_ids: Iterable[int]) -> set[int]:
        """Ring for those of these queues for which somebody may wait; returns them."""
        ids = self._not_quiet(queue_ids)
        if ids and self._options.notify:
            heard = self._heard(ids, time.monotonic())
            self.session.send([self._bell.ring(ids, pooled=self._server.pooled)], heard)
        return set(ids)

    def _heard(self, ids: list[int], sent_at: float) -> Callable[[Batch], None]:
        def on_done(batch: Batch) -> None:
            if not self._server.pooled and batch.results and batch.results[0].count == 0:
                for id_ in ids:
                    self._quiet_until[id_] = sent_at + QUIET

        return on_done

    def close(self) -> None:
        self.session.close()
