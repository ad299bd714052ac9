"""Results of tasks and saved groups: stored, read, forgotten, expired."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .crowd import Crowd
from .errors import DatabaseRejected, DatabaseUnavailable
from .sql import results as sql
from .sql.flush import FLUSH, HURRY
from .wakeup import ResultBell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .connection import Database, Server
    from .encoding import Rows
    from .wire import Batch, Call, Session

    _Sent = tuple[Batch, threading.Event]

_log = logging.getLogger(__name__)

#: What has expired goes in batches of so many, behind a result that was stored: no clock, no beat, no thread.
EXPIRED_AT_ONCE = 500
#: Seconds between two looks for it of one process; soon again while there is more.
_EXPIRE_EVERY = 30.0
_EXPIRE_SOON = 0.5

_READ_AT_ONCE = 1000
#: Seconds for which somebody is taken to wait for the next result, because somebody waited for one.
_HURRY_FOR = 5.0


@dataclass(frozen=True)
class Encoded:
    """What a serializer made of a value."""

    content_type: str
    content_encoding: str
    payload: bytes

    def packed(self) -> bytes:
        """All of it as one value."""
        return b"\0".join((self.content_type.encode(), self.content_encoding.encode(), self.payload))

    @classmethod
    def unpacked(cls, packed: bytes) -> Encoded:
        content_type, content_encoding, payload = packed.split(b"\0", 2)
        return cls(content_type.decode(), content_encoding.decode(), payload)


@dataclass(frozen=True)
class Result:
    """One state of one task.

    `created_us` is in microseconds since 2000, `ran_s` the seconds since the task's code began, `keep_s` how
    many seconds to keep it; None where that is unknown, or for ever.
    """

    task_id: str
    state: str
    final: bool
    encoded: Encoded
    error: str | None = None
    name: str | None = None
    queue: str | None = None
    worker: str | None = None
    retries: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    created_us: int | None = None
    ran_s: float | None = None
    keep_s: float | None = None

    def call(self) -> Call:
        """The statement that stores it."""
        return sql.STORE, self.values()

    def values(self) -> tuple[object, ...]:
        return (
            self.task_id,
            self.state,
            self.encoded.content_type,
            self.encoded.content_encoding,
            self.encoded.payload,
            self.error,
            self.name,
            self.queue,
            self.worker,
            self.retries,
            self.root_id,
            self.parent_id,
            self.group_id,
            self.created_us,
            self.ran_s,
            self.final,
            self.keep_s,
        )


def read_found(rows: Rows) -> Iterator[tuple[str, Encoded]]:
    """Task id and meta of each row of READ."""
    for row in range(rows.count):
        yield rows.text(row, 0) or "", read_encoded(rows, row, 2)


def read_encoded(rows: Rows, row: int, column: int) -> Encoded:
    return Encoded(
        rows.text(row, column) or "", rows.text(row, column + 1) or "", rows.raw(row, column + 2) or b""
    )


class Results:
    """The results in one database, over one session of this process, opened at first use.

    Safe to share between threads; a forked child opens its own. Every method blocks for one round trip and
    raises DatabaseUnavailable when the session is lost, after which it may be called again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = ResultBell(database.options.schema)
        self._timeout = database.options.statement_timeout or None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._opening = threading.RLock()
        self._crowd = Crowd()
        self._opened: tuple[Session, Server] | None = None
        self._hurry_until = 0.0
        self._in_doubt = False
        self._next_expiry = time.monotonic() + random.uniform(0, _EXPIRE_EVERY)  # noqa: S311

    def store(self, result: Result) -> None:
        """Store one state; a stored success stays. A final state is durable when this returns.

        While results are waited for it is seen before it is on disk, see `sql.flush`. What is only passed
        through does not wait for the disk: the next state takes its place.
        """
        session, server = self._open()
        if not result.final:
            self._commit(session, server, [result.call()], tell=result, hurried=True, flushed=False)
            return
        hurried = server.can_flush and self._awaited()
        # What an attempt has written that failed afterwards is found, and not written again.
        flushed = hurried or self._in_doubt
        self._in_doubt = hurried
        self._commit(session, server, [result.call()], tell=result, hurried=hurried, flushed=flushed)
        self._in_doubt = False
        self._expire_behind(session)

    def commit(self, *calls: Call, tell: Result | None) -> list[Rows]:
        """Run calls as one transaction that others are to see at once, and tell who waits for the result.

        On disk when this returns, also where an earlier attempt has written it.
        """
        session, server = self._open()
        hurried = server.can_flush
        return self._commit(session, server, calls, tell=tell, hurried=hurried, flushed=hurried)

    def _commit(
        self,
        session: Session,
        server: Server,
        calls: Sequence[Call],
        *,
        tell: Result | None,
        hurried: bool,
        flushed: bool,
    ) -> list[Rows]:
        """One flush: the calls, the bell, the disk. Answers of the calls alone."""
        first: list[Call] = [(HURRY, ())] if hurried else []
        # The bell's lock is held until the commit: it goes with what does not wait for the disk.
        inside = hurried and tell is not None and self._awaited()
        last: list[Call] = [self._bell.ring(tell)] if inside and tell is not None else []
        stored = self._send(
            session, [*first, *calls, *last], more=flushed, heard=self._rung if inside else None
        )
        if tell is not None and not inside:
            session.send([self._bell.ring(tell)], self._rung, more=flushed)
        on_disk = self._send(session, [(FLUSH, (server.durable,))]) if flushed else None
        try:
            if on_disk is not None:
                self._wait(session, on_disk)
            return self._wait(session, stored)[len(first) :][: len(calls)]
        except DatabaseRejected:
            if not inside:
                raise
        # Perhaps it was the bell that was refused: notifications that nobody reads fill the server's queue.
        self._hurry_until = 0.0
        return self._commit(session, server, calls, tell=tell, hurried=hurried, flushed=flushed)

    def wake(self, result: Result) -> None:
        """Tell who waits that it is stored; for one that went with another session. Only a hint."""
        self._open()[0].send([self._bell.ring(result)], self._rung)

    def _awaited(self) -> bool:
        """Whether somebody is likely to wait: he did a moment ago."""
        return time.monotonic() < self._hurry_until

    def _rung(self, batch: Batch) -> None:
        if batch.results and batch.results[-1].count:  # somebody waited, and may wait for the next one
            self._hurry_until = time.monotonic() + _HURRY_FOR

    def read(self, task_ids: Sequence[str]) -> list[tuple[str, Encoded]]:
        """What is stored of these tasks; those without a state are absent."""
        found: list[tuple[str, Encoded]] = []
        for start in range(0, len(task_ids), _READ_AT_ONCE):
            found += read_found(self.run((sql.READ, (list(task_ids[start : start + _READ_AT_ONCE]),)))[0])
        return found

    def forget(self, task_id: str) -> None:
        self.run((sql.FORGET, (task_id,)))

    def save_group(self, group_id: str, encoded: Encoded, keep_s: float | None) -> None:
        values = (group_id, encoded.content_type, encoded.content_encoding, encoded.payload, keep_s)
        self.run((sql.SAVE_GROUP, values))

    def read_group(self, group_id: str) -> Encoded | None:
        rows = self.run((sql.READ_GROUP, (group_id,)))[0]
        return read_encoded(rows, 0, 0) if rows.count else None

    def delete_group(self, group_id: str) -> None:
        self.run((sql.DELETE_GROUP, (group_id,)))

    def expire(self) -> int:
        """Delete all that has expired, in batches; returns how many results, groups and chords."""
        total = 0
        while True:
            rows = self.run((sql.EXPIRE, (EXPIRED_AT_ONCE,)))[0]
            counts = [rows.integer(0, column) for column in range(3)]
            total += sum(counts)
            if max(counts) < EXPIRED_AT_ONCE:
                return total

    def _expire_behind(self, session: Session) -> None:
        now = time.monotonic()
        if now >= self._next_expiry:
            self._next_expiry = now + _EXPIRE_EVERY * random.uniform(0.8, 1.2)  # noqa: S311
            session.send([(sql.EXPIRE, (EXPIRED_AT_ONCE,))], self._expired)

    def _expired(self, batch: Batch) -> None:
        if batch.error is not None:
            if not isinstance(batch.error, DatabaseUnavailable):
                _log.warning("expired results could not be deleted, it will be tried again: %s", batch.error)
        elif any(batch.results[0].integer(0, column) >= EXPIRED_AT_ONCE for column in range(3)):
            self._next_expiry = time.monotonic() + _EXPIRE_SOON

    def run(self, *calls: Call) -> list[Rows]:
        """Run calls as one transaction and wait for them."""
        session = self._open()[0]
        return self._wait(session, self._send(session, calls))

    def _send(
        self,
        session: Session,
        calls: Sequence[Call],
        *,
        more: bool = False,
        heard: Callable[[Batch], None] | None = None,
    ) -> _Sent:
        woken = threading.Event()

        def on_done(batch: Batch) -> None:
            if heard is not None:
                heard(batch)
            woken.set()

        return session.send(calls, on_done, more=more), woken

    def _wait(self, session: Session, sent: _Sent) -> list[Rows]:
        batch, woken = sent
        answered = self._crowd.wait(
            lambda: batch.done,
            woken,
            take_in=session.pump,
            pause=session.wait_readable,
            timeout=self._timeout,
        )
        if not answered:
            session.cut_short(batch, f"the server did not answer within {self._timeout:g} s")
        if batch.error is not None:
            raise batch.error
        return batch.results

    def _open(self) -> tuple[Session, Server]:
        if self._pid != os.getpid():
            self._reset()
        opened = self._opened
        if opened is not None and (opened[0].busy or opened[0].alive()):
            return opened
        with self._opening:
            if self._opened is opened:
                self._crowd = Crowd()
                self._opened = self._database.open_set_up()
            assert self._opened is not None
            return self._opened

    def close(self) -> None:
        """End the session; the next use opens another."""
        if self._pid == os.getpid() and self._opened is not None:
            self._opened[0].close()
