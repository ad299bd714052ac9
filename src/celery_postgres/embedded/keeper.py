"""The owner's side of the keeper process (see keeper_process.py)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from celery_postgres.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from .account import Account

SCRIPT = Path(__file__).with_name("keeper_process.py")
# Nothing of the caller's PG* variables, locale or secrets reaches the server.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TZ")
CLOSING_S = 30


class Keeper:
    """Runs one program at a time; its `scratch` folder and program end with it, or with this process."""

    def __init__(self, scratch: Path, lock: int | None = None) -> None:
        """`lock` is the descriptor of a locked file, held to the keeper's end; the caller closes its own."""
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._scratch = scratch
        self._process = subprocess.Popen(
            [str(Path(sys.executable).absolute()), "-I", "-S", str(SCRIPT), str(scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={**environment, "LC_ALL": "C", "LANG": "C"},
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
        )
        self._orders = cast("IO[bytes]", self._process.stdin)
        self._reports = cast("IO[bytes]", self._process.stdout)
        self._unread = b""
        _keepers.add(self)

    def run(self, command: list[str], log: Path, account: Account) -> int:
        """Start the program and return its process id."""
        user, group = (account.uid, account.gid) if account.switched else (None, None)
        self._order(run=command, log=str(log), user=user, group=group)
        answer = self._report(None)
        if "started" not in answer:
            raise DatabaseUnavailable(f"{command[0]} did not start: {answer.get('failed')}")
        return int(answer["started"])

    def signal(self, number: int) -> None:
        self._order(signal=number)

    def ended(self, timeout_s: float | None) -> int | None:
        """The program's exit status, or None while it runs; waits up to `timeout_s`, None for ever."""
        status = self._report(timeout_s).get("ended")
        return None if status is None else int(status)

    def close(self) -> None:
        """Stop the program and wait until nothing is left of it."""
        self.let_go()
        try:
            status = self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            raise DatabaseUnavailable(
                f"the private server did not stop in {CLOSING_S} s: end its keeper, "
                f"process {self._process.pid}"
            ) from None
        if status != 0:
            raise DatabaseUnavailable(
                f"the private server's keeper ended with {status}: look for a server that still runs, "
                f"and remove {self._scratch}"
            )

    def _order(self, **order: Any) -> None:
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError as error:
            raise DatabaseUnavailable(self._gone()) from error

    def _report(self, timeout_s: float | None) -> dict[str, Any]:
        """The next report, or an empty one when the time is over."""
        poll = select.poll()  # unlike select(), also for descriptors above 1023
        poll.register(self._reports, select.POLLIN)
        while b"\n" not in self._unread:
            if not poll.poll(None if timeout_s is None else timeout_s * 1000):
                return {}
            received = self._reports.read(4096)
            if not received:
                raise DatabaseUnavailable(self._gone())
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return dict(json.loads(line))

    def _gone(self) -> str:
        return f"the private server's keeper (process {self._process.pid}) is gone: start the server anew"

    def let_go(self) -> None:
        """Close our ends of the pipes, which is the order to stop unless another process holds them."""
        self._orders.close()
        self._reports.close()


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child must not hold the server up, so that it ends with the process that started it."""
    for keeper in _keepers:
        keeper.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
