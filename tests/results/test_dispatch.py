"""Each part of a chord counts once, and one process sends the body: the verbs, without a worker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import states
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import AsyncResult, GroupResult
from kombu.exceptions import OperationalError

from celery_postgres.errors import DatabaseUnavailable
from celery_postgres.outbox import Outbox
from celery_postgres.sql import chords as sql
from tests.concurrency.hand import Hand
from tests.fixtures.waiting import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

BODY = "tests.results.sums.total"


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def part(app: Celery, group_id: str, index: int, task_id: str | None = None) -> Context:
    body = dict(app.signature(BODY, task_id=f"body of {group_id}"))
    return Context(
        id=task_id or f"{group_id}.{index}", group=group_id, group_index=index, chord=body, task="t.part",
        delivery_info={"routing_key": "celery"},
    )  # fmt: skip


def bodies(url: str) -> int:
    ((count,),) = rows(url, "SELECT count(*) FROM celery.message WHERE task_id LIKE 'body of %'")
    return int(count)


def declare_queue(app: Celery) -> None:
    app.send_task("any", ignore_result=True)


def test_exactly_one_process_sends_the_body(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """Many parts return at once, each of them twice."""
    declare_queue(app)
    backends = [new_app(database_url).backend for _ in range(8)]
    for number in range(10):
        group_id = f"g{number}"
        app.backend.set_chord_size(group_id, 16)
        returning = [(index, backends[index % 8]) for index in range(16)] * 2
        with ThreadPoolExecutor(16) as pool:
            done = [
                pool.submit(backend.mark_as_done, f"{group_id}.{i}", i, part(app, group_id, i))
                for i, backend in returning
            ]
            for future in done:
                future.result(30)
    assert bodies(database_url) == 10


def test_size_that_arrives_after_the_parts(app: Celery, database_url: str) -> None:
    declare_queue(app)
    for index in range(3):
        app.backend.mark_as_done(f"g.{index}", index, part(app, "g", index))
    assert bodies(database_url) == 0
    app.backend.set_chord_size("g", 3)
    assert bodies(database_url) == 1
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    assert bodies(database_url) == 1


def test_last_part_and_body_are_stored_together_or_not_at_all(
    app: Celery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between the two leaves neither: the task runs again and sends the body."""
    declare_queue(app)
    app.backend.set_chord_size("g", 2)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))

    class Died(BaseException):
        pass

    def die(*_: Any) -> bool:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(app.backend._completion, "_dispatch", die)
        with pytest.raises(Died):
            app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
    assert AsyncResult("g.1", app=app).state == states.PENDING
    assert bodies(database_url) == 0
    app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
    assert AsyncResult("g.1", app=app).get(timeout=PATIENCE_S) == 1
    assert bodies(database_url) == 1


def test_body_that_is_refused_leaves_nothing_half_done(app: Celery, database_url: str) -> None:
    """The server refuses the message of the body: the last part is not stored either."""
    declare_queue(app)
    app.backend.set_chord_size("g", 1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE celery.message ADD CHECK (task_id NOT LIKE 'body of %') NOT VALID")
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    # Nobody can ever send it, so the chord has failed, as it would on any broker.
    assert AsyncResult("body of g", app=app).state == states.FAILURE
    assert bodies(database_url) == 0


def test_two_who_find_it_complete_send_one_body(app: Celery, database_url: str) -> None:
    """Both copies of a redelivered last part prepare the body; the second is told and stops."""
    declare_queue(app)
    app.backend.set_chord_size("g", 1)
    both = threading.Barrier(2)
    original = app.backend._completion._dispatch

    def meet(*arguments: Any) -> None:
        both.wait(20)
        original(*arguments)

    app.backend._completion._dispatch = meet
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(app.backend.mark_as_done, "g.0", 0, part(app, "g", 0)) for _ in range(2)]:
            future.result(30)
    assert bodies(database_url) == 1
    assert AsyncResult("g.0", app=app).get(timeout=PATIENCE_S) == 0


def test_parts_of_one_id_at_two_places_count_twice(app: Celery, database_url: str) -> None:
    """A signature that was frozen and stands in the header twice."""
    declare_queue(app)
    app.backend.set_chord_size("g", 2)
    for index in (0, 1):
        app.backend.mark_as_done("same", index, part(app, "g", index, "same"))
    assert bodies(database_url) == 1


def test_header_of_groups_is_stored_with_its_body_too(
    app: Celery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values come in the header's structure, also of parts whose results are ignored."""
    declare_queue(app)
    inner = GroupResult("inner", [AsyncResult("g.0", app=app), AsyncResult("g.1", app=app)], app=app)
    app.backend.apply_chord(("g", [inner, AsyncResult("g.2", app=app)]), None)
    app.backend.set_chord_size("g", 3)
    for index in range(2):
        quiet = part(app, "g", index)
        quiet.ignore_result = True
        app.backend.mark_as_done(f"g.{index}", index, quiet)
    gathered: list[Any] = []

    def die(_: Any, values: Any) -> None:
        gathered.append(values)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(app.backend._completion, "_prepared", die)
        with pytest.raises(KeyboardInterrupt):
            app.backend.mark_as_done("g.2", 2, part(app, "g", 2))
    assert gathered == [[[0, 1], 2]]
    assert AsyncResult("g.2", app=app).state == states.PENDING
    app.backend.mark_as_done("g.2", 2, part(app, "g", 2))
    assert bodies(database_url) == 1


def test_chord_at_work_does_not_expire(new_app: Callable[..., Celery], database_url: str) -> None:
    """However long it takes, as long as a part returns within half of `result_expires`."""
    app = new_app(database_url, result_expires=600)
    declare_queue(app)
    inner = GroupResult("inner", [AsyncResult(f"g.{index}", app=app) for index in range(4)], app=app)
    app.backend.apply_chord(("g", [inner, AsyncResult("g.4", app=app)]), None)
    app.backend.set_chord_size("g", 5)
    with psycopg.connect(database_url, autocommit=True) as database:
        for index in range(5):
            for table in ("result", "group_result", "chord"):  # three tenths of it pass in the rows
                earlier = f"UPDATE celery.{table} SET expires_at = expires_at - interval '180 s'"
                database.execute(earlier.encode())
            app.backend.cleanup()
            app.backend.mark_as_done(f"g.{index}", index, part(app, "g", index))
    ((body,),) = rows(
        database_url, "SELECT convert_from(body, 'UTF8') FROM celery.message WHERE task_id LIKE 'body%'"
    )
    assert body.startswith("[[[[0, 1, 2, 3], 4]]")


def test_parts_of_a_chord_that_is_applied_again_before_its_size(app: Celery, database_url: str) -> None:
    declare_queue(app)
    header = [AsyncResult(f"g.{index}", app=app) for index in range(2)]
    for times in (1, 2):
        app.backend.apply_chord(("g", header), None)
        app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
        app.backend.set_chord_size("g", 2)
        app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
        assert bodies(database_url) == times


def test_database_that_is_lost_while_the_body_is_prepared(
    app: Celery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chord waits for it instead of failing."""
    declare_queue(app)
    app.backend.set_chord_size("g", 1)
    publish, tried = app.amqp._retry_publish, []

    def lose(*arguments: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise OperationalError from DatabaseUnavailable("lost")
        return publish(*arguments)

    monkeypatch.setattr(app.amqp, "_retry_publish", lose)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    assert bodies(database_url) == 1
    assert AsyncResult("body of g", app=app).state == states.PENDING


def test_chord_whose_body_was_sent_is_not_told_of_a_failure(
    app: Celery, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit strikes behind the commit, in the wait for its answer."""
    declare_queue(app)
    app.backend.set_chord_size("g", 1)
    dispatch = app.backend._chords.dispatch

    def strike(*arguments: Any) -> bool:
        dispatch(*arguments)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(app.backend._chords, "dispatch", strike)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    assert bodies(database_url) == 1
    assert AsyncResult("body of g", app=app).state == states.PENDING
    assert AsyncResult("g.0", app=app).get(timeout=PATIENCE_S) == 0


def test_what_is_sent_behind_the_gathering_is_sent(app: Celery, database_url: str) -> None:
    """By a greenlet, say, which has a copy of the context in which a handler of a signal spawned it."""
    declare_queue(app)
    with Outbox(app.backend._database.place).gathering():
        context = copy_context()
    context.run(lambda: app.send_task("any", task_id="body of nobody"))
    assert bodies(database_url) == 1


def test_body_for_another_broker_goes_there(
    new_app: Callable[..., Celery], database_url: str, module_database_url: str
) -> None:
    """Results in one database, messages in another: published first, then marked as sent."""
    app = new_app(module_database_url, backend=database_url)
    app.backend.set_chord_size("g", 1)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    assert bodies(module_database_url) == 1
    assert bodies(database_url) == 0
    assert rows(database_url, "SELECT dispatched_at IS NOT NULL FROM celery.chord") == [(True,)]


def test_frozen_chord_counts_what_returned_before_its_size(app: Celery, database_url: str) -> None:
    """Celery tells the size with the last part it sends; the first of a second run may be done by then."""
    declare_queue(app)
    app.backend.set_chord_size("g", 2)
    for index in (0, 1):
        app.backend.mark_as_done(f"g.{index}", index, part(app, "g", index))
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    app.backend.set_chord_size("g", 2)
    assert bodies(database_url) == 1
    app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
    assert bodies(database_url) == 2


def test_size_that_meets_a_part_of_the_second_run(app: Celery, database_url: str) -> None:
    """The part has come too late for the first run, and is not committed yet when the size is told."""
    declare_queue(app)
    app.backend.set_chord_size("g", 2)
    for index in (0, 1):
        app.backend.mark_as_done(f"g.{index}", index, part(app, "g", index))
    with Hand(database_url) as hand, ThreadPoolExecutor(1) as elsewhere:
        hand.begin()
        hand.run(sql.LOCK, "g", 60)
        hand.run(sql.RETURN_PART, "g", 0, "g.0", "SUCCESS", "application/json", "utf-8", b"0")
        told = elsewhere.submit(app.backend.set_chord_size, "g", 2)
        waiting = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        eventually(lambda: rows(database_url, waiting), what="a wait for the chord's row")
        hand.commit()
        told.result(10)
    app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
    assert bodies(database_url) == 2


def test_lost_session_does_not_send_the_body_twice_to_another_broker(
    new_app: Callable[..., Celery],
    database_url: str,
    module_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(module_database_url, backend=database_url)
    app.send_task("any", ignore_result=True)
    before = bodies(module_database_url)
    app.backend.set_chord_size("g", 1)
    dispatch, tried = app.backend._chords.dispatch, []

    def lose(*arguments: Any) -> bool:
        tried.append(1)
        if len(tried) == 1:
            raise DatabaseUnavailable("lost")
        return dispatch(*arguments)

    monkeypatch.setattr(app.backend._chords, "dispatch", lose)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    assert len(tried) == 2
    assert bodies(module_database_url) == before + 1


def test_parts_that_went_with_the_body_are_not_taken_for_none(
    new_app: Callable[..., Celery], database_url: str, module_database_url: str
) -> None:
    """Two copies of the last part: one has sent the body when the other, with another broker, looks."""
    app = new_app(module_database_url, backend=database_url)
    app.send_task("any", ignore_result=True)
    before = bodies(module_database_url)
    app.backend.set_chord_size("g", 2)
    app.backend.mark_as_done("g.0", 0, part(app, "g", 0))
    late, gather = new_app(module_database_url, backend=database_url).backend, app.backend._completion._gather

    def look_late(*arguments: Any) -> Any:
        app.backend._completion._gather = gather
        late.mark_as_done("g.1", 1, part(app, "g", 1))
        return gather(*arguments)

    app.backend._completion._gather = look_late
    app.backend.mark_as_done("g.1", 1, part(app, "g", 1))
    assert bodies(module_database_url) == before + 1
    assert AsyncResult("g.1", app=app).get(timeout=PATIENCE_S) == 1
