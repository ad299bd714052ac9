"""A program of greenlets that wait for results: `greenlets.py gevent|eventlet URL`. Prints what it found."""

from __future__ import annotations

import sys
import time
from typing import Any

KIND, URL = sys.argv[1:]
if KIND == "gevent":
    from gevent import monkey

    monkey.patch_all()
    import gevent

    spawn: Any = gevent.spawn

    def values(spawned: list[Any]) -> list[Any]:
        return [greenlet.get() for greenlet in spawned]

    def give_up_after(seconds: float) -> Any:
        return gevent.Timeout(seconds)

else:
    import eventlet

    eventlet.monkey_patch()
    spawn = eventlet.spawn

    def values(spawned: list[Any]) -> list[Any]:
        return [greenlet.wait() for greenlet in spawned]

    def give_up_after(seconds: float) -> Any:
        return eventlet.Timeout(seconds)


import pytest  # noqa: E402
from celery import states  # noqa: E402
from celery.exceptions import TimeoutError as CeleryTimeoutError  # noqa: E402
from celery.result import AsyncResult, GroupResult  # noqa: E402

from tests.results import sums  # noqa: E402

# No poll comes to the rescue: what arrives was told.
NEVER = {"poll_interval": 600, "max_poll_interval": 600}
app = sums.make_app(URL, result_backend_transport_options=NEVER)
elsewhere = sums.make_app(URL).backend


def get(name: str, timeout: float = 30) -> Any:
    return AsyncResult(name, app=app).get(timeout=timeout)


def store(name: str) -> None:
    elsewhere.store_result(name, name, states.SUCCESS)


def many_at_once() -> None:
    names = [f"many{number}" for number in range(200)]
    spawned = [spawn(get, name) for name in [*names, *names]]
    time.sleep(0.2)
    values([spawn(store, name) for name in names])
    assert values(spawned) == [*names, *names]


def one_after_the_other() -> None:
    """Each waits anew, after a moment in which nobody did."""
    for number in range(5):
        waiting = spawn(get, f"one{number}")
        time.sleep(0.1)
        store(f"one{number}")
        assert values([waiting]) == [f"one{number}"]


def joined() -> None:
    group = GroupResult("group", [AsyncResult(f"part{n}", app=app) for n in range(20)], app=app)
    waiting = spawn(group.get, timeout=30)
    for number in reversed(range(20)):
        store(f"part{number}")
    assert values([waiting]) == [[f"part{n}" for n in range(20)]]


def called_back() -> None:
    """By the drainer in the background: nobody waits. The callback waits for another one itself."""
    called: list[Any] = []
    first = AsyncResult("first", app=app)
    first.then(lambda result: called.append((result.get(), get("second"))))
    store("second")
    store("first")
    with give_up_after(20):
        while not called:
            time.sleep(0.01)
    assert called == [("first", "second")]


def given_up() -> None:
    """A greenlet that is taken away while it waits hands over."""

    def impatient() -> str:
        try:
            with give_up_after(0.2):
                get("never")
        except BaseException as exc:  # noqa: BLE001
            return type(exc).__name__
        return "nothing"

    spawned = [spawn(impatient) for _ in range(5)]
    waiting = spawn(get, "behind")
    assert values(spawned) == ["Timeout"] * 5
    store("behind")
    assert values([waiting]) == ["behind"]


def broken() -> None:
    """One result that cannot be read does not stop the drainer: others are still handed over."""
    pickling = sums.make_app(URL, result_serializer="pickle", accept_content=["json", "pickle"]).backend
    waiting = spawn(get, "whole")
    pickling.store_result("pickled", {1}, states.SUCCESS)
    with pytest.raises(Exception, match="pickle"):
        get("pickled")
    store("whole")
    assert values([waiting]) == ["whole"]
    failing = AsyncResult("failing", app=app)
    failing.then(lambda _: 1 / 0)
    store("failing")
    time.sleep(0.5)
    store("after it")
    assert get("after it") == "after it"


def no_time() -> None:
    store("there")
    assert get("there", timeout=0) == "there"
    with pytest.raises(CeleryTimeoutError):
        get("not there", timeout=0)


def responsive() -> None:
    """Whoever waits keeps nobody else from running."""
    waiting = spawn(get, "late")
    with give_up_after(20):
        for _ in range(100):
            time.sleep(0.01)
    store("late")
    assert values([waiting]) == ["late"]


for step in (
    many_at_once, one_after_the_other, joined, called_back, given_up, broken, no_time, responsive
):  # fmt: skip
    begun = time.monotonic()
    step()
    print(f"{step.__name__} {time.monotonic() - begun:.2f} s", flush=True)
print("everything was found", flush=True)
