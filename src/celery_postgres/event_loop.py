"""Drives an intake from kombu's event loop, which Celery's worker turns.

The loop reads the socket, sends at every tick what has piled up, and looks when the poll is due. When the
line is lost the socket is taken out of the loop, which goes on turning, and the new one is put in when the
line is home again.

Everything here runs in the loop's thread, except where it says so.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from .intake import Intake

#: A callback that took longer has probably run a task (solo pool): look after the session before the next.
_LONG_CALLBACK = 0.005

#: The event loop's longest sleep, in seconds. A signal does not end Python's wait for a socket, so a worker
#: that is told to stop notices it with the next timer, and Celery's own are seconds apart.
_LONGEST_SLEEP = 0.5

#: Pools whose callbacks hand tasks over and do not run them.
_HANDS_OVER = ("prefork", "threads")


class EventLoop:
    """One intake in one loop, from the construction to `detach`."""

    def __init__(self, hub: Any, intake: Intake) -> None:
        self._hub = hub
        self._intake = intake
        self._descriptor: int | None = None
        self._timer: Any = None
        self._attached = True
        self._thread = threading.get_ident()
        self._tick_asked = False
        self._waker = Waker(hub)
        self._has_polled = False
        """Whether the loop is at what its poll has found, after which it does what is to be done soon."""
        self._watchdog = Watchdog(intake.set_aside, intake.take_up)
        self._runs_tasks = intake.incarnation.role.pool not in _HANDS_OVER
        intake.lookout.on_look = self._watchdog.look
        hub.on_tick.add(self._on_tick)
        intake.on_look_planned = lambda: self._soon(self._plan_look)
        intake.pacer.on_pumped = lambda: self._soon(self._resume)
        intake.lookout.on_change = lambda: self._soon(self._changed)
        self._changed()
        self._soon(self._on_timer)

    def detach(self) -> None:
        """`hub.reset` removes readers but not what runs on every tick."""
        self._attached = False
        self._waker.close()
        self._intake.lookout.on_look = None
        self._hub.on_tick.discard(self._on_tick)
        self._unplug()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _soon(self, callback: Callable[[], None]) -> None:
        """Run it at the loop's next step, from any thread; `call_soon` alone is safe between threads.

        That wakes a loop that sleeps, and not one that is about to: it has looked already at what is to do.
        """
        if not self._attached:
            return
        self._hub.call_soon(callback)
        if threading.get_ident() == self._thread and not self._has_polled:
            self._waker.wake()

    # -- the socket ----------------------------------------------------------------------------------

    def _changed(self) -> None:
        """The line was lost, or is home again, or over."""
        if not self._attached:
            return
        self._unplug()
        session = self._intake.session
        with session.lock:
            if not session.away:
                self._descriptor = session.fileno()
                self._hub.add_reader(self._descriptor, self._on_readable)
        if session.over is None:
            self.advance()
        else:
            # The next tick raises it. A loop that is ending runs what was asked for soon once more, and would
            # log what that raises.
            self._soon(_turn_at_once)

    def _unplug(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # A lost session's number is free, and somebody else's by now, perhaps.
        if self._hub.readers.get(descriptor, (None,))[0] == self._on_readable:
            self._hub.remove_reader(descriptor)

    def _on_readable(self) -> None:
        self._has_polled = True
        try:
            self.advance()
        finally:
            self._has_polled = False

    # -- turns ---------------------------------------------------------------------------------------

    def _plan_look(self) -> None:
        if not self._attached:
            return
        if self._timer is not None:
            self._timer.cancel()
        pause = min(max(0.01, self._intake.seconds_to_poll()), _LONGEST_SLEEP)
        self._timer = self._hub.call_later(pause, self._on_timer)

    def _on_timer(self) -> None:
        if not self._attached:
            return
        try:
            self._intake.poll()
            self.advance()
        finally:  # a callback may raise, and the loop may only log it
            self._plan_look()

    def _on_tick(self) -> None:
        self._tick_asked = False
        self._watchdog.turned()
        if self._intake.session.over is not None:
            self._intake.pump()
        self._send()

    def tick(self) -> None:
        """In any thread: something was settled or asked for."""
        if threading.get_ident() == self._thread:
            self._send()
        elif not self._tick_asked:
            self._tick_asked = True  # the loop sleeps, and knows nothing of what a thread does
            self._soon(self._on_tick)

    def advance(self) -> None:
        """Take in, send the next batch, and only then hand out: the server works while the worker does."""
        intake = self._intake
        if not self._attached:
            return
        intake.pump()
        self._send()
        while intake.has_arrived:
            begin = time.monotonic()
            self._watchdog.busy = self._runs_tasks
            try:
                intake.deliver_one()
            finally:
                self._watchdog.busy = False
                self._watchdog.turned()
            if time.monotonic() - begin > _LONG_CALLBACK and self._attached:
                intake.pump()
                self._send()
                if intake.has_arrived:
                    self._soon(self._resume)
                return

    def _resume(self) -> None:
        """`advance`, soon. A loop that is ending does that once more, and would log what the tick raises."""
        if self._intake.session.over is None:
            self.advance()

    def _send(self) -> None:
        self._intake.turn()
        if self._intake.session.unsent:
            # The kernel takes no more for now. kombu's hub cannot wait for that as well at a descriptor that
            # it reads: its epoll ignores a second registration.
            self._intake.pacer.arm()


class Waker:
    """Keeps a loop from sleeping once. For its own thread."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        hub.add_reader(self._reader, self._on_readable)

    def wake(self) -> None:
        with suppress(BlockingIOError):  # full: then it wakes all the same
            os.write(self._writer, b"\0")

    def _on_readable(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def close(self) -> None:
        if self._hub.readers.get(self._reader, (None,))[0] == self._on_readable:
            self._hub.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)


def _turn_at_once() -> None:
    """For a loop that would sleep."""
