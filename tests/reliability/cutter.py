"""A link to a server that understands the protocol, and cuts at a chosen message of either side."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

Side = Literal["client", "server"]

_ENCRYPTION = (80877103, 80877104)
"""A client's first word may be the question whether TLS or GSSAPI is wanted; one letter answers it."""


@dataclass(frozen=True)
class Cut:
    """At the `number`-th message that `side` sends, counted from 1; the last of them arrives or does not."""

    side: Side
    number: int
    arrives: bool

    def __str__(self) -> str:
        return f"{self.side}'s message {self.number} {'arrives' if self.arrives else 'does not arrive'}"


class _Stream:
    """One direction of one link, taken apart into messages."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.answers_encryption = False
        self._bytes = b""
        self._greeted = side == "server"

    def messages(self, data: bytes) -> Iterator[bytes]:
        self._bytes += data
        while (length := self._length()) is not None and len(self._bytes) >= length:
            message, self._bytes = self._bytes[:length], self._bytes[length:]
            yield message

    def _length(self) -> int | None:
        if self.answers_encryption and self._bytes:
            self.answers_encryption = False
            return 1
        if not self._greeted:
            return struct.unpack("!I", self._bytes[:4])[0] if len(self._bytes) >= 4 else None
        return 1 + struct.unpack("!I", self._bytes[1:5])[0] if len(self._bytes) >= 5 else None

    def greets(self, message: bytes) -> bool:
        """Whether it asks for encryption; anything else is the greeting itself."""
        if self._greeted:
            return False
        asks = len(message) == 8 and struct.unpack("!I", message[4:])[0] in _ENCRYPTION
        self._greeted = not asks
        return bool(asks)


class _Link:
    def __init__(self, cutter: Cutter, client: socket.socket, server: socket.socket) -> None:
        self._cutter = cutter
        self._ends = client, server
        forth, back = _Stream("client"), _Stream("server")
        for source, target, stream, other in ((client, server, forth, back), (server, client, back, forth)):
            threading.Thread(
                target=self._carry, args=(source, target, stream, other), name="link", daemon=True
            ).start()

    def _carry(self, source: socket.socket, target: socket.socket, stream: _Stream, other: _Stream) -> None:
        try:
            while data := source.recv(65536):
                passing = bytearray()
                for message in stream.messages(data):
                    if stream.greets(message):
                        other.answers_encryption = True
                    cut = self._cutter.counts(stream.side)
                    if cut is None or cut.arrives:
                        passing += message
                    if cut is not None:
                        target.sendall(passing)
                        return
                target.sendall(passing)
        except OSError:
            pass  # one of the two ends has gone, and so does the other
        finally:
            self.end()

    def end(self) -> None:
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is already
            end.close()


class Cutter:
    """Stands before a server; `url` leads through it. Cuts one link, once, when it was told where."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        user, _, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}@127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        self.happened = threading.Event()
        self._lock = threading.Lock()
        self._cut: Cut | None = None
        self._counting = False
        self._seen = {"client": 0, "server": 0}
        threading.Thread(target=self._accept, name="cutter", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            _Link(self, client, socket.create_connection(self._target))

    def arm(self, cut: Cut | None) -> None:
        """Count from here on, and cut there; None only counts."""
        with self._lock:
            self._cut = cut
            self._counting = True
            self._seen = {"client": 0, "server": 0}
            self.happened.clear()

    def rest(self) -> None:
        """Neither count nor cut from here on; what was counted stays."""
        with self._lock:
            self._cut = None
            self._counting = False

    def counts(self, side: Side) -> Cut | None:
        """One more message of this side: is it the one?"""
        with self._lock:
            if not self._counting:
                return None
            self._seen[side] += 1
            cut = self._cut
            if cut is None or cut.side != side or cut.number != self._seen[side]:
                return None
            self._cut = None
            self.happened.set()
            return cut

    def every_cut(self) -> list[Cut]:
        """Each point at which what has been counted could be cut."""
        with self._lock:
            seen = dict(self._seen)
        forth = [Cut("client", n, arrives) for n in range(1, seen["client"] + 1) for arrives in (False, True)]
        # That the last one has arrived is what the next one is for; after the very last there is nothing.
        return forth + [Cut("server", n, False) for n in range(1, seen["server"] + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
