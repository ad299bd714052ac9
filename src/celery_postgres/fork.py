"""Keeps a forked child from its parent's sessions.

A child inherits the socket. Whatever it sends there, also the farewell that libpq sends when a connection is
finished, ends the parent's session; and the server sees the parent's death only when the last copy of the
socket is closed. A closed number would be reused by the child's next connection and then closed by libpq: so
the descriptor is turned to /dev/null and stays.

A session that a thread is just opening is in nobody's list yet, and its socket would be inherited unseen. So
a fork waits for such threads, for a moment: as long as connecting takes where nothing is wrong.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .wire import Session

#: How long a fork waits for sessions that are being opened, in seconds. The worker's loop stands still
#: meanwhile, and one that is not open by then has probably met nobody who answers.
PATIENCE = 0.5

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class _Gate:
    """Lets threads in while no fork is about to happen, and a fork when they are out or take long."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Also in a child: the threads that were inside are its parent's."""
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def passage(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed, PATIENCE)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside, PATIENCE)

    def reopen(self) -> None:
        with self._changed:
            self._closed = False
            self._changed.notify_all()


_gate = _Gate()


@contextmanager
def opening() -> Iterator[None]:
    """Around the opening of a session, until it is `known`."""
    with _gate.passage():
        yield


def known(session: Session) -> None:
    """From now on a child is kept from it."""
    _sessions.add(session)


def _in_child() -> None:
    _gate.begin()
    sessions = list(_sessions)
    _sessions.clear()
    if not sessions:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for session in sessions:
        if session.broken is None:
            with suppress(DatabaseUnavailable):  # another thread was just ending it
                os.dup2(nowhere, session.fileno(), inheritable=False)
            session.abandon()
    os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.reopen, after_in_child=_in_child)
