"""Sleeps until a process of this host ends, as the kernel tells it; elsewhere until the time is over.

Linux gives a descriptor for a process that becomes readable when it ends. One for each of the watched, and
one to be woken by: the death of a worker is known to its neighbours within a millisecond, at no cost while
all live.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from .process import this_process

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .process import Process

#: A descriptor for each: more are found by looking.
WATCHED_AT_MOST = 256


class Watch:
    """For one thread, which waits; `wake` may come from any."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._closing = threading.Lock()
        self._me = this_process()
        self._descriptors: dict[Process, int] = {}
        self._poll: select.poll | None = None
        # gevent and eventlet put their own in its place, or remove it: their greenlets look by the clock.
        native = getattr(getattr(select, "poll", None), "__module__", None) == "select"
        if native and hasattr(os, "pidfd_open"):
            self._poll = select.poll()
            self._bell, self._ear = os.pipe()[::-1]
            os.set_blocking(self._bell, False)
            self._poll.register(self._ear, select.POLLIN)

    def keep(self, processes: Iterable[Process]) -> None:
        """Watch these from now on, and no others; those out of sight are passed over."""
        if self._poll is None:
            return
        wanted = {process for process in processes if process != self._me and process.visible}
        for process in self._descriptors.keys() - wanted:
            self._forget(process)
        for process in wanted - self._descriptors.keys():
            if len(self._descriptors) < WATCHED_AT_MOST:
                self._add(process)

    def sees_all(self, processes: Iterable[Process]) -> bool:
        """Whether the end of any of these would end a wait."""
        return all(process in self._descriptors or process == self._me for process in processes)

    def _add(self, process: Process) -> None:
        assert self._poll is not None
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:  # gone, or the system does not let us
            return
        if process.ended():  # its number is another's by now
            os.close(descriptor)
            return
        self._descriptors[process] = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, process: Process) -> None:
        assert self._poll is not None
        descriptor = self._descriptors.pop(process)
        self._poll.unregister(descriptor)
        os.close(descriptor)

    def wait(self, timeout: float, descriptor: int | None = None) -> bool:
        """Sleep at most so many seconds; True when a process has ended, which is then watched no more.

        What arrives at `descriptor`, or its end, ends the sleep, too.
        """
        if self._poll is None:
            self._woken.wait(timeout)
            return False
        if descriptor is not None:
            self._poll.register(descriptor, select.POLLIN)
        try:
            ready = {descriptor for descriptor, _ in self._poll.poll(max(0.0, timeout * 1000))}
        finally:
            if descriptor is not None:
                self._poll.unregister(descriptor)
        ended = [process for process, descriptor in self._descriptors.items() if descriptor in ready]
        for process in ended:
            self._forget(process)
        return bool(ended)

    def wake(self) -> None:
        """End the present wait, and every later one at once."""
        self._woken.set()
        with self._closing:  # or the number might be another's by now
            if self._poll is not None:
                try:
                    os.write(self._bell, b"\0")
                except BlockingIOError:  # woken often enough
                    pass

    def close(self) -> None:
        """By the thread that waits."""
        with self._closing:
            if self._poll is not None:
                for process in list(self._descriptors):
                    self._forget(process)
                self._poll = None
                os.close(self._ear)
                os.close(self._bell)
