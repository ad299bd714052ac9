"""The process between an owner and its private server: the server's parent, and the owner's heir.

Run by path in an isolated interpreter, so it uses the standard library only. An owner that is killed runs no
code, but the kernel closes its end of our standard input: whatever becomes of the owner, input ends, and then
this process stops the server, removes the scratch folder and ends. As the parent it knows the server's
process for certain, which a process id in a file would not tell.

Orders come in, one JSON object per line:
    {"run": [program, argument…], "log": path, "user": id or null, "group": id or null}
    {"signal": number}         to the running program; SIGKILL goes to all its children, too
Reports go out, likewise:
    {"started": process id}  or  {"failed": reason};  later {"ended": exit status}
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a server is asked to stop, and for how many seconds: fast, immediate, by force.
STOPPING = ((signal.SIGINT, 10), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))


class Program:
    """One started program; a thread waits for its end and reports it."""

    def __init__(self, order: dict[str, Any]) -> None:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        account: dict[str, Any] = {}
        if order["user"] is not None:
            account = {"user": order["user"], "group": order["group"], "extra_groups": []}
        try:
            # A session of its own: Ctrl+C in the owner's terminal must not reach the server.
            self.process = subprocess.Popen(
                order["run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **account,
            )
        finally:
            os.close(log)
        self.ended = threading.Event()
        report(started=self.process.pid)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        status = self.process.wait()
        self.ended.set()
        report(ended=status)

    def signal(self, number: int) -> None:
        if self.ended.is_set():
            return
        try:
            if number == signal.SIGKILL:
                self._kill_all()
            else:
                os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass  # it ended on its own a moment ago; the watching thread reports it

    def _kill_all(self) -> None:
        """Kill the program and its children at one stroke, so that no backend lives on for a moment."""
        os.kill(self.process.pid, signal.SIGSTOP)  # it must not fork meanwhile
        children = list(children_of(self.process.pid))
        for pid in (*children, self.process.pid):
            if parent_and_state(pid)[1]:  # a stopped parent reaps none, so the id stays the child's
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(parent_and_state(pid)[1] not in ("", "Z") for pid in children):
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)  # the parent is gone, so there is nothing to wait on

    def stop(self) -> None:
        for number, patience_s in STOPPING:
            self.signal(number)
            if self.ended.wait(patience_s):
                return


def parent_and_state(pid: int) -> tuple[int, str]:
    """From /proc; (0, "") for a process that is gone, or on a system without /proc."""
    try:
        # The name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(fields[1]), fields[0]


def children_of(parent: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        if parent_and_state(int(entry.name))[0] == parent:
            yield int(entry.name)


def report(**message: Any) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        pass  # the owner is gone, so nobody is left to be told; the end of input follows


def main(scratch: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler and not SIG_IGN, which the server would inherit. Only the end of input ends us.
        signal.signal(number, lambda *_: None)
    program: Program | None = None
    try:
        for line in sys.stdin:
            if not line.endswith("\n"):
                break  # the owner was killed in the middle of an order
            order = json.loads(line)
            try:
                if "run" in order:
                    program = Program(order)
                elif program is not None:
                    program.signal(order["signal"])
            except OSError as error:
                report(failed=str(error))
    finally:
        if program is not None:
            program.stop()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main(sys.argv[1])
