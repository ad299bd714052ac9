"""An application of somebody's own runs on our queue, its code unchanged; its own queues stay untouched."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from celery_postgres.cli import main
from celery_postgres.cli.compare import _moved
from celery_postgres.compare import Broker, Call
from celery_postgres.compare.contenders import PREFIX
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report import json_file
from tests.fixtures.process import Process
from tests.fixtures.redis_server import COMPARE, redis_url

from .servers import arena, rabbitmq_names, url_of

ROOT = Path(__file__).resolve().parents[2]
RECEIPTS = {"plain", "named", "keyed", "pinned", "sent"}


@pytest.mark.parametrize("kind", ["postgresql", "redis", "amqp"])
def test_one_queue(kind: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a message is sent from within the application, it goes to our queue and is run from there."""
    monkeypatch.setenv("SHOP_FILE", str(tmp_path / "said"))
    monkeypatch.chdir(ROOT)
    call = Call("shop.order", ["apple"], {"amount": 2})
    made = arena(url_of(kind, database_url, tmp_path), application="tests.compare.shop", calls=(call,))
    names = rabbitmq_names if kind == "amqp" else made.place.listing
    before = names()
    with made:
        worker = made.start_worker(ends=True)
        made.wait_ready(worker)
        assert made.send_call(call).get(timeout=20) == "apple"
        made.wait_for(
            lambda: made.notes.count(Event.SUCCEEDED) == 1 + len(RECEIPTS),
            "not all came to their end",
            [worker],
        )
        made.raise_failed_tasks()
        during = {name for name in names() - before if "orders" in name or "elsewhere" in name}
        log = worker.log.read_text()
    said = (tmp_path / "said").read_text().splitlines()
    assert sorted(said) == sorted(
        [f"order apple 2 over {made.queue}", *(f"receipt {how} over {made.queue}" for how in RECEIPTS)]
    )
    assert not during, log
    if kind != "amqp":
        assert names() == before


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "tests.compare.shop", "postgres", "compare", *arguments]


def test_beside_its_present_broker(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --with it is compared on its present broker; what waits in its queues there is not taken."""
    import redis

    monkeypatch.setenv("SHOP_BROKER", redis_url(COMPARE))
    monkeypatch.setenv("SHOP_FILE", str(tmp_path / "said"))
    with redis.Redis.from_url(redis_url(COMPARE)) as client:
        client.rpush("orders", "theirs")
        try:
            done = subprocess.run(
                command(
                    *("--url", database_url, "--task", "shop.order", "--args", '["pear"]'),
                    *("--quick", "--rounds", "1", "--only", "speed", "--json", str(tmp_path / "report")),
                    *("--html", str(tmp_path / "page")),
                ),
                check=False,
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=100,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            report = json_file.read(tmp_path / "report")
            measured = {one.key: set(one.rounds) for one in report.measures}
            # What it does with its results, the application has to say: as usual, they are kept.
            for key in ("publish.own", "drain.own", "latency.p50", "roundtrip.p50", "cpu.worker"):
                assert measured[key] == {"PostgreSQL", "Redis"}, key
            assert "Draining shop.order (tasks/s, more is better)" in done.stdout
            assert "Draining shop.order" in (tmp_path / "page").read_text()
            assert "round 1 of 1: Redis" in done.stderr
            assert client.keys() == [b"orders"]
            assert client.lrange("orders", 0, -1) == [b"theirs"]
        finally:
            client.delete("orders")


@pytest.mark.parametrize(
    ("number", "only", "line", "measured"),
    [
        (signal.SIGINT, "speed", "SQLAlchemy SQLite", False),
        (signal.SIGTERM, "speed", "round 1 of 3: SQLAlchemy", True),
        (signal.SIGINT, "behaviour", "A worker is killed: all contenders", False),
    ],
)
def test_interrupted(
    number: signal.Signals, only: str, line: str, measured: bool, database_url: str, tmp_path: Path
) -> None:
    """Nothing stays, what was found is reported, and the exit code tells."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    other = f"sqla+sqlite:///{scratch}/celery.db"
    process = Process(
        "compare",
        command(
            *("--url", database_url, "--with", other, "--quick", "--only", only),
            *("--json", str(tmp_path / "report")),
        ),
        {"TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)},
    )
    try:
        process.wait_for_line(line, 120)
        with psycopg.connect(database_url, autocommit=True) as database:
            query = f"SELECT nspname FROM pg_namespace WHERE nspname LIKE '{PREFIX}%'"
            assert database.execute(query).fetchall()
            process.send_signal(number)
            assert process.wait(60) == 130, process.tail()
            assert not database.execute(query).fetchall()
        assert list(scratch.iterdir()) == []
        report = json_file.read(tmp_path / "report")
        assert report.interrupted
        assert {name for one in report.measures for name in one.rounds} == (
            {"PostgreSQL"} if measured else set()
        )
        assert "It was INTERRUPTED" in process.tail(1000)
    finally:
        process.end()


def test_no_broker_to_compare_with(database_url: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from celery_postgres.cli import main; main()",
            "--url",
            database_url,
            "compare",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "compare with what? give --with redis://" in done.stderr


def test_database_that_was_named_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`celery-postgres --url` says which one, whatever DATABASE_URL says."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://of-the-environment.invalid/x")
    named = ["--url", "postgresql://127.0.0.1:1/named"]
    other = ["--with", "redis://127.0.0.1:1/0", "--only", "behaviour"]
    for arguments in (["compare", *named, *other], [*named, "compare", *other]):
        done = CliRunner().invoke(main, arguments)
        assert "127.0.0.1:1/named" in done.output
        assert "of-the-environment" not in done.output


def test_application_over_another_database_leaves_its_own_alone() -> None:
    """Its results move with its messages, and so does not what leads to the present database."""
    present = Broker(
        "postgresql://production/x",
        "postgresql://production/x",
        options={"session_dsn": "postgresql://production:5433", "grace": 2},
        result_options={"session_dsn": "postgresql://production:5433"},
    )
    moved = _moved(present, "postgresql://staging/x")
    assert "production" not in str(moved)
    assert (moved.url, moved.backend, moved.options) == ("postgresql://staging/x", None, {"grace": 2})
    assert _moved(replace(present, backend="redis://h"), "postgresql://staging/x").backend == "redis://h"
