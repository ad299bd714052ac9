"""A process that forks while sessions are being ended: run as `python ending.py`.

Ends with 0 only if its child has turned away all the other sessions.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery_postgres import dsn
from celery_postgres.connection import Database
from celery_postgres.options import Options


def main() -> int:
    database = Database(dsn.parse(os.environ["PROBE_BROKER_URL"]), Options())
    opened = [database.open()[0] for _ in range(6)]
    others = opened[3:]
    for session in opened[:3]:
        session._pgconn.finish()  # as far as another thread has come
        assert session.broken is None
    pid = os.fork()
    if pid == 0:
        nowhere = Path(os.devnull).stat().st_rdev
        os._exit(sum(os.fstat(session.fileno()).st_rdev != nowhere for session in others))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
