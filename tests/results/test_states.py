"""What is stored of a task, and what comes back."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import states
from celery.app.task import Context
from celery.exceptions import BackendStoreError, TaskRevokedError
from celery.result import AsyncResult, GroupResult
from celery.utils import uuid

from celery_postgres import results
from celery_postgres.errors import ConfigurationError, DatabaseUnavailable
from tests.fixtures.waiting import PATIENCE_S, eventually

from . import sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize(
    "later", [states.STARTED, states.RETRY, states.FAILURE, states.REVOKED, "PROGRESS", states.SUCCESS]
)
def test_no_later_state_overwrites_a_success(app: Celery, later: str) -> None:
    task_id = uuid()
    app.backend.store_result(task_id, 1, states.SUCCESS)
    app.backend.store_result(task_id, ValueError("late") if later in states.EXCEPTION_STATES else 2, later)
    result = AsyncResult(task_id, app=app)
    assert (result.state, result.get(timeout=PATIENCE_S)) == (states.SUCCESS, 1)


def test_any_other_state_gives_way(app: Celery) -> None:
    task_id = uuid()
    result = AsyncResult(task_id, app=app)
    assert result.state == states.PENDING
    for state, value in [(states.STARTED, {"pid": 1}), ("PROGRESS", {"done": 0.5}), (states.SUCCESS, "x")]:
        app.backend.store_result(task_id, value, state)
        assert (result.state, result.info) == (state, value)


def test_success_that_has_expired_gives_way(app: Celery, database_url: str) -> None:
    task_id = uuid()
    app.backend.store_result(task_id, 1, states.SUCCESS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE celery.result SET expires_at = now()")
    assert AsyncResult(task_id, app=app).state == states.PENDING
    app.backend.store_result(task_id, 2, states.SUCCESS)
    assert AsyncResult(task_id, app=app).get(timeout=PATIENCE_S) == 2


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_serializer_and_compression(
    new_app: Callable[..., Celery], database_url: str, serializer: str, compression: str | None
) -> None:
    app = new_app(
        database_url,
        result_serializer=serializer,
        result_compression=compression,
        result_accept_content=["json", "pickle"],
    )
    value = {"text": "Grüße \U0001f600", "list": [1, 2.5, None, True], "nested": {"a": "b" * 2000}}
    task_id = uuid()
    app.backend.store_result(task_id, value, states.SUCCESS)
    assert AsyncResult(task_id, app=app).get(timeout=PATIENCE_S) == value


def test_result_of_another_serializer_stays_readable(
    new_app: Callable[..., Celery], database_url: str
) -> None:
    accept = ["json", "pickle"]
    before = new_app(database_url, result_serializer="pickle", result_accept_content=accept)
    after = new_app(database_url, result_serializer="json", result_accept_content=accept)
    task_id = uuid()
    before.backend.store_result(task_id, {"tuple": (1, 2)}, states.SUCCESS)
    assert AsyncResult(task_id, app=after).get(timeout=PATIENCE_S) == {"tuple": (1, 2)}


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "", None, [], 0, "'\"\\", "\x1f,3", "🙂" * 5000])
def test_any_value_that_the_serializer_takes(app: Celery, value: Any) -> None:
    task_id = uuid()
    app.backend.store_result(task_id, value, states.SUCCESS)
    assert AsyncResult(task_id, app=app).get(timeout=PATIENCE_S) == value


def test_result_of_many_megabytes(app: Celery) -> None:
    task_id, value = uuid(), "x" * 20_000_000
    app.backend.store_result(task_id, value, states.SUCCESS)
    assert AsyncResult(task_id, app=app).get(timeout=10) == value


@pytest.mark.parametrize("task_id", ["plain", 'quo"te', "back\\slash", "comma,{}", "x" * 3000, "ünïcode 🙂"])
def test_any_task_id(app: Celery, task_id: str) -> None:
    app.backend.store_result(task_id, task_id, states.SUCCESS)
    assert AsyncResult(task_id, app=app).get(timeout=PATIENCE_S) == task_id
    group = GroupResult(uuid(), [AsyncResult(task_id, app=app)], app=app)
    assert group.get(timeout=PATIENCE_S) == [task_id]


def test_task_id_with_a_nul_is_refused(app: Celery) -> None:
    with pytest.raises(BackendStoreError, match="NUL: remove it"):
        app.backend.store_result("a\0b", 1, states.SUCCESS)


def test_exception_of_the_callers_own_class(app: Celery) -> None:
    task_id = uuid()
    app.backend.mark_as_failure(task_id, sums.OwnError("broken", 3), traceback="Traceback: here")
    result = AsyncResult(task_id, app=app)
    with pytest.raises(sums.OwnError) as caught:
        result.get(timeout=PATIENCE_S)
    assert caught.value.args == ("broken", 3)
    assert result.traceback == "Traceback: here"
    assert result.failed()


def test_revoked(app: Celery) -> None:
    task_id = uuid()
    app.backend.mark_as_revoked(task_id, "no longer wanted")
    with pytest.raises(TaskRevokedError, match="no longer wanted"):
        AsyncResult(task_id, app=app).get(timeout=PATIENCE_S)


def test_forget(app: Celery, database_url: str) -> None:
    task_id = uuid()
    app.backend.store_result(task_id, 1, states.SUCCESS)
    AsyncResult(task_id, app=app).forget()
    assert AsyncResult(task_id, app=app).state == states.PENDING
    assert rows(database_url, "SELECT count(*) FROM celery.result") == [(0,)]
    assert not app.backend.task_result_exists(task_id)


def test_group_saved_restored_and_deleted(app: Celery) -> None:
    members = [AsyncResult(uuid(), app=app) for _ in range(3)]
    group = GroupResult(uuid(), members, app=app)
    group.save()
    restored = GroupResult.restore(group.id, app=app)
    assert restored == group
    group.delete()
    assert GroupResult.restore(group.id, app=app) is None


def test_extended_result(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, result_extended=True)
    task_id = uuid()
    request = Context(
        id=task_id, task="t.name", args=[1], kwargs={"k": 2}, hostname="w1@host", retries=1,
        delivery_info={"routing_key": "fast"}, root_id="r", parent_id="p", group="g",
    )  # fmt: skip
    app.backend.mark_as_done(task_id, 5, request=request)
    result = AsyncResult(task_id, app=app)
    assert (result.name, result.args, result.kwargs) == ("t.name", [1], {"k": 2})
    assert (result.worker, result.retries, result.queue) == ("w1@host", 1, "fast")
    columns = "name, worker, retries, queue, root_id, parent_id, group_id, state"
    assert rows(database_url, f"SELECT {columns} FROM celery.result") == [
        ("t.name", "w1@host", 1, "fast", "r", "p", "g", "SUCCESS")
    ]


def test_meta_is_readable_in_sql(app: Celery, database_url: str) -> None:
    task_id = uuid()
    app.backend.mark_as_failure(task_id, sums.OwnError("wide\0of the mark"))
    ((text, error),) = rows(database_url, "SELECT convert_from(meta, 'UTF8'), error FROM celery.result")
    assert json.loads(text)["status"] == states.FAILURE
    assert error == "OwnError: wide\ufffdof the mark"


@pytest.mark.parametrize(("expires", "kept"), [(None, None), (0, None), (3600, 3600)])
def test_result_expires(
    new_app: Callable[..., Celery], database_url: str, expires: int | None, kept: int | None
) -> None:
    app = new_app(database_url, result_expires=expires)
    app.backend.store_result(uuid(), 1, states.SUCCESS)
    query = "SELECT round(extract(epoch FROM expires_at - now()))::int FROM celery.result"
    ((left,),) = rows(database_url, query)
    assert left == kept or abs(left - kept) < 30


def test_failures_expire_by_their_own_setting(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, result_expires=100, result_failure_expires=5000)
    app.backend.mark_as_failure("failed", ValueError("x"))
    app.backend.store_result("done", 1, states.SUCCESS)
    query = "SELECT task_id FROM celery.result WHERE expires_at > now() + interval '1000 s'"
    assert rows(database_url, query) == [("failed",)]


def expire_all(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("result", "group_result", "chord"):
            connection.execute(f"UPDATE celery.{table} SET expires_at = now() - interval '1 s'".encode())


def test_cleanup_deletes_all_that_has_expired(app: Celery, database_url: str) -> None:
    for _ in range(3):
        app.backend.store_result(uuid(), 1, states.SUCCESS)
    GroupResult("g", [AsyncResult("a", app=app)], app=app).save()
    app.backend.set_chord_size("c", 2)
    expire_all(database_url)
    app.backend.store_result("kept", 1, states.SUCCESS)
    app.backend.cleanup()
    assert rows(database_url, "SELECT task_id FROM celery.result") == [("kept",)]
    assert rows(database_url, "SELECT * FROM celery.group_result") == []
    assert rows(database_url, "SELECT * FROM celery.chord") == []


def test_expired_results_go_without_beat(
    app: Celery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are deleted behind the results that are stored later, in small batches."""
    monkeypatch.setattr(results, "EXPIRED_AT_ONCE", 2)
    monkeypatch.setattr(results, "_EXPIRE_SOON", 0.0)
    for number in range(5):
        app.backend.store_result(str(number), 1, states.SUCCESS)
    expire_all(database_url)
    app.backend._results._next_expiry = time.monotonic()
    stored = 0

    def gone() -> bool:
        nonlocal stored
        stored += 1
        app.backend.store_result(f"later{stored}", 1, states.SUCCESS)
        query = "SELECT count(*) FROM celery.result WHERE expires_at < now()"
        return rows(database_url, query) == [(0,)]

    eventually(gone)
    assert stored >= 3


def test_option_that_is_unknown_is_refused(new_app: Callable[..., Celery], database_url: str) -> None:
    app = sums.make_app(database_url, result_backend_transport_options={"pol_interval": 1})
    with pytest.raises(ConfigurationError, match="did you mean 'poll_interval'"):
        app.backend  # noqa: B018


def test_password_is_masked(app: Celery, new_app: Callable[..., Celery]) -> None:
    other = sums.make_app("postgresql://user:secret@host/db")
    assert "secret" not in other.backend.as_uri()
    assert "secret" in other.backend.as_uri(include_password=True)


def test_one_backend_for_all_threads_of_a_process(app: Celery) -> None:
    assert app.backend.thread_safe
    assert app.backend is app._backend_cache


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_exception_without_a_text(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, result_serializer="pickle", accept_content=["json", "pickle"])
    app.backend.store_result("a", Unspeakable(), states.FAILURE)
    assert isinstance(AsyncResult("a", app=app).result, Unspeakable)


def test_session_that_another_thread_ends(app: Celery) -> None:
    """Who waits at its socket is told of a lost session, which is opened again, not of a driver's error."""
    app.backend.store_result("a", 1, states.SUCCESS)
    opened = app.backend._results._opened
    assert opened is not None
    session = opened[0]
    session.close()
    with pytest.raises(DatabaseUnavailable):
        session.wait_readable(0.1)
