"""Debian's Chromium without a window, spoken to over a pipe in its own protocol (DevTools)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PATIENCE_S = 60.0

_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # it does not start as root with one
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def installed() -> str | None:
    """Where the program is; None without it."""
    return shutil.which("chromium")


class Event(NamedTuple):
    """What the browser tells unasked."""

    method: str
    params: dict[str, Any]


class Browser:
    """One browser with one empty page. It ends with the block, and with all its processes."""

    def __init__(self, program: str) -> None:
        # No folder of a test: Chromium makes a socket in there, and a socket's path has 107 bytes at most.
        self._folder = tempfile.TemporaryDirectory(dir="/tmp", prefix="chromium-")
        folder = Path(self._folder.name)
        self._output = folder / "output"
        ours, theirs = os.pipe(), os.pipe()
        self._write, self._read = ours[1], theirs[0]
        # bash, since the pipe has to be the descriptors 3 and 4.
        script = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    "bash",
                    "-c",
                    script,
                    program,
                    *_SWITCHES,
                    f"--user-data-dir={folder / 'profile'}",
                    "about:blank",
                ],
                pass_fds=(ours[0], theirs[1]),
                env={**os.environ, "TMPDIR": str(folder)},  # it leaves something there when it is killed
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(ours[0])
        os.close(theirs[1])
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.events: list[Event] = []

    def __enter__(self) -> Browser:
        try:
            self._attach()
        except BaseException:
            self.close()
            raise
        return self

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found
            self._note(answer)

    def open(self, page: Path, width: int, scheme: str, media: str = "screen") -> None:
        """Show a file, as wide as this and in this colour scheme; `events` has what happened meanwhile."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._await(lambda event: event.method == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, also what is below the window."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, optimizeForSpeed=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _await(self, wanted: Callable[[Event], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not any(map(wanted, self.events)):
            self._note(self._next(deadline))

    def _note(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self.events.append(Event(message["method"], message["params"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            got = os.read(self._read, 1 << 20) if ready else b""
            if not got:
                said = self._output.read_text(errors="replace")
                raise RuntimeError(f"Chromium {'went away' if ready else 'did not answer'}:\n{said}")
            self._buffer += got
        text, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found
