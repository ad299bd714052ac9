"""Which process this is, and whether another one of this host has ended.

A process id tells nothing across hosts, containers and reboots. So it goes with the host's identity: the
boot, and the namespaces in which process ids and start times count. Where that is not equal, or not known,
nothing is said about the other.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

#: Of /proc/PID/stat behind the name: the state, and the start in ticks since the boot.
_STATE, _STARTED = 0, 19


@dataclass(frozen=True)
class Process:
    """A process, as it describes itself to others. `host` is for people alone."""

    host: str
    pid: int
    host_id: str | None = None
    """Equal for two processes that can see each other by their process ids; None where nobody knows."""
    started: int | None = None
    """Tells it from a later process with the same id; None where the system does not say."""

    @property
    def visible(self) -> bool:
        """Whether it runs, or ran, where this process would see it."""
        return self.host_id is not None and self.host_id == _host_id()

    def ended(self) -> bool:
        """Whether it is certain that it is gone; costs a system call or two, no wait.

        A process that has ended and was not yet waited for by its parent is gone: its sockets are closed.
        """
        if not self.visible:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):  # another user's
            pass
        # /proc may hide other users' processes, so what cannot be read counts for nothing.
        stat = _stat(self.pid)
        if stat is None:
            return False
        other = self.started is not None and int(stat[_STARTED]) != self.started
        return other or stat[_STATE] in "ZXx"


def this_process() -> Process:
    pid = os.getpid()
    stat = _stat(pid)
    return Process(socket.gethostname(), pid, _host_id(), None if stat is None else int(stat[_STARTED]))


def _host_id() -> str | None:
    if sys.platform == "darwin":  # no containers share its process ids, and none hides them
        return f"{socket.gethostname()} {uuid.getnode():x}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    try:
        return f"{boot} {namespace} {Path('/proc/self/ns/time').readlink()}"
    except OSError:  # Linux before 5.6 has one time for all
        return f"{boot} {namespace}"


def _stat(pid: int) -> list[str] | None:
    """What /proc says of it behind its name, which may itself hold spaces and parentheses."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):  # mounted for another pid namespace
            return None
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
