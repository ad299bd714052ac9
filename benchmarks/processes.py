"""CPU time of processes, our own and the servers', and the stopping of those that we started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, all threads, to the nanosecond; 0.0 if it is gone.

    /proc shows the same figure in ticks of 10 ms. The clock number is the one that
    clock_getcpuclockid(3) makes of a process id; no right over the process is needed.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def parent_of(pid: int) -> int | None:
    """Return the parent of a live process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def children(pid: int) -> list[int]:
    """Return the live direct children of a process."""
    return [child for child, fields in _stats() if int(fields[1]) == pid]


def tree_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants, those included that have ended.

    A server with a process per connection keeps the time of an ended one in its own account.
    """
    parents: dict[int, list[int]] = {}
    ended_s: dict[int, float] = {}
    for process, fields in _stats():
        parents.setdefault(int(fields[1]), []).append(process)
        ended_s[process] = (int(fields[13]) + int(fields[14])) * _TICK_S
    total = 0.0
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        total += cpu_s(process) + ended_s.get(process, 0.0)
        waiting.extend(parents.get(process, ()))
    return total


def named(command: str, argument: str) -> int | None:
    """Return the one process of this command name with `argument` on its command line, else None."""
    found = [pid for pid, _ in _stats() if command_of(pid) == command and argument in _command_line(pid)]
    return found[0] if len(found) == 1 else None


def command_of(pid: int) -> str | None:
    """Return the command name of a process of this machine, None if there is none."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return None


def stop(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Ask a process group that we started to end, then end it; say whether asking was enough."""
    willing = True
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            willing = False
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return willing


def _command_line(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "cmdline").read_text().split("\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat that follow the command name; None if the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold blanks and parentheses.
    return text[text.rindex(")") + 2 :].split()


def _stats() -> list[tuple[int, list[str]]]:
    """Every process of this machine with its fields."""
    pids = [int(directory.name) for directory in _PROC.glob("[0-9]*")]
    return [(pid, fields) for pid in pids if (fields := _stat(pid)) is not None]
