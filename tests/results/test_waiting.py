"""Who waits is told: at once, whatever happens to the hints, to the session or to the server."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from celery import states
from celery.exceptions import BackendStoreError, SoftTimeLimitExceeded
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult
from celery.utils import uuid

from celery_postgres.errors import ConfigurationError, DatabaseRejected
from tests.fixtures.waiting import PATIENCE_S, eventually

from . import sums
from .getters import Getter, store_elsewhere, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from celery_postgres.embedded import EmbeddedPostgres

# No poll comes to the rescue within a test: what arrives was told.
NEVER = {"result_backend_transport_options": {"poll_interval": 600, "max_poll_interval": 600}}


def test_result_that_is_there_already(app: Celery) -> None:
    app.backend.store_result("a", 1, states.SUCCESS)
    assert AsyncResult("a", app=app).get(timeout=PATIENCE_S) == 1


@pytest.mark.parametrize("after_s", [0.0, 1.3])
def test_waiting_caller_is_told_at_once(
    new_app: Callable[..., Celery], database_url: str, after_s: float
) -> None:
    """Without a poll, so it was the notification, also after a while."""
    getter = Getter(new_app(database_url, **NEVER), "a")
    eventually(waits(database_url))
    getter.join(after_s)
    store_elsewhere(new_app, database_url, "a", {"x": 1})
    assert getter.outcome() == {"x": 1}


@pytest.mark.parametrize("size", [7_000, 9_000, 3_000_000])
def test_result_larger_than_a_notification(
    new_app: Callable[..., Celery], database_url: str, size: int
) -> None:
    getter = Getter(new_app(database_url, **NEVER), "a")
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "a", "x" * size)
    assert len(getter.outcome()) == size


def test_no_time_to_wait_is_time_to_look(app: Celery) -> None:
    """As with Celery's own backends: what is there is found, what is not is a timeout."""
    for name in "abc":
        app.backend.store_result(name, name, states.SUCCESS)
    assert AsyncResult("a", app=app).get(timeout=0) == "a"
    assert AsyncResult("b", app=app).get(timeout=-1) == "b"
    assert GroupResult(uuid(), [AsyncResult(n, app=app) for n in "abc"], app=app).get(timeout=0) == [*"abc"]
    with pytest.raises(CeleryTimeoutError):
        AsyncResult("never", app=app).get(timeout=0)


def test_task_id_that_is_a_uuid(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    task_id = uuid4()
    getter = Getter(app, task_id)
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, str(task_id), 1)
    assert getter.outcome() == 1


def test_timeout_is_kept(app: Celery) -> None:
    begin = time.monotonic()
    with pytest.raises(CeleryTimeoutError):
        AsyncResult("never", app=app).get(timeout=0.3)
    assert 0.25 < time.monotonic() - begin < 20


def test_on_message_hears_of_every_state(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    heard: list[Any] = []
    getter = Getter(app, "a", on_message=lambda meta: heard.append(meta["status"]))
    eventually(waits(database_url))
    worker = new_app(database_url).backend
    for step in range(3):
        worker.store_result("a", {"step": step}, "PROGRESS")
    worker.store_result("a", 1, states.SUCCESS)
    assert getter.outcome() == 1
    assert heard.count("PROGRESS") == 3
    assert heard[-1] == states.SUCCESS


def test_each_hears_of_its_own_messages(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """Also where several wait in one process, some of them without listening."""
    heard: dict[str, list[Any]] = {"a": [], "c": []}
    getters = [Getter(app, "a", on_message=heard["a"].append), Getter(app, "b")]
    getters.append(Getter(app, "c", on_message=heard["c"].append))
    eventually(lambda: app.backend.result_consumer._listener._waiting == 3)
    worker = new_app(database_url).backend
    for name in "bac":
        worker.store_result(name, name, states.SUCCESS)
    assert [getter.outcome() for getter in getters] == ["a", "b", "c"]
    assert [meta["result"] for meta in heard["a"]] == ["a"]
    assert [meta["result"] for meta in heard["c"]] == ["c"]


def test_what_goes_wrong_with_one_result_is_its_own_matter(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """One thread reads for all: what it cannot decode, or whose callback raises, is not its own result."""

    def complain(_: Any) -> None:
        raise ValueError("of the callback")

    leader = Getter(app, "leader's")
    eventually(waits(database_url))
    getters = [Getter(app, "pickled"), Getter(app, "heard", on_message=complain)]
    eventually(lambda: app.backend.result_consumer._listener._waiting == 3)
    pickling = new_app(database_url, result_serializer="pickle", accept_content=["json", "pickle"])
    pickling.backend.store_result("pickled", {1}, states.SUCCESS)
    store_elsewhere(new_app, database_url, "heard", 1)
    assert "pickle" in repr(getters[0].outcome())
    assert "of the callback" in repr(getters[1].outcome())
    store_elsewhere(new_app, database_url, "leader's", 1)
    assert leader.outcome() == 1


def test_callback_that_fails_is_nobody_elses_matter(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """What `then` calls may raise in whichever thread reads; who waits there goes on waiting."""

    def complain(_: Any) -> None:
        raise ValueError("of the callback")

    AsyncResult("called back", app=app).then(complain)
    leader = Getter(app, "leader's")
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "called back", 1)
    eventually(lambda: not app.backend.result_consumer._listener.awaits("called back"))
    store_elsewhere(new_app, database_url, "leader's", 1)
    assert leader.outcome() == 1


@pytest.mark.parametrize("task_id", ["a\0b", "\ud800"])
def test_id_that_cannot_be_is_refused_to_who_asks_alone(
    app: Celery, new_app: Callable[..., Celery], database_url: str, task_id: str
) -> None:
    """It is never asked for together with others'."""
    leader = Getter(app, "leader's")
    eventually(waits(database_url))
    for _ in range(2):  # it stays pending for Celery
        with pytest.raises(DatabaseRejected):
            AsyncResult(task_id, app=app).get(timeout=10)
    listener = app.backend.result_consumer._listener
    listener._next_poll = 0.0
    store_elsewhere(new_app, database_url, "leader's", 1)
    assert leader.outcome() == 1
    store_elsewhere(new_app, database_url, "next", 2)
    listener._session.close()  # whoever opens the next one reads all that is awaited
    assert AsyncResult("next", app=app).get(timeout=10) == 2


def test_interrupted_leader_loses_nobodys_result(
    app: Celery, new_app: Callable[..., Celery], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soft time limit, say, strikes the thread that reads for all, just when another's result has come."""
    leader = Getter(app, "leader's")
    eventually(waits(database_url))
    getter = Getter(app, "other")
    eventually(lambda: app.backend.result_consumer._listener._waiting == 2)
    consumer = app.backend.result_consumer
    hand_over, struck = consumer._hand_over, threading.Event()

    def strike(*arguments: Any) -> None:
        if not struck.is_set():
            struck.set()
            raise SoftTimeLimitExceeded
        hand_over(*arguments)

    monkeypatch.setattr(consumer, "_hand_over", strike)
    store_elsewhere(new_app, database_url, "other", 2)
    assert isinstance(leader.outcome(), SoftTimeLimitExceeded)
    assert getter.outcome() == 2


def test_forgetting_takes_nothing_from_others(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    getter = Getter(app, "a")
    eventually(waits(database_url))
    AsyncResult("a", app=app).forget()
    store_elsewhere(new_app, database_url, "a", 1)
    assert getter.outcome() == 1


def test_join_of_a_group_in_its_order(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    group = GroupResult(uuid(), [AsyncResult(str(n), app=app) for n in range(50)], app=app)
    collected: list[Any] = []
    getter = threading.Thread(target=lambda: collected.extend(group.get(timeout=30)), daemon=True)
    getter.start()
    eventually(waits(database_url))
    worker = new_app(database_url).backend
    for number in reversed(range(50)):
        worker.store_result(str(number), number * 10, states.SUCCESS)
    getter.join(30)
    assert collected == [number * 10 for number in range(50)]


def test_iter_native_yields_as_they_come(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, **NEVER)
    group = GroupResult(uuid(), [AsyncResult(str(n), app=app) for n in range(3)], app=app)
    worker = new_app(database_url).backend
    worker.store_result("1", "first", states.SUCCESS)
    found = group.iter_native(timeout=PATIENCE_S)
    assert next(found)[0] == "1"
    worker.store_result("2", "second", states.SUCCESS)
    assert next(found)[0] == "2"
    worker.store_result("0", "third", states.SUCCESS)
    assert [(task_id, meta["result"]) for task_id, meta in found] == [("0", "third")]


def test_then_is_called_while_anybody_waits(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    called: list[Any] = []
    watched = AsyncResult("watched", app=app)
    watched.then(lambda result: called.append(result.get()))
    getter = Getter(app, "awaited")
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "watched", 7)
    eventually(lambda: called == [7])
    store_elsewhere(new_app, database_url, "awaited", 1)
    assert getter.outcome() == 1


def test_callback_may_wait_for_another_result(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    called: list[Any] = []
    first = AsyncResult("first", app=app)
    first.then(lambda _: called.append(AsyncResult("second", app=app).get(timeout=20)))
    getter = Getter(app, "third")
    eventually(waits(database_url))
    worker = new_app(database_url).backend
    worker.store_result("first", 1, states.SUCCESS)
    worker.store_result("second", 2, states.SUCCESS)
    eventually(lambda: called == [2])
    worker.store_result("third", 3, states.SUCCESS)
    assert getter.outcome() == 3


def test_two_wait_for_the_same(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    getters = [Getter(app, "a") for _ in range(5)]
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "a", 1)
    assert [getter.outcome() for getter in getters] == [1] * 5


def test_nobody_who_does_not_wait_is_told(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """`delay()` opens no session for results, takes no lock, and what is stored notifies nobody."""
    sent = [app.send_task("any") for _ in range(3)]
    assert app.backend.result_consumer._listener._session is None
    assert app.backend._results._opened is None
    worker = new_app(database_url).backend
    with psycopg.connect(database_url, autocommit=True) as connection:
        for channel in worker._results._bell._channels:
            connection.execute(f"LISTEN {channel}".encode())
        for result in sent:
            worker.store_result(result.id, 1, states.SUCCESS)
        worker._results.read(["a"])  # answered behind what told, or told not
        assert list(connection.notifies(timeout=0)) == []


def test_nothing_is_left_when_the_last_has_been_served(app: Celery, database_url: str) -> None:
    app.backend.store_result("a", 1, states.SUCCESS)
    AsyncResult("a", app=app).get(timeout=PATIENCE_S)
    with pytest.raises(CeleryTimeoutError):
        AsyncResult("b", app=app).get(timeout=0.05)
    eventually(lambda: not waits(database_url)())


def test_without_notifications_the_poll_finds_it(new_app: Callable[..., Celery], database_url: str) -> None:
    quiet = {"notify": False, "poll_interval": 0.2, "max_poll_interval": 0.2}
    app = new_app(database_url, result_backend_transport_options=quiet)
    getter = Getter(app, "a")
    eventually(lambda: app.backend.result_consumer._listener._session is not None)
    store_elsewhere(new_app, database_url, "a", 1)
    assert getter.outcome() == 1


def test_polls_slow_down_while_nothing_new_is_found(
    new_app: Callable[..., Celery], database_url: str
) -> None:
    """A task that has begun is in the table, and is heard of once."""
    app = new_app(database_url, result_backend_transport_options={"notify": False})
    app.backend.store_result("a", None, states.STARTED)
    heard: list[Any] = []
    getter = Getter(app, "a", on_message=heard.append)
    eventually(lambda: app.backend.result_consumer._listener._pause > 0.3)
    assert [meta["status"] for meta in heard] == [states.STARTED]
    app.backend.store_result("a", 1, states.SUCCESS)
    assert getter.outcome() == 1


def test_lost_notification_costs_a_poll(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, result_backend_transport_options={"max_poll_interval": 1.0})
    getter = Getter(app, "a")
    eventually(waits(database_url))
    app.backend._results.read(["set up"])
    with psycopg.connect(database_url, autocommit=True) as connection:  # as the backend, but telling nobody
        connection.execute(
            "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta)"
            """ VALUES ('a', 'SUCCESS', 'application/json', 'utf-8',
                        '{"status": "SUCCESS", "result": 1, "task_id": "a"}'::bytea)"""
        )
    assert getter.outcome() == 1


def test_session_that_is_terminated(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    getters = [Getter(app, name) for name in ("a", "b")]
    eventually(waits(database_url))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    store_elsewhere(new_app, database_url, "a", 1)
    eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "b", 2)
    assert [getter.outcome() for getter in getters] == [1, 2]


def test_server_that_does_not_answer_keeps_nobody_over_his_time(new_app: Callable[..., Celery]) -> None:
    """One connects, for as long as that takes; the others wait no longer than they want to."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = new_app(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/any?connect_timeout=60")
        first = Getter(app, "a", timeout=1)
        eventually(lambda: app.backend.result_consumer._listener._connecting)
        begin = time.monotonic()
        with pytest.raises(CeleryTimeoutError):
            AsyncResult("b", app=app).get(timeout=1)
        assert time.monotonic() - begin < 30
        assert first.is_alive()
    assert isinstance(first.outcome(), CeleryTimeoutError)


def test_lock_that_is_held_for_long(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    """Somebody's VACUUM FULL, say: who waits waits on, and who stores tries again."""
    short = {"lock_timeout": 0.2}
    waiting = new_app(
        database_url,
        result_backend_transport_options={**short, "poll_interval": 0.5, "max_poll_interval": 0.5},
    )
    storing = new_app(database_url, result_backend_transport_options=short)
    storing.backend.store_result("set up", 1, states.SUCCESS)
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE celery.result")
        getter = Getter(waiting, "a")
        storer = threading.Thread(target=lambda: storing.backend.store_result("a", 1, states.SUCCESS))
        storer.start()
        storer.join(1.5)
        assert storer.is_alive()
        connection.rollback()
    storer.join(20)
    assert getter.outcome() == 1


def test_waiting_callers_survive_a_restart_of_the_server(
    embedded_server: EmbeddedPostgres, new_app: Callable[..., Celery]
) -> None:
    app = new_app(embedded_server.url)
    getters = [Getter(app, str(number)) for number in range(4)]
    eventually(waits(embedded_server.url))
    embedded_server.restart()
    worker = new_app(embedded_server.url).backend
    for number in range(4):
        worker.store_result(str(number), number, states.SUCCESS)
    assert [getter.outcome() for getter in getters] == [0, 1, 2, 3]


def test_storing_survives_a_lost_session(app: Celery, database_url: str) -> None:
    app.backend.store_result("a", 1, states.SUCCESS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    app.backend.store_result("b", 2, states.SUCCESS)
    assert AsyncResult("b", app=app).get(timeout=PATIENCE_S) == 2


@pytest.fixture
def reader(app: Celery, new_app: Callable[..., Celery], database_url: str) -> Iterator[tuple[Celery, str]]:
    """An application whose role may not read results yet, and the role."""
    app.backend.store_result("a", 1, states.SUCCESS)
    role = f"reader_{uuid()[:8]}"
    run(database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        run(
            database_url,
            f"GRANT USAGE ON SCHEMA celery TO {role}",
            f"GRANT SELECT ON celery.schema_version TO {role}",
        )
        address = database_url.rpartition("@")[2]
        other = new_app(f"postgresql://{role}:x@{address}")
        yield other, role
        other.backend.result_consumer.stop()
        other.backend._results.close()
    finally:
        run(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_missing_right_is_told_to_who_waits(reader: tuple[Celery, str]) -> None:
    other, _ = reader
    with pytest.raises(ConfigurationError, match=r"permission denied for table result: .*GRANT"):
        AsyncResult("a", app=other).get(timeout=PATIENCE_S)
    with pytest.raises(ConfigurationError, match=r"permission denied for table result: .*GRANT"):
        other.backend.store_result("a", 1, states.SUCCESS)


def test_right_that_was_missing_before_is_not_told(reader: tuple[Celery, str], database_url: str) -> None:
    """A read that was refused, and whose answer nobody took in, says nothing to those who come later."""
    other, role = reader
    with pytest.raises(ConfigurationError):
        AsyncResult("a", app=other).get(timeout=PATIENCE_S)
    listener = other.backend.result_consumer._listener
    with listener.waiting():
        refused = listener.ask(["a"])
        assert listener._session is not None
        listener._session.wait_readable(PATIENCE_S)
    assert not refused()
    run(database_url, f"GRANT SELECT ON celery.result TO {role}")
    assert AsyncResult("a", app=other).get(timeout=PATIENCE_S) == 1


def wait_in_child(url: str, names: list[str], answers: Any) -> None:
    app = sums.make_app(url)
    answers.put([AsyncResult(name, app=app).get(timeout=60) for name in names])


def test_fifty_waiting_processes(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    """Each has one session for waiting, and one for what else it reads."""
    app.backend.store_result("set up", 1, states.SUCCESS)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [
        context.Process(target=wait_in_child, args=(database_url, [str(n), "all"], answers))
        for n in range(50)
    ]
    for child in children:
        child.start()
    eventually(waits(database_url, 50), 60)
    for number in range(50):
        app.backend.store_result(str(number), number, states.SUCCESS)
    app.backend.store_result("all", "all", states.SUCCESS)
    received = sorted(answers.get(timeout=60)[0] for _ in children)
    for child in children:
        child.join(20)
    assert received == list(range(50))


def test_thousand_waiting_threads_on_one_session(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    worker = new_app(database_url).backend
    worker.store_result("set up", 1, states.SUCCESS)
    listener = app.backend.result_consumer._listener  # Celery may make a backend twice in threads that race
    with ThreadPoolExecutor(1000) as pool:
        waiting = [
            pool.submit(lambda name=str(n): AsyncResult(name, app=app).get(timeout=100)) for n in range(1000)
        ]
        eventually(lambda: listener._waiting == 1000 or any(future.done() for future in waiting), 60)
        assert [future.exception() for future in waiting if future.done()] == []
        with psycopg.connect(database_url) as connection:
            sessions = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'celery-postgres'"
            ).fetchone()
        assert sessions is not None
        assert sessions[0] == 2  # one waits for a thousand threads, one stores
        for number in range(1000):
            worker.store_result(str(number), number, states.SUCCESS)
        assert [future.result(100) for future in waiting] == list(range(1000))


def test_forked_child_waits_for_itself(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """Neither disturbs the other's session."""
    getter = Getter(app, "parent's")
    eventually(waits(database_url))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        answers.put(AsyncResult("child's", app=app).get(timeout=30))

    process = context.Process(target=child)
    process.start()
    eventually(waits(database_url, 2))
    store_elsewhere(new_app, database_url, "child's", "c")
    assert answers.get(timeout=30) == "c"
    process.join(20)
    store_elsewhere(new_app, database_url, "parent's", "p")
    assert getter.outcome() == "p"


@pytest.mark.parametrize("kind", ["one that was waited for", "a group"])
def test_forked_child_waits_for_what_was_pending_before(
    app: Celery, new_app: Callable[..., Celery], database_url: str, kind: str
) -> None:
    """Celery knows such a result already, and does not announce it again."""
    if kind == "a group":
        results: Any = GroupResult("g", [AsyncResult("pending", app=app)], app=app)
        results.then(lambda _: None)
    else:
        results = AsyncResult("pending", app=app)
        with pytest.raises(CeleryTimeoutError):
            results.get(timeout=0.1)
    store_elsewhere(new_app, database_url, "pending", 1)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=lambda: answers.put(results.get(timeout=60)))
    begin = time.monotonic()
    process.start()
    assert answers.get(timeout=30) == ([1] if kind == "a group" else 1)
    assert time.monotonic() - begin < 20
    process.join(20)


def test_nobody_is_told_of_what_was_refused(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """Neither of a result that the server does not store, nor of one that a success keeps out."""
    worker = new_app(database_url).backend
    worker.store_result("set up", 1, states.SUCCESS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE celery.result ADD CONSTRAINT refusing CHECK (task_id <> 'refused')")
        getter = Getter(app, "refused")
        eventually(waits(database_url))
        with pytest.raises(BackendStoreError):
            worker.store_result("refused", "first", states.SUCCESS)
        getter.join(1)
        assert getter.is_alive()
        connection.execute("ALTER TABLE celery.result DROP CONSTRAINT refusing")
    worker.store_result("refused", "second", states.SUCCESS)
    assert getter.outcome() == "second"

    getter = Getter(app, "kept")
    eventually(waits(database_url))
    with psycopg.connect(database_url) as connection:  # stored, and told to nobody yet
        connection.execute(
            "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta)"
            """ VALUES ('kept', 'SUCCESS', 'application/json', 'utf-8',
                        '{"status": "SUCCESS", "result": "first", "task_id": "kept"}'::bytea)"""
        )
        connection.commit()
        worker.store_result("kept", "second", states.SUCCESS)
    assert getter.outcome() == "first"
