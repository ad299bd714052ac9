"""A worker of a trial does not outlive the process that started it."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from celery import signals


def end_with_the_owner() -> None:
    """From the worker's start on, its process group ends as soon as its standard input does."""
    signals.worker_init.connect(_watch, weak=False)


def _watch(**_: Any) -> None:
    threading.Thread(target=_watch_the_owner, name="end with the owner", daemon=True).start()


def _watch_the_owner() -> None:
    """The standard input ends when the owner is gone, however it went: then we go, too."""
    # Not by `sys.stdin`: a process of the pool closes that, and would wait for the lock that we hold.
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
