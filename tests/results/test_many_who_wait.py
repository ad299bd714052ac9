"""Many wait in one process, one after the other or at once: each has what is his, and nothing of before."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult

from celery_postgres import listener
from tests.fixtures.proxy import Proxy
from tests.fixtures.waiting import PATIENCE_S, eventually

from .getters import Getter, store_elsewhere, waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from celery_postgres.wire import Session


class GroupGetter(Getter):
    """Waits for a group of `a` and `b`."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app, "of the group", start=False)
        self.result = GroupResult("group", [AsyncResult(name, app=app) for name in "ab"], app=app)


def listening(app: Celery) -> listener.Listener:
    return app.backend.result_consumer._listener  # type: ignore[no-any-return]


def take_in_all(session: Session) -> None:
    def is_quiet() -> bool:
        session.pump()
        return not session.busy

    eventually(is_quiet)


def complain(_: Any) -> None:
    raise ValueError("of the callback")


def test_two_who_wait_for_one_group(app: Celery, new_app: Callable[..., Celery], database_url: str) -> None:
    """Each over an object of his own."""
    getters = [GroupGetter(app), GroupGetter(app)]
    for getter in getters:
        getter.start()
    eventually(lambda: listening(app)._waiting == 2)
    for name in "ab":
        store_elsewhere(new_app, database_url, name, name)
    assert [getter.outcome() for getter in getters] == [["a", "b"]] * 2


def test_slow_callback_of_a_group_takes_no_member_from_it(
    app: Celery, new_app: Callable[..., Celery], database_url: str
) -> None:
    """What `then` calls goes on in the thread that reads for all, when the group's own has its results."""
    leader = Getter(app, "leader's")
    eventually(waits(database_url))
    getter, gate = GroupGetter(app), threading.Event()
    getter.result.then(lambda _: gate.wait(PATIENCE_S))
    getter.start()
    eventually(lambda: listening(app)._waiting == 2)
    for name in "ab":
        store_elsewhere(new_app, database_url, name, name)
    assert getter.outcome() == ["a", "b"]
    assert not gate.is_set()
    gate.set()
    store_elsewhere(new_app, database_url, "leader's", 1)
    assert leader.outcome() == 1


@pytest.mark.parametrize("they_wait_first", [True, False])
def test_callback_that_fails_is_not_that_of_another_object(
    app: Celery, new_app: Callable[..., Celery], database_url: str, they_wait_first: bool
) -> None:
    getter = Getter(app, "a", start=they_wait_first)
    if they_wait_first:
        eventually(waits(database_url))
    AsyncResult("a", app=app).then(complain)
    if not they_wait_first:
        getter.start()
        eventually(waits(database_url))
    store_elsewhere(new_app, database_url, "a", 1)
    assert getter.outcome() == 1


def test_each_hears_the_state_that_another_has_heard(app: Celery) -> None:
    app.backend.store_result("a", {"step": 1}, "PROGRESS")
    for _ in range(2):
        heard: list[Any] = []

        def listen(heard: list[Any] = heard) -> None:
            with pytest.raises(CeleryTimeoutError):
                AsyncResult("a", app=app).get(timeout=1, on_message=heard.append)

        eventually(lambda heard=heard: listen() or heard)  # type: ignore[misc]
        assert [meta["result"] for meta in heard] == [{"step": 1}]


@pytest.mark.parametrize("told", [True, False], ids=["told", "read"])
def test_what_is_left_of_an_earlier_run_is_not_for_who_comes_later(
    app: Celery, new_app: Callable[..., Celery], database_url: str, told: bool
) -> None:
    """A task that runs again under its id: nobody has taken in yet what was said of the first run."""
    with pytest.raises(CeleryTimeoutError):
        AsyncResult("first of all", app=app).get(timeout=0.1)
    worker, listener = new_app(database_url).backend, listening(app)
    if not told:
        worker.store_result("a", ValueError("of the first run"), states.FAILURE)
    with listener.waiting():
        listener.begin("a")
        listener.ask(["a"])
        session = listener._session
        assert session is not None
        if told:
            eventually(waits(database_url))
            take_in_all(session)
            worker.store_result("a", ValueError("of the first run"), states.FAILURE)
        eventually(lambda: session.wait_readable(1))
    listener.end("a")
    worker.forget("a")
    worker.store_result("a", "of the second", states.SUCCESS)
    assert AsyncResult("a", app=app).get(timeout=PATIENCE_S) == "of the second"


def test_looks_without_time_leave_nothing_behind(app: Celery) -> None:
    with pytest.raises(CeleryTimeoutError):
        AsyncResult("a", app=app).get(timeout=0.1)
    session = listening(app)._session
    assert session is not None
    session.pump()
    for _ in range(10):
        with pytest.raises(CeleryTimeoutError):
            AsyncResult("a", app=app).get(timeout=0)
    assert len(session._under_way) <= 2


def test_what_is_not_handed_over_yet_is_looked_for(
    app: Celery, new_app: Callable[..., Celery], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads for all is held up by a callback when somebody's time ends."""
    leader, gate, held = Getter(app, "leader's"), threading.Event(), threading.Event()
    eventually(waits(database_url))
    consumer = app.backend.result_consumer
    hand_over = consumer._hand_over

    def hold(*arguments: Any) -> None:
        if not held.is_set():
            held.set()
            gate.wait(PATIENCE_S)
        hand_over(*arguments)

    monkeypatch.setattr(consumer, "_hand_over", hold)
    getter = Getter(app, "a", timeout=3)
    eventually(waits(database_url))
    eventually(lambda: listening(app)._answered == listening(app)._reads)
    store_elsewhere(new_app, database_url, "a", 1)
    assert held.wait(PATIENCE_S)
    assert getter.outcome() == 1
    gate.set()
    store_elsewhere(new_app, database_url, "leader's", 1)
    assert leader.outcome() == 1


def test_locked_table_is_a_timeout(new_app: Callable[..., Celery], database_url: str) -> None:
    app = new_app(database_url, result_backend_transport_options={"lock_timeout": 0.5})
    app.backend.store_result("set up", 1, states.SUCCESS)
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE celery.result")
        for timeout in (0, 0.1):
            with pytest.raises(CeleryTimeoutError):
                AsyncResult("a", app=app).get(timeout=timeout)


def test_session_that_is_never_answered(
    new_app: Callable[..., Celery], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link stays open and nothing comes through any more: who waits without a limit has another one."""
    monkeypatch.setattr(listener, "SILENCE", 0.5)
    with Proxy(database_url) as proxy:
        app = new_app(f"{proxy.url}?statement_timeout=1&poll_interval=0.3&max_poll_interval=0.3")
        getter = Getter(app, "a", timeout=None)
        eventually(waits(database_url))
        proxy.strand()
        store_elsewhere(new_app, database_url, "a", 1)
        assert getter.outcome() == 1
        app.backend.close()
