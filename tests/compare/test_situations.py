"""What becomes of tasks when something goes wrong, over each kind of broker."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.compare import Broker, waiting
from celery_postgres.compare.situations import SITUATIONS, redelivery
from tests.fixtures.waiting import eventually

from .servers import arena, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.report.model import Behaviour
    from tests.fixtures.database import EmbeddedPostgres


def observe(made: Arena, key: str) -> Behaviour:
    (situation,) = (situation for situation in SITUATIONS if situation.key == key)
    with pytest.MonkeyPatch.context() as patch:
        if made.place.kind != "redis":  # which gives nothing back; the others do, when the machine lets them
            patch.setattr(waiting, "_QUICK_S", 20.0)
        found = situation.observe(made, made.request)
    at = [seconds for seconds, _ in found.timeline]
    assert at == sorted(at)
    return found


@pytest.fixture(scope="module")
def postgresql(module_database_url: str) -> Iterator[Arena]:
    with arena(module_database_url, quick=True) as made:
        yield made
    assert made.remains == []


@pytest.fixture
def other(kind: str, database_url: str, tmp_path: Path) -> Iterator[Arena]:
    with arena(url_of(kind, database_url, tmp_path), quick=True) as made:
        yield made
    assert made.remains == []


def test_every_situation_is_told_in_words() -> None:
    assert len({situation.key for situation in SITUATIONS}) == len(SITUATIONS)
    assert all(s.title and s.what.endswith(".") and s.seconds > 0 for s in SITUATIONS)


def test_long_task_over_postgresql(postgresql: Arena) -> None:
    found = observe(postgresql, "long_task")
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    assert "it ran once" in found.said


def test_killed_worker_over_postgresql(postgresql: Arena) -> None:
    found = observe(postgresql, "worker_killed")
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    assert found.seconds is not None
    assert 0 < found.seconds < 15
    assert "the 5 that it held ran elsewhere" in found.said or "the 6 that" in found.said
    assert found.timeline[-1][1] == 7


def test_killed_process_over_postgresql(postgresql: Arena) -> None:
    found = observe(postgresql, "child_killed")
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    assert found.seconds is not None
    assert found.seconds < 20


def test_early_acknowledgement_over_postgresql(postgresql: Arena) -> None:
    """What ran is lost by Celery's own rule, and is counted as lost; what had not begun is not."""
    found = observe(postgresql, "worker_killed_early_ack")
    assert (found.good, found.lost, found.duplicated) == (True, 2, 0), found
    assert "2 of the 2 that ran are lost" in found.said


def test_warm_shutdown_over_postgresql(postgresql: Arena) -> None:
    found = observe(postgresql, "warm_shutdown")
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    assert "it finished the 2 that ran" in found.said
    assert "the worker ended" in found.said


def test_eta_over_postgresql(postgresql: Arena) -> None:
    found = observe(postgresql, "eta")
    assert (found.good, found.lost) == (True, 0), found
    assert found.said.startswith("all 5 stayed with the broker; a plain task sent behind them ran after")
    assert postgresql.waiting() == 0


def test_restart_needs_a_command(postgresql: Arena) -> None:
    found = observe(postgresql, "broker_restart")
    assert (found.said, found.good) == ("not tried: give --restart NAME=COMMAND", None)


def test_eta_in_the_memory_of_a_worker(database_url: str) -> None:
    """It is seen and not believed: the same broker, told to deliver at once."""
    with arena(Broker(database_url, options={"hold_eta": False}), quick=True) as made:
        found = observe(made, "eta")
    assert (found.good, found.lost) == (None, 0), found
    assert "5 of 5 went into the memory of the worker" in found.said
    assert "after a kill -9 of the worker all of them are there for another" in found.said


def test_pool_without_processes(database_url: str) -> None:
    with arena(database_url, quick=True, pool="threads") as made:
        found = observe(made, "child_killed")
    assert found.good is None
    assert found.said.startswith("not tried: the pool threads")


@pytest.mark.parametrize("kind", ["redis"])
def test_visibility_timeout(other: Arena) -> None:
    """Redis gives a long task away while it runs, and for an hour gives nothing back."""
    found = observe(other, "long_task")
    assert (found.good, found.lost, found.duplicated) == (False, 0, 1), found
    assert "started a second time" in found.said
    assert "shortened to 1 s for this; otherwise visibility_timeout = 3600 s" in found.said
    found = observe(other, "worker_killed")
    assert (found.good, found.seconds, found.lost, found.duplicated) == (False, None, 0, 0), found
    assert "did not run again within 2 s" in found.said
    assert "visibility_timeout = 3600 s" in found.said


def test_visibility_timeout_of_the_users(database_url: str, tmp_path: Path) -> None:
    """The setting that is named is the one in force, also where it is not the default."""
    broker = Broker(url_of("redis", database_url, tmp_path), options={"visibility_timeout": 77})
    with arena(broker) as made:
        assert redelivery.rule(made).endswith("holds only after visibility_timeout = 77 s")


@pytest.mark.parametrize("kind", ["amqp"])
def test_rabbitmq(other: Arena) -> None:
    found = observe(other, "worker_killed")
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    found = observe(other, "eta")
    assert (found.good, found.lost) == (None, 0), found
    assert "5 of 5 went into the memory" in found.said
    assert "consumer_timeout (a setting of the server, by default 30 min): not tried" in found.said


def test_restart_of_postgresql(embedded_server: EmbeddedPostgres) -> None:
    """The server starts anew after one of its processes was killed; everything goes on."""
    with psycopg.connect(embedded_server.url, autocommit=True) as database:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        (pid,) = database.execute(query).fetchone()
    with arena(Broker(embedded_server.url, restart=f"kill -9 {pid}"), quick=True) as made:
        found = observe(made, "broker_restart")
    assert made.remains == []
    assert (found.good, found.lost, found.duplicated) == (True, 0, 0), found
    assert "the worker lived on" in found.said


def test_restart_of_redis_without_its_memory(tmp_path: Path) -> None:
    """What was only in its memory is counted as lost."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed, to be restarted")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = f"redis-server --port {port} --dir {tmp_path} --save '' --daemonize yes --pidfile {tmp_path}/pid"
    stop = f"redis-cli -p {port} shutdown nosave"
    subprocess.run(start, shell=True, check=True, stdout=subprocess.DEVNULL)
    try:
        answers = ["redis-cli", "-p", str(port), "ping"]
        eventually(lambda: b"PONG" in subprocess.run(answers, check=False, capture_output=True).stdout)
        broker = Broker(f"redis://127.0.0.1:{port}/0", restart=f"{stop}; {start}")
        with arena(broker, quick=True) as made:
            found = observe(made, "broker_restart")
    finally:
        subprocess.run(stop, shell=True, check=False, capture_output=True)
    assert found.good is False, found
    assert found.lost is not None
    assert found.lost >= 4
    assert f"{found.lost} of the 6 tasks under way are lost" in found.said
    assert found.seconds is not None
