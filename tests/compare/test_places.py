"""Each kind of server: everything works in a place of its own, and nothing of it stays."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery import chord

from celery_postgres.compare.notes import Event
from celery_postgres.compare.places import place_of
from tests.fixtures.redis_server import COMPARE, redis_url

from .servers import KINDS, arena, rabbitmq_names, url_of

if TYPE_CHECKING:
    from pathlib import Path

    from celery_postgres.compare.arena import Arena


def use(made: Arena) -> None:
    """Everything that leaves a name on a broker: tasks, retries, results, a chord, remote control, events."""
    worker = made.start_worker("-E", ends=True)
    made.wait_ready(worker)
    assert made.send("echo", "x").get(timeout=20) == "x"
    assert made.send("flaky", 1).get(timeout=20) == 2
    if made.place.kind != "amqp":  # rpc:// has no chords
        header = [made.client.signature("compare.echo", (number,)) for number in (1, 2)]
        body = made.client.signature("compare.total")
        assert chord(header, app=made.client)(body).get(timeout=20) == 3
    if made.place.kind in ("postgresql", "redis", "amqp"):
        assert made.client.control.inspect(timeout=3).ping() == {worker.name: {"ok": "pong"}}
        listen(made)
    assert made.notes.count(Event.RETRIED) >= 1
    assert {note.pid for note in made.notes.all()} <= set(made.pool_pids(worker))
    made.send("noop", countdown=3600)
    made.send("hold", "/nonexistent")
    made.wait_for(lambda: made.notes.count() >= 4, "the task did not start", [worker])
    # Killed in the middle of it, and messages are left in the queue and in the worker's hands.
    worker.kill()
    made.send("noop")
    made.wait_for(lambda: made.waiting() >= 1, "no message is waiting")


def listen(made: Arena) -> None:
    """Receive the events of one task."""
    seen = threading.Event()
    with made.client.connection_for_read() as connection:
        receiver = made.client.events.Receiver(connection, handlers={"task-received": lambda _: seen.set()})
        consumer = receiver.itercapture(limit=None, timeout=20, wakeup=False)
        listening = threading.Thread(target=lambda: list(until(seen, consumer)), daemon=True)
        listening.start()
        for _ in range(100):
            made.send("noop")
            if seen.wait(0.2):
                break
        listening.join(20)
    assert seen.is_set()


def until(seen: threading.Event, consumer: object) -> object:
    for _ in consumer:  # type: ignore[attr-defined]
        if seen.is_set():
            return
        yield


@pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning")  # of SQLAlchemy, in kombu
@pytest.mark.parametrize("kind", KINDS)
def test_leaves_nothing(kind: str, database_url: str, tmp_path: Path) -> None:
    """What the server holds is the same before and after, also when a worker was killed."""
    made = arena(url_of(kind, database_url, tmp_path))
    names = rabbitmq_names if kind == "amqp" else made.place.listing
    before = names()
    with made:
        use(made)
        during = names()
        assert during != before
    assert made.remains == []
    after = names()
    if kind == "amqp":  # others come and go there
        ours = (made.place.name, made.place.token, *made.place.reply_queues)
        assert not {name for name in after - before if any(own in name for own in ours)}
        assert {name for name in during - before if made.place.name in name}
    else:
        assert after == before
    assert not made.folder.exists()


def test_redis_in_use() -> None:
    """What others keep in the database stays, also a queue that every application calls celery."""
    import redis

    with redis.Redis.from_url(redis_url(COMPARE)) as client:
        client.rpush("celery", "theirs")
        try:
            with arena(redis_url(COMPARE)) as made:
                worker = made.start_worker()
                made.wait_ready(worker)
                made.send("echo", 1).get(timeout=20)
                added = made.place.listing() - {"celery"}
                assert added
                assert all(key.startswith(made.place.name) for key in added)
            assert client.lrange("celery", 0, -1) == [b"theirs"]
        finally:
            client.delete("celery")


def test_servers_counters(database_url: str) -> None:
    """Processor time, WAL and size of the tables grow with the work."""
    with arena(database_url) as made:
        before = made.usage()
        for _ in range(100):
            made.send("noop", "x" * 1000)
        after = made.usage()
    for name in ("cpu_s", "log_bytes", "disk_bytes"):
        assert getattr(after, name) > getattr(before, name), name
    assert after.memory_bytes > 1_000_000


def test_results_elsewhere(database_url: str, tmp_path: Path) -> None:
    """A broker with a result backend of another kind: both are cleaned."""
    made = arena(url_of("redis", database_url, tmp_path), database_url)
    places = made.candidate.places
    before = [place.listing() for place in places]
    with made:
        made.wait_ready(made.start_worker())
        assert made.send("echo", 1).get(timeout=20) == 1
        assert all(place.listing() != was for place, was in zip(places, before, strict=True))
    assert [place.listing() for place in places] == before


def test_variables_of_celery(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker in the environment is the application's: it is not used, and stays as it is."""
    import os

    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://127.0.0.1:1/0")
    with arena(database_url) as made:
        made.wait_ready(made.start_worker())
        assert made.send("echo", 1).get(timeout=20) == 1
    assert os.environ["CELERY_BROKER_URL"] == "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("url", "celery"),
    [
        ("rediss://h:1/0?ssl_cert_reqs=CERT_NONE", {}),
        ("rediss://h:1/0?ssl_cert_reqs=none", {}),
        ("redis://h:1/0", {"broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE}}),
        ("rediss://h:1/0", {"redis_backend_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE}}),
    ],
)
def test_tls_as_celery_has_it(url: str, celery: dict[str, Any]) -> None:
    """We come to a server as the workers do."""
    place = place_of(url, "celery_compare_x", celery=celery)
    made = place._client.connection_pool.make_connection()  # type: ignore[attr-defined]
    assert made.cert_reqs == ssl.CERT_NONE
