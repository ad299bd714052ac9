"""Processor time and memory of processes of this machine, where /proc shows them."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def visible() -> bool:
    """Whether this system has a /proc to read. Without it nothing is known of any process."""
    return (_PROC / "self" / "stat").exists()


def cpu_s(pid: int) -> float:
    """The CPU seconds of a process, all threads, to the nanosecond; 0.0 if it is gone.

    /proc shows the same in ticks of 10 ms. The clock's number is the one that clock_getcpuclockid(3) makes
    of a process id; no right over the process is needed.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def tree_cpu_s(pid: int) -> float:
    """The CPU seconds of a process and its descendants, those that have ended included."""
    ended_s = {process: (int(fields[13]) + int(fields[14])) * _TICK_S for process, fields in _stats()}
    return sum(cpu_s(process) + ended_s.get(process, 0.0) for process in tree(pid))


def tree_memory_bytes(pid: int) -> int:
    """The memory of a process and its descendants; what they share through a memory segment counts once."""
    own, shared = 0, 0
    for process in tree(pid):
        of = _status(process)
        own += of.get("RssAnon", 0)
        shared = max(shared, of.get("RssShmem", 0))
    return own + shared


def tree_connections(pid: int) -> int:
    """How many TCP connections a process and its descendants hold; one that several of them hold is one."""
    held = {
        found
        for process in tree(pid)
        for descriptor in _links(_PROC / str(process) / "fd")
        if (found := descriptor.removeprefix("socket:[").removesuffix("]")) != descriptor
    }
    return len(held & _established(pid))


def _links(folder: Path) -> list[str]:
    """Where the files of a process lead; none for one that is gone."""
    found = []
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - names, since some are gone by now
            try:
                found.append(str((folder / name).readlink()))
            except OSError:
                continue
    except OSError:
        pass
    return found


def _established(pid: int) -> set[str]:
    """The inodes of all TCP connections of the network that the process is in."""
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / str(pid) / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        found |= {fields[9] for fields in map(str.split, lines) if fields[3] == "01"}
    return found


def tree(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    parents: dict[int, list[int]] = {}
    for process, fields in _stats():
        parents.setdefault(int(fields[1]), []).append(process)
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting.extend(parents.get(process, ()))
    return found


def children(pid: int) -> list[int]:
    """The direct children of a process that live."""
    return [process for process, fields in _stats() if int(fields[1]) == pid]


def parent_of(pid: int) -> int | None:
    """The parent of a process that lives."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def command_of(pid: int) -> str:
    """The command's name of a process of this machine; empty if there is none."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def named(command: str, argument: str) -> int | None:
    """The one process of this command with `argument` in its command line; None if it is not exactly one."""
    found = [pid for pid, _ in _stats() if command_of(pid) == command and argument in _command_line(pid)]
    return found[0] if len(found) == 1 else None


def _command_line(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _status(pid: int) -> dict[str, int]:
    """The figures in kB of /proc/PID/status, in bytes."""
    lines = _lines(_PROC / str(pid) / "status")
    pairs = [line.partition(":") for line in lines if line.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, _, value in pairs}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the command's name; None if the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may itself hold blanks and parentheses.
    return text[text.rindex(")") + 2 :].split()


def _stats() -> list[tuple[int, list[str]]]:
    pids = [int(folder.name) for folder in _PROC.glob("[0-9]*")] if visible() else []
    return [(pid, fields) for pid in pids if (fields := _stat(pid)) is not None]
