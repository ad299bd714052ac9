"""A stand-in for a language model's server: it answers over HTTP what the test tells it to."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Reply:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class LlmServer:
    """Replies are given in order, the last one for ever. `gate` holds every answer back while it is clear."""

    url: str
    replies: list[Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


def openai(answer: Any, **choice: Any) -> Reply:
    content = answer if isinstance(answer, str) else json.dumps(answer)
    return Reply(200, json.dumps({"choices": [{"message": {"content": content}, **choice}]}))


def anthropic(answer: Any, **reply: Any) -> Reply:
    content = [{"type": "thinking", "thinking": "?"}, {"type": "text", "text": json.dumps(answer)}]
    return Reply(200, json.dumps({"content": content, **reply}))


@contextmanager
def llm_server(*replies: Reply) -> Iterator[LlmServer]:
    """A server in a thread, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            request = {"path": self.path, "headers": dict(self.headers.items()), "body": body}
            with lock:
                server.requests.append(request)
                reply = server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
            server.asked.release()
            server.gate.wait(60)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            payload = reply.body.encode()
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                # The worker that asked was killed.
                pass

        def log_message(self, *args: Any) -> None:
            pass

    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = LlmServer(f"http://127.0.0.1:{http.server_port}", list(replies))
        server.gate.set()
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            http.shutdown()
            thread.join()
