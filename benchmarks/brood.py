"""Many workers from one start: `python -m benchmarks.brood COUNT READY_FILE ARGUMENT…`.

Celery is imported once, then each worker is forked: real workers with sessions of their own, which share the
memory of the code. A hundred separate starts would take minutes and several GB. The arguments are those of
`celery worker`. Each appends a byte to the file when it is ready. SIGTERM ends all of them.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Fork, and wait until all have ended."""
    count, ready_path, *arguments = sys.argv[1:]
    from celery.signals import worker_ready

    from benchmarks.application import app

    descriptor = os.open(ready_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def ready(**_: Any) -> None:
        os.write(descriptor, b".")

    worker_ready.connect(ready, weak=False)
    # What is frozen is not touched by the collector, so its pages stay shared.
    gc.freeze()
    # Before the first fork, so that no signal is missed; each worker sets its own handler.
    children: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: _end(children))
    for number in range(int(count)):
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            app.worker_main(["worker", *arguments, "-n", f"w{number}@%h"])
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _end(children: list[int]) -> None:
    for child in children:
        try:
            os.kill(child, signal.SIGTERM)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main()
