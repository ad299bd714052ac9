"""A result that somebody forged does not make who reads it run anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import Celery
from celery.exceptions import SecurityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    made = Celery("reader", broker=database_url, backend=database_url, set_as_current=False)
    made.backend.get_task_meta("nothing")  # which makes the tables
    yield made
    made.backend.result_consumer.stop()
    made.backend._results.close()
    made.close()


def forge(url: str, meta: dict[str, Any], content_type: str = "application/json", raw: bytes = b"") -> None:
    """As somebody who may write into the table, and knows what the reader would do with it."""
    with psycopg.connect(url) as database:
        database.execute(
            "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta)"
            " VALUES ('forged', 'FAILURE', %s, 'utf-8', %s)",
            (content_type, raw or json.dumps({"status": "FAILURE", "task_id": "forged", **meta}).encode()),
        )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("subprocess", "getoutput"),
        ("builtins", "exec"),
        ("posix", "system"),
        (None, "system"),
    ],
)
def test_forged_result_runs_nothing(
    app: Celery, database_url: str, tmp_path: Path, module: str | None, name: str
) -> None:
    """What a result names as its exception is called only if it is one (CVE-2021-23727)."""
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w')" if name == "exec" else f"touch {trace}"
    forge(database_url, {"result": {"exc_type": name, "exc_message": [code], "exc_module": module}})
    with pytest.raises(Exception) as told:  # noqa: PT011 - an invented class, or a refusal
        app.AsyncResult("forged").get(timeout=10)
    assert isinstance(told.value, SecurityError) or type(told.value).__name__ == name
    assert not trace.exists()


def test_forged_pickle_is_refused(app: Celery, database_url: str, tmp_path: Path) -> None:
    """A result in another form than JSON is not even decoded."""
    trace = tmp_path / "trace"
    raw = f"cos\nsystem\n(S'touch {trace}'\ntR.".encode()
    forge(database_url, {}, "application/x-python-serialize", raw)
    with pytest.raises(Exception, match="pickle"):
        app.AsyncResult("forged").get(timeout=10)
    assert not trace.exists()
