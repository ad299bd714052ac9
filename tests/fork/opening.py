"""A process whose threads open sessions all the time, and which forks: run as `python opening.py`.

Ends with 0 only if no child found a socket of its parent's that leads to the server.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.options import Options
from celery_postgres.schema import upgrade

FORKS = 60


def open_and_close(database: Database, enough: threading.Event) -> None:
    while not enough.is_set():
        session, _ = database.open()
        session.close()


def leads_to(port: int) -> bool:
    """Whether one of our descriptors is connected to that port."""
    for name in range(1024):
        try:
            with socket.socket(fileno=os.dup(name)) as end:
                if end.family == socket.AF_INET and end.getpeername()[1] == port:
                    return True
        except OSError:
            pass  # none such, or no socket, or not connected
    return False


def main() -> int:
    target = dsn.parse(os.environ["PROBE_BROKER_URL"])
    upgrade(target, "celery")
    database, port = Database(target, Options()), int(target.conninfo["port"])
    enough = threading.Event()
    threads = [threading.Thread(target=open_and_close, args=(database, enough)) for _ in range(3)]
    for thread in threads:
        thread.start()
    found = 0
    for _ in range(FORKS):
        pid = os.fork()
        if pid == 0:
            os._exit(leads_to(port))
        found += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    enough.set()
    for thread in threads:
        thread.join()
    print(f"{found} of {FORKS} children had a socket of their parent's")
    return found


if __name__ == "__main__":
    sys.exit(main())
