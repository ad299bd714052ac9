"""Sends acknowledgements that the loop does not get to.

The solo pool runs the task inside the delivery callback. An early acknowledgement must not wait for the
end of the task: a worker that is killed in the middle would find the task again, although it was told that
it is done.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .intake import Intake

#: An acknowledgement leaves after this long at the latest, in seconds, whatever the loop does.
ACK_DELAY = 0.02


class Pacer:
    """A thread that sleeps until something is settled, and looks 20 ms later whether it has been sent."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._armed = False
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.on_pumped: Callable[[], None] | None = None
        """Called in the pacer's thread when it took in, or lost, what the loop would have been woken for."""

    def arm(self) -> None:
        """Something was settled. Costs an attribute look-up when the pacer is awake already."""
        if self._armed or self._stopped:
            return
        self._armed = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._pace, name="celery-postgres-pacer", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Returns at once."""
        self._stopped = True
        self._wake.set()

    def _pace(self) -> None:
        while True:
            self._wake.wait()
            if self._stopped:
                return
            self._wake.clear()
            self._armed = False
            time.sleep(ACK_DELAY)
            try:
                while not self._stopped and self._intake.unsent:
                    self._send()
                    time.sleep(ACK_DELAY)
            except Exception:  # noqa: BLE001  the loop meets the same error and reports it
                self._wake_loop()
                return

    def help_out(self) -> None:
        """Take in what the loop has not got to: in any thread, and often enough to notice a loss."""
        try:
            if self._intake.session.neglected() and self._intake.session.pump_for_others():
                self._wake_loop()
        except Exception:  # noqa: BLE001  the loop meets the same error and reports it
            self._wake_loop()

    def _send(self) -> None:
        pumped = self._intake.session.pump_for_others()
        self._intake.turn()
        self._intake.session.flush()
        if pumped:
            self._wake_loop()

    def _wake_loop(self) -> None:
        if self.on_pumped is not None:
            self.on_pumped()
