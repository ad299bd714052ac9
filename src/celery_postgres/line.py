"""The consuming session over its losses: whoever uses it need not know that it was replaced.

    home ───── the session is lost ─────▶ away ──── a new one has been reconciled ───▶ home
      └───────────────┬────────────────────┘
                      ▼
                    over    declared dead, away for too long, closed, or a fault that no retry mends

While the line is away nothing can be sent and nothing arrives; what is to be settled waits, and the loop goes
on turning. `outage.py` fetches the new session, in a thread of its own.

Thread-safety: as that of `wire.Session`, whose lock stays the same over all sessions of the line.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import DatabaseUnavailable, Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .encoding import Rows
    from .wire import Batch, Call, Session

#: Whoever waits for a session to come back looks this often whether it is his socket that has to be read.
_SLICE = 1.0


class _RidingOut:
    """No generator: it is entered several times for each message."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> bool:
        return isinstance(exc, DatabaseUnavailable) and self._line.over is None and self._line.away


class Line:
    """One session after the other, with the verbs of `wire.Session`."""

    def __init__(self, session: Session) -> None:
        self.lock = session.lock
        self.over: Error | None = None
        """Why there will be no further session; None as long as there may be one."""
        self.on_lost: Callable[[], None] | None = None
        """Told that the line is away or over, in any thread and under the lock: it must return at once."""
        self._home = threading.Event()
        self._riding_out = _RidingOut(self)
        self._session = session
        self._attend(session)

    def _attend(self, session: Session) -> None:
        session.lock = self.lock
        session.on_end = self._ended
        self._home.set()

    def _ended(self) -> None:
        self._home.clear()
        if self.on_lost is not None:
            self.on_lost()

    # -- state ---------------------------------------------------------------------------------------

    @property
    def away(self) -> bool:
        """Whether nothing can be sent just now, or ever."""
        return self._session.broken is not None

    @property
    def broken(self) -> Exception | None:
        """Why nothing can be sent just now, or ever."""
        return self.over or self._session.broken

    def wait_home(self, timeout: float) -> bool:
        """Block until there is a session; False when there is none within `timeout` seconds, or ever."""
        deadline = time.monotonic() + timeout
        while self.away and self.over is None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._home.wait(min(left, _SLICE))
        return not self.away

    def replace(self, session: Session) -> None:
        """Home again. The caller holds the lock, and has reconciled.

        Raises DatabaseUnavailable if the new session is lost already, or nobody wants one any more.
        """
        if self.over is not None or session.broken is not None:
            raise DatabaseUnavailable(str(self.over or session.broken))
        self._session = session
        self._attend(session)

    def end(self, error: Error) -> None:
        """There will be no further session; whoever uses the line meets `error`."""
        with self.lock:
            if self.over is None:
                self.over = error
            if self._session.broken is None:
                self._session.give_up(str(error))
            else:
                self._ended()

    def riding_out(self) -> _RidingOut:
        """Around what may meet the loss of the session, where nobody need hear of it unless the line is over.

        What was under way has failed by then, and is where it was before.
        """
        return self._riding_out

    def _check(self) -> None:
        if self.over is not None:
            raise self.over.with_traceback(None)

    def notification(self) -> bytes | None:
        """The next notification that has arrived."""
        waiting = self._session.notifications
        return waiting.popleft() if waiting else None

    # -- the verbs of a session ----------------------------------------------------------------------

    def neglected(self) -> bool:
        """Whether something has arrived that nobody waits for."""
        return self._session.neglected()

    def fileno(self) -> int:
        return self._session.fileno()

    @property
    def backend_pid(self) -> int:
        return self._session.backend_pid

    @property
    def busy(self) -> bool:
        return self._session.busy

    @property
    def unsent(self) -> bool:
        return self._session.unsent

    def give_up_silent(self, patience: float) -> None:
        """Take the session for lost if the server has owed an answer for more than so many seconds.

        A connection may look well although nothing comes through any more: a proxy, a tunnel or a pooler
        answers for a server that it has lost.
        """
        silent = self._session.unanswered_for()
        if silent > patience:
            self._session.give_up(f"the server has not answered for {silent:.0f} s")

    def send(self, calls: Sequence[Call], on_done: Callable[[Batch], None] | None = None) -> Batch:
        """Raises DatabaseUnavailable while the line is away."""
        self._check()
        return self._session.send(calls, on_done)

    def run(self, *calls: Call, timeout: float | None = None) -> list[Rows]:
        """Raises DatabaseUnavailable while the line is away, or when it is lost in the middle."""
        self._check()
        return self._session.run(*calls, timeout=timeout)

    def wait(self, batch: Batch, timeout: float | None = None) -> list[Rows]:
        """See `Session.wait`, of the session that the batch was sent over. Raises when that is lost."""
        self._check()
        return self._session.wait(batch, timeout=timeout)

    def pump(self) -> None:
        """Take in what has arrived; nothing arrives while the line is away. Raises when it is over."""
        self._check()
        if not self.away:
            with self.riding_out():
                self._session.pump()
        self._check()

    def pump_for_others(self) -> bool:
        """As `pump`, for a thread that only helps out; False where it is not needed or not possible."""
        if self.away:
            return False
        with self.riding_out():
            return self._session.pump_for_others()
        return False

    def flush(self) -> bool:
        if not self.away:
            with self.riding_out():
                return self._session.flush()
        return True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        with self._session.waiting():
            yield

    def wait_readable(self, timeout: float | None) -> bool:
        """Block until something has arrived or the line is home again, at most for a second."""
        if self.away:
            self._home.wait(_SLICE if timeout is None else min(timeout, _SLICE))
            return False
        with self.riding_out():
            return self._session.wait_readable(timeout)
        return False

    def close(self) -> None:
        self.end(DatabaseUnavailable("the connection is closed"))
