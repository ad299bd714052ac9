"""The language model's plugin, against a local server that plays the model."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from evaluation.document_view import DocumentView
from evaluation.errors import PermanentError, TransientError
from evaluation.plugins.llm import Llm
from evaluation.registry import default_registry

from tests.evaluation.llm_server import Reply, anthropic, llm_server, openai

TEXT = "# A title\n\nThe first line\ngoes on here.\n"
KEY = "sk-very-secret"


def comment(quote: Any, **changes: Any) -> dict[str, Any]:
    return {"quote": quote, "header": "H", "description": "D", "level": "warning", **changes}


ANSWER = {
    "summary": "Good.",
    "grade": 71,
    "comments": [comment("first line goes on"), comment("no such words")],
}


def ask(url: str, **environment: str) -> Any:
    values = {
        "EVALUATION_LLM_URL": url,
        "EVALUATION_LLM_MODEL": "m",
        "EVALUATION_LLM_KEY": KEY,
        **environment,
    }
    return Llm.from_environment(values).analyze(DocumentView(TEXT))


@pytest.mark.parametrize("suffix", ["", "/", "/v1"])
def test_the_openai_dialect(suffix: str) -> None:
    """Request and answer have the form of /v1/chat/completions."""
    with llm_server(openai(ANSWER)) as server:
        result = ask(server.url + suffix)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"]["model"] == "m"
    assert [message["role"] for message in request["body"]["messages"]] == ["system", "user"]
    assert request["body"]["messages"][1]["content"] == TEXT
    assert (result.summary, result.grade, result.cost) == ("Good.", 71, None)


def test_the_anthropic_dialect() -> None:
    """Request and answer have the form of /v1/messages; parts that are no text are left out."""
    with llm_server(anthropic(ANSWER)) as server:
        result = ask(server.url, EVALUATION_LLM_API="anthropic")
    (request,) = server.requests
    assert request["path"] == "/v1/messages"
    assert (request["headers"]["x-api-key"], request["headers"]["anthropic-version"]) == (KEY, "2023-06-01")
    assert request["body"]["max_tokens"] > 0
    assert request["body"]["messages"] == [{"role": "user", "content": TEXT}]
    assert result.grade == 71


def test_quotes_are_found_or_said_to_be_missing() -> None:
    """A quote over a line end is found with the text's own characters; an invented one is not valid."""
    with llm_server(openai(ANSWER)) as server:
        found, invented = (finding.highlight for finding in ask(server.url).findings)
    assert (found.quoted_text, found.problem(TEXT)) == ("first line\ngoes on", None)
    assert (invented.start, invented.problem(TEXT)) == (
        None,
        "The quoted text does not occur in the document.",
    )


def test_an_answer_in_a_code_block_is_read() -> None:
    """Models wrap JSON whatever they are told; a sparse answer is enough."""
    with llm_server(openai('```json\n{"summary": "S"}\n```')) as server:
        result = ask(server.url)
    assert (result.summary, result.grade, result.findings) == ("S", None, ())


def test_no_key_sends_no_credentials() -> None:
    """Local servers want none."""
    with llm_server(openai(ANSWER)) as server:
        ask(server.url, EVALUATION_LLM_KEY="")
    assert "authorization" not in server.requests[0]["headers"]


def test_characters_that_cannot_be_stored_are_replaced() -> None:
    """JSON can spell a null character and half of a surrogate pair; a database cannot hold them."""
    with llm_server(openai('{"summary": "a\\u0000b\\ud83dc\\ud83d\\ude00"}')) as server:
        assert ask(server.url).summary == "a\ufffdb\ufffdc\U0001f600"


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_an_overloaded_server_is_a_transient_error(status: int) -> None:
    """The answer's own words are told, without the key."""
    with llm_server(Reply(status, f"busy,\n{KEY}")) as server, pytest.raises(TransientError) as caught:
        ask(server.url)
    assert str(caught.value) == f"The model's server answered {status}: busy, ***"
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7.0, 7.0),
        ("in an hour", 3500.0, 3600.0),
        (format_datetime(datetime(2001, 1, 1, tzinfo=timezone.utc)), 0.0, 0.0),
        ("Mon, 01 Jan 2001 00:00:00 -0000", 0.0, 0.0),
    ],
    ids=["seconds", "a date to come", "a date that is past", "a date in no zone"],
)
def test_retry_after_is_passed_on(value: str, least: float, most: float) -> None:
    """Seconds and dates are both understood."""
    if value == "in an hour":
        value = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    reply = Reply(429, "", {"retry-after": value})
    with llm_server(reply) as server, pytest.raises(TransientError) as caught:
        ask(server.url)
    assert caught.value.retry_after_s is not None
    assert least <= caught.value.retry_after_s <= most


@pytest.mark.parametrize("value", ["soon", "-5", "inf", "nan"])
def test_a_strange_retry_after_is_no_advice(value: str) -> None:
    """The caller waits as long as it would have anyway."""
    reply = Reply(503, "", {"retry-after": value})
    with llm_server(reply) as server, pytest.raises(TransientError) as caught:
        ask(server.url)
    assert caught.value.retry_after_s is None


def test_a_server_that_is_not_there_is_a_transient_error() -> None:
    """It may be restarting."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="cannot be reached: ConnectError"):
            ask(f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_no_answer_in_time_is_a_transient_error() -> None:
    """The time limit of the request is the configured one."""
    with llm_server(openai(ANSWER)) as server:
        server.gate.clear()
        with pytest.raises(TransientError, match="ReadTimeout"):
            ask(server.url, EVALUATION_LLM_TIMEOUT_S="0.05")
        server.gate.set()


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_a_refused_request_is_a_permanent_error(status: int) -> None:
    """The same request would be refused again."""
    with llm_server(Reply(status, "no")) as server, pytest.raises(PermanentError, match=f"{status}: no"):
        ask(server.url)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(200, "<html>"), "unknown form"),
        (Reply(200, "[]"), "unknown form"),
        (Reply(200, '{"choices": []}'), "unknown form"),
        (Reply(200, '{"choices": [{"message": {"content": null}}]}'), "unknown form"),
        (openai("Well, I think"), "it is no JSON"),
        (openai("[1]"), "it is no object"),
        (openai({"grade": 3}), "summary is no text"),
        (openai({"summary": "S", "grade": 101}), "grade is 101"),
        (openai({"summary": "S", "grade": True}), "grade is True"),
        (openai({"summary": "S", "comments": {}}), "comments is no list"),
        (openai({"summary": "S", "comments": ["x"]}), r"comments\[0\] is no object"),
        (
            openai({"summary": "S", "comments": [comment("x", level="fatal")]}),
            r"comments\[0\].level is 'fatal'",
        ),
        (openai({"summary": "S", "comments": [comment(1)]}), r"comments\[0\].quote is no text"),
        (openai(ANSWER, finish_reason="length"), "cut off"),
    ],
)
def test_a_wrong_answer_is_a_permanent_error(reply: Reply, reason: str) -> None:
    """The error says what was wrong with it."""
    with llm_server(reply) as server, pytest.raises(PermanentError, match=reason):
        ask(server.url)


def test_a_long_anthropic_answer_is_cut_off() -> None:
    """An answer that ended for want of tokens is not used."""
    reply = anthropic(ANSWER, stop_reason="max_tokens")
    with llm_server(reply) as server, pytest.raises(PermanentError, match="cut off"):
        ask(server.url, EVALUATION_LLM_API="anthropic")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"EVALUATION_LLM_URL": ""}, "set EVALUATION_LLM_URL"),
        ({"EVALUATION_LLM_MODEL": ""}, "set EVALUATION_LLM_MODEL"),
        ({"EVALUATION_LLM_API": "soap"}, "EVALUATION_LLM_API is 'soap'"),
        ({"EVALUATION_LLM_TIMEOUT_S": "soon"}, "EVALUATION_LLM_TIMEOUT_S is 'soon'"),
        ({"EVALUATION_LLM_URL": "ftp://h"}, "The request cannot be made"),
        ({"EVALUATION_LLM_KEY": f"{KEY}\nx"}, "The request cannot be made"),
    ],
)
def test_unusable_configuration_is_a_permanent_error(changes: dict[str, str], reason: str) -> None:
    """The variable to set is named, the key is not shown."""
    with llm_server(openai(ANSWER)) as server, pytest.raises(PermanentError, match=reason) as caught:
        ask(server.url, **changes)
    assert server.requests == []
    assert KEY not in str(caught.value)


def test_the_model_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without configuration the plugin cannot be made, and says why."""
    monkeypatch.delenv("EVALUATION_LLM_URL", raising=False)
    with pytest.raises(PermanentError, match="No language model is configured"):
        default_registry().create("llm", {})


def test_the_key_does_not_show() -> None:
    """Neither the client's representation nor the request's body holds it."""
    with llm_server(openai(ANSWER)) as server:
        ask(server.url)
    assert KEY not in json.dumps(server.requests[0]["body"])
    values = {"EVALUATION_LLM_URL": "u", "EVALUATION_LLM_MODEL": "m", "EVALUATION_LLM_KEY": KEY}
    assert KEY not in repr(Llm.from_environment(values).__dict__)
