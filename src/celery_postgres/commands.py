"""The other half of a connection: publishing, declaring, counting. Each call blocks for its round trip."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from .backoff import Patience
from .dead_letter import Burial
from .errors import DatabaseRejected, DatabaseUnavailable, Error, NotFound
from .messages import Outgoing, Routed, read_claimed, read_routed
from .sql import messages as sql
from .sql.flush import FLUSH
from .sqlstates import Reaction
from .topology import EVENT_QUEUE_PREFIX, Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .connection import Server
    from .encoding import Rows
    from .options import Options
    from .wakeup import Bell
    from .wire import Batch, Call, Session

_log = logging.getLogger(__name__)

_ROUTES_AT_MOST = 1000

T = TypeVar("T")

#: How often what met others in a deadlock, or waited for a lock in vain, is tried again.
_RETRIES = 5

#: A publisher that waits for a full disk says so, and not every time.
_WORD_EVERY = 30.0

#: Nobody waited for a queue: for so many seconds that is taken for granted. Who goes idle meanwhile looks
#: again after a little more (`cadence.AFTER_IDLE`).
QUIET = 0.01


class Commands:
    """One session for everything that waits for its answer. Safe to share between threads."""

    def __init__(self, session: Session, server: Server, bell: Bell, options: Options) -> None:
        self.session = session
        self._server = server
        self._bell = bell
        self._options = options
        self._timeout = options.statement_timeout or None
        self.topology = Topology(self.run, strict=options.strict_declare)
        # Where earlier messages of a route went, so that the bell can leave with the message. Only a hint:
        # what it misses is rung for after the answer.
        self._routes: dict[tuple[str, str], list[int]] = {}
        self._quiet_until: dict[int, float] = {}
        self._next_word = 0.0

    def resume(self, session: Session, server: Server) -> None:
        """Go on with another session in the place of one that is lost."""
        self.session, self._server = session, server

    def run(self, *calls: Call) -> list[Rows]:
        """Run calls as one transaction; again while what was in the way may pass, as `publish` does."""
        return self._persist(self._limit(None), lambda left: self._run_once(calls, left))

    def _run_once(self, calls: Sequence[Call], left: float | None) -> list[Rows]:
        limits = [limit for limit in (self._timeout, left) if limit is not None]
        return self.session.run(*calls, timeout=min(limits, default=None))

    def _limit(self, timeout: float | None) -> float | None:
        return timeout or self._options.publish_timeout or None

    def _persist(self, seconds: float | None, attempt: Callable[[float | None], T]) -> T:
        """Try until it succeeds, or until so many seconds are over: nothing of a refused attempt was done.

        `attempt(seconds)` is told how long it may take.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        patience, retried = Patience(), 0
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return attempt(left)
            except DatabaseRejected as exc:
                retried += exc.reaction is Reaction.RETRY
                if not exc.passing or retried > _RETRIES:
                    raise
                pause = patience.after(exc.reaction)
                if deadline is not None and time.monotonic() + pause >= deadline:
                    raise
                if exc.reaction is Reaction.BACK_OFF:
                    self._say_waiting(pause, exc)
            time.sleep(pause)

    def _say_waiting(self, pause: float, exc: DatabaseRejected) -> None:
        now = time.monotonic()
        if now >= self._next_word:
            self._next_word = now + _WORD_EVERY
            _log.warning("the server has no room, trying again in %g s: %s", round(pause, 1), exc)

    def publish(self, outgoing: Outgoing, timeout: float | None = None) -> Routed:
        """Route and store one message; committed when this returns.

        What passes (a deadlock, a lock, a full disk) is waited for up to `timeout` seconds, by default the
        option `publish_timeout`; so is a standby that has to confirm.
        Raises NotFound (404) for an exchange that does not exist, DatabaseRejected where nothing was stored,
        DatabaseUnavailable when the outcome is unknown: publishing the same `Outgoing` again stores nothing
        twice.
        """
        return self._persist(self._limit(timeout), lambda left: self._publish_once(outgoing, left))

    def _publish_once(self, outgoing: Outgoing, left: float | None) -> Routed:
        session, server = self.session, self._server
        expected: list[int] = []
        if outgoing.due_at is None and self._options.notify:
            expected = self._not_quiet(self._routes.get((outgoing.exchange, outgoing.routing_key), ()))
        hurried = bool(expected) and outgoing.durable and server.can_flush
        batch = session.send([outgoing.call("off" if hurried else self.commit(outgoing))])
        # The bell leaves in the same flush, in a transaction of its own.
        rung = self._ring(expected)
        if (hurried or outgoing.repeated) and server.can_flush:
            self._flush(batch, left)
        routed = read_routed(outgoing, session.wait(batch, left)[0])
        self._after([(outgoing, routed)], rung)
        return routed

    def _flush(self, published: Batch, left: float | None) -> None:
        """Wait for the disk, for what was published before without waiting."""
        flushing = self.session.send([(FLUSH, (self._server.durable,))])
        try:
            self.session.wait(flushing, left)
        except DatabaseRejected as exc:
            if published.error is None:
                raise DatabaseUnavailable(
                    f"the message is stored, and nobody knows whether it is on disk: {exc}", exc.sqlstate
                ) from exc

    def publish_all(
        self, batch: Sequence[Outgoing], first: Sequence[Call] = ()
    ) -> tuple[list[Routed], list[Rows]]:
        """The same for many, all or none of them, behind the calls `first`.

        Returns where each went, and the answers of `first`.
        """
        for exchange in {outgoing.exchange for outgoing in batch} - {""}:
            self.topology.require_exchange(exchange)
        # Together with what has to be on disk, a transient message is there as well.
        durable = bool(first) or any(outgoing.durable for outgoing in batch)
        commit = self._server.durable if durable else "off"
        calls = [*first, *(outgoing.call(commit) for outgoing in batch)]
        if self._server.can_flush and any(outgoing.repeated for outgoing in batch):
            calls.append((FLUSH, (self._server.durable,)))  # what is found and not written is waited for, too
        try:
            results = self._persist(self._limit(None), lambda left: self.session.run(*calls, timeout=left))
        except DatabaseUnavailable:
            for outgoing in batch:
                outgoing.repeated = True
            raise
        answers, results = results[: len(first)], results[len(first) : len(first) + len(batch)]
        routed = [read_routed(outgoing, rows) for outgoing, rows in zip(batch, results, strict=True)]
        self._after(list(zip(batch, routed, strict=True)), set())
        return routed, answers

    def _after(self, published: Iterable[tuple[Outgoing, Routed]], rung: set[int]) -> None:
        wake: set[int] = set()
        limited: set[str] = set()
        for outgoing, routed in published:
            if not routed.queues:
                self._say_unroutable(outgoing, routed)
            limited.update(routed.limited)
            if not routed.held and self._options.notify:
                wake.update(self._remember(outgoing, routed))
        try:
            for name in sorted(limited):
                self._trim(name)
            self._ring(wake - rung)
        except Error as exc:
            self._say_undone(exc)

    def _say_undone(self, exc: Error) -> None:
        """It is stored, and that is what its publisher asks. The poll finds it, the next one trims."""
        _log.warning("a message was stored, and what follows was left undone: %s", exc)

    def commit(self, outgoing: Outgoing) -> str:
        """The setting of `synchronous_commit` that a message needs here."""
        return self._server.durable if outgoing.durable else "off"

    def follow(self, outgoing: Outgoing, routed: Routed) -> list[Call]:
        """What belongs behind a message in another's transaction: bells, which ring when that commits.

        Raises NotFound (404) for an exchange that does not exist.
        """
        if not routed.queues:
            self._say_unroutable(outgoing, routed)
        try:
            for name in sorted(routed.limited):  # of what is committed by now
                self._trim(name)
        except Error as exc:
            self._say_undone(exc)
        if routed.held or not self._options.notify:
            return []
        ids = self._remember(outgoing, routed)
        return [self._bell.ring(ids, pooled=True)] if ids else []

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

    def _say_unroutable(self, outgoing: Outgoing, routed: Routed) -> None:
        if not routed.exchange_exists:
            raise NotFound(f"no exchange {outgoing.exchange!r}: declare it before publishing to it")
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
