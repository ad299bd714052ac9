"""Passes TCP on, each byte later by a fixed time: `python -m benchmarks.delaying HOST PORT MS`.

Nothing else is slow: what is sent together arrives together, whatever its size. It prints its port.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field

_CHUNK = 1 << 18

# What may be on the way in one direction; a real link has its window, too.
_WINDOW = 1 << 24


@dataclass
class Direction:
    """Bytes on their way from one socket to another, each chunk with its time of arrival."""

    source: socket.socket
    target: socket.socket
    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)
    on_the_way: int = 0
    blocked: bool = False
    ended: bool = False

    def take(self, arriving_at: float) -> None:
        """Read what is there; nothing left to read ends the direction when the rest has arrived."""
        try:
            data = self.source.recv(_CHUNK)
        except ConnectionError:
            data = b""
        self.ended = not data
        self.chunks.append((arriving_at, data))
        self.on_the_way += len(data)

    def deliver(self, now: float) -> None:
        """Write what has arrived, as far as the target takes it."""
        self.blocked = False
        while self.chunks and self.chunks[0][0] <= now:
            arrived_at, data = self.chunks.popleft()
            try:
                if not data:
                    self.target.shutdown(socket.SHUT_WR)
                    continue
                written = self.target.send(data)
            except BlockingIOError:
                written = 0
            except OSError:
                # Who does not listen any more gets nothing, and the other end hears of it.
                self.ended, written = True, len(data)
            self.on_the_way -= written
            if written < len(data):
                self.chunks.appendleft((arrived_at, data[written:]))
                self.blocked = True
                return


def pass_on(listener: socket.socket, upstream: tuple[str, int], delay_s: float) -> None:
    """Serve for ever. `select`, because it alone waits for less than a millisecond."""
    directions: list[Direction] = []
    while True:
        now = time.monotonic()
        for direction in directions:
            direction.deliver(now)
        directions = _without_ended(directions)
        waiting = [d.chunks[0][0] for d in directions if d.chunks and not d.blocked]
        readable, _, _ = select.select(
            [listener, *(d.source for d in directions if not d.ended and d.on_the_way < _WINDOW)],
            [d.target for d in directions if d.blocked],
            [],
            max(0.0, min(waiting) - time.monotonic()) if waiting else None,
        )
        arriving_at = time.monotonic() + delay_s
        ready = set(readable)
        for direction in directions:
            if direction.source in ready:
                direction.take(arriving_at)
        if listener in ready:
            directions += _accepted(listener, upstream)


def _accepted(listener: socket.socket, upstream: tuple[str, int]) -> list[Direction]:
    near, _ = listener.accept()
    far = socket.create_connection(upstream)
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return [Direction(near, far), Direction(far, near)]


def _without_ended(directions: list[Direction]) -> list[Direction]:
    """Close a connection when both of its directions have ended and delivered the rest."""
    kept = []
    for there, back in zip(directions[::2], directions[1::2], strict=True):
        if there.ended and back.ended and not there.chunks and not back.chunks:
            there.source.close()
            there.target.close()
        else:
            kept += [there, back]
    return kept


def main() -> None:
    """Listen on a free port of loopback."""
    host, port, delay_ms = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    pass_on(listener, (host, int(port)), float(delay_ms) / 1000)


if __name__ == "__main__":
    main()
