"""What a worker, its log, its answers and the server show of the password: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from kombu import Connection

from celery_postgres import dsn
from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pytest_runtest_makereport"]

PROC = Path("/proc")


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Broker and results over one database, in whose URL the password stands."""
    settings = {"result_backend": database_url, "task_ignore_result": False}
    made = Site(Broker(database_url), Record(tmp_path / "record"), settings)
    yield made
    made.close()


def titles_of(pid: int) -> str:
    """The command lines of a process and of its children."""
    children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    lines = [(PROC / str(one) / "cmdline").read_text() for one in (pid, *children)]
    return "\n".join(lines)


def test_nothing_shows_the_password(site: Site, database_url: str) -> None:
    """Log and banner, the answers of `inspect`, `celery report`, titles, application names, queries."""
    password = unquote(urlsplit(database_url).password or "")
    worker = site.worker("-E", pool="prefork", concurrency=1)
    site.record.wait_for_one(site.send("record"))
    shown = {
        "stats": repr(site.inspect(worker).stats()),
        "report": repr(site.inspect(worker).report()),
        "conf": repr(site.inspect(worker).conf()),
        "program": site.run("report"),
        "client": repr([site.client.connection_for_write(), site.client.backend.as_uri()]),
        "configuration": site.client.conf.humanize(),
    }
    with psycopg.connect(database_url) as database:
        shown["applications"] = repr(
            database.execute("SELECT application_name, query FROM pg_stat_activity").fetchall()
        )
    if PROC.is_dir():
        shown["titles"] = titles_of(worker.pid)
    assert worker.stop() == 0
    shown["log"] = worker.tail(10_000)
    assert all(shown.values())
    assert "succeeded" in shown["log"]
    assert "postgresql://" in shown["program"]
    assert [where for where, text in shown.items() if password in text] == []


@pytest.mark.parametrize("kind", ["passfile", "service", "environment"])
def test_password_from_elsewhere(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A password that libpq finds by itself serves, and is not shown either."""
    parts = urlsplit(database_url)
    password = unquote(parts.password or "")
    netloc, query = f"{parts.username}@{parts.hostname}:{parts.port}", ""
    if kind == "passfile":
        file = tmp_path / "passwords"
        file.write_text(f"{parts.hostname}:{parts.port}:*:{parts.username}:{password}\n")
        file.chmod(0o600)
        query = f"passfile={file}"
    elif kind == "service":
        file = tmp_path / "services"
        file.write_text(f"[shop]\npassword={password}\n")
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        query = "service=shop"
    else:
        monkeypatch.setenv("PGPASSWORD", password)
    url = parts._replace(netloc=netloc, query=query).geturl()
    with Connection(url) as connection:
        assert connection.connect().connected
        assert password not in f"{connection!r} {connection.as_uri()} {dsn.parse(url)!r}"
