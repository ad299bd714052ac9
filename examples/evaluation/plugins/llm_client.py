"""One question to a language model over HTTP, in either of the two usual dialects.

Configured by the environment:

    EVALUATION_LLM_URL        where the server is, such as http://127.0.0.1:8080; nothing is asked without it
    EVALUATION_LLM_MODEL      the model's name
    EVALUATION_LLM_KEY        the key, if the server wants one
    EVALUATION_LLM_API        `openai` (/v1/chat/completions, the default) or `anthropic` (/v1/messages)
    EVALUATION_LLM_TIMEOUT_S  how long to wait for the answer, in seconds; 120 if not given
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from evaluation.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_TOKENS = 4096
_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class LlmClient:
    """`complete` sends one request and blocks for at most `timeout_s` between two signs of life."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    api: str = "openai"
    timeout_s: float = 120.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> LlmClient:
        """Raises PermanentError that names the variable to set."""
        url, model = environment.get("EVALUATION_LLM_URL"), environment.get("EVALUATION_LLM_MODEL")
        if not url or not model:
            missing = "EVALUATION_LLM_MODEL" if url else "EVALUATION_LLM_URL"
            raise PermanentError(f"No language model is configured; set {missing}.")
        api = environment.get("EVALUATION_LLM_API", "openai")
        if api not in ("openai", "anthropic"):
            raise PermanentError(f"EVALUATION_LLM_API is {api!r}; set it to openai or anthropic.")
        timeout = environment.get("EVALUATION_LLM_TIMEOUT_S", "120")
        try:
            timeout_s = float(timeout)
        except ValueError as error:
            raise PermanentError(f"EVALUATION_LLM_TIMEOUT_S is {timeout!r}; give seconds.") from error
        return cls(url, model, environment.get("EVALUATION_LLM_KEY", ""), api, timeout_s)

    def complete(self, instructions: str, text: str) -> str:
        """The model's answer. Raises TransientError or PermanentError."""
        path, headers, body = self._request(instructions, text)
        base = self.url.rstrip("/").removesuffix("/v1")
        try:
            response = httpx.post(base + path, headers=headers, json=body, timeout=self.timeout_s)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL):
            # Without its cause, which may quote the key.
            text = "The request cannot be made; check EVALUATION_LLM_URL and EVALUATION_LLM_KEY."
            raise PermanentError(text) from None
        except httpx.TransportError as error:
            raise TransientError(f"The model cannot be reached: {type(error).__name__}: {error}") from error
        if response.status_code == 429 or response.status_code >= 500:
            raise TransientError(self._refusal(response), _retry_after_s(response))
        if response.status_code != 200:
            raise PermanentError(self._refusal(response))
        try:
            return self._answer(response.json())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise PermanentError(f"The model's server answered in an unknown form: {error!r}") from error

    def _request(self, instructions: str, text: str) -> tuple[str, dict[str, str], dict[str, Any]]:
        question = {"role": "user", "content": text}
        if self.api == "anthropic":
            headers = {"anthropic-version": "2023-06-01", **({"x-api-key": self.key} if self.key else {})}
            body = {"max_tokens": _MAX_TOKENS, "system": instructions, "messages": [question]}
            return "/v1/messages", headers, {"model": self.model, **body}
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        messages = [{"role": "system", "content": instructions}, question]
        return "/v1/chat/completions", headers, {"model": self.model, "messages": messages}

    def _answer(self, reply: Any) -> str:
        if self.api == "anthropic":
            cut_off = reply.get("stop_reason") == "max_tokens"
            answer = "".join(part["text"] for part in reply["content"] if part["type"] == "text")
        else:
            choice = reply["choices"][0]
            cut_off = choice.get("finish_reason") == "length"
            answer = choice["message"]["content"]
        if cut_off:
            raise PermanentError("The model's answer was cut off; use a shorter document or another model.")
        if not isinstance(answer, str):
            raise TypeError("the answer is no text")
        return answer

    def _refusal(self, response: httpx.Response) -> str:
        excerpt = " ".join(self._without_key(response.text).split())[:_EXCERPT]
        return f"The model's server answered {response.status_code}: {excerpt}"

    def _without_key(self, text: str) -> str:
        # Some servers quote the key that they do not like.
        return text.replace(self.key, "***") if self.key else text


def _retry_after_s(response: httpx.Response) -> float | None:
    """What Retry-After asks for, be it seconds or a date; None if it says nothing that can be read."""
    value = response.headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
