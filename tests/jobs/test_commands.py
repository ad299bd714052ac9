"""`queues`, `jobs` and `job`: what they print, as tables and as JSON, and what they say to bad input."""

from __future__ import annotations

import fcntl
import os
import pty
import secrets
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from celery_postgres import schema
from celery_postgres.dsn import parse
from tests.fixtures.waiting import eventually

from .commands import FORMS, answer, command
from .test_states import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Shop

JOB = [
    "id",
    "name",
    "queue",
    "state",
    "priority",
    "deliveries",
    "retries",
    "created_on",
    "started_on",
    "completed_on",
    "worker",
    "tracked",
]
DETAILS = [
    "args",
    "kwargs",
    "eta",
    "due_on",
    "expires",
    "exchange",
    "routing_key",
    "held_by_host",
    "held_by_pid",
    "claimed_on",
    "dead_reason",
    "result_state",
    "result",
    "error",
    "traceback",
    "recorded_on",
    "recorded_until",
    "root_id",
    "parent_id",
    "group_id",
]
QUEUE = ["queue", "ready", "delayed", "unacked", "dead", "oldest_s", "consumers"]


@pytest.fixture(scope="module")
def full(new_shop: Callable[[], Shop]) -> tuple[Shop, dict[str, str]]:
    """One task in each of some states, in the order of their creation, and a worker."""
    shop = new_shop()
    shop.site.worker(
        "-Q", "late", pool="threads", concurrency=4, task_acks_late=True, worker_prefetch_multiplier=1
    )
    ids = {}
    for state, sent in {
        "failed": ("fail", (), {"queue": "late"}),
        "completed": ("add", (1, 2), {"queue": "late"}),
        "active": ("sleep_for", (3600,), {"queue": "late"}),
        "scheduled": ("record", ("later",), {"queue": "wait", "countdown": 3600}),
        "created": ("record", ("now",), {"queue": "wait", "priority": 5}),
    }.items():
        task, args, options = sent
        task_id = shop.send(task, *args, **options)
        eventually(lambda i=task_id, s=state: shop.state(i) == s)  # type: ignore[misc]
        ids[state] = task_id
    eventually(lambda: messages(shop, ids["completed"]) == 0)
    return shop, ids


@pytest.mark.parametrize("form", FORMS)
def test_queues(full: tuple[Shop, dict[str, str]], form: str) -> None:
    """A row for each queue of messages, none for those of remote control."""
    shop, _ = full
    found = {queue["queue"]: queue for queue in answer(shop, form, "queues")}
    assert {"late", "wait"} <= set(found)
    assert not [name for name in found if "pidbox" in name or "celeryev" in name]
    assert list(found["wait"]) == QUEUE
    oldest = found["wait"].pop("oldest_s")
    assert 0 <= oldest < 3600
    assert found["wait"] == {
        "queue": "wait",
        "ready": 1,
        "delayed": 1,
        "unacked": 0,
        "dead": 0,
        "consumers": 0,
    }
    assert (found["late"]["unacked"], found["late"]["consumers"], found["late"]["oldest_s"]) == (1, 1, None)
    lines = command(shop, form, "queues").stdout.splitlines()
    assert lines[0].split() == ["READY", "DELAYED", "UNACKED", "DEAD", "OLDEST", "CONSUMERS", "QUEUE"]
    assert [line.split()[-1] for line in lines[1:]] == sorted(found)


@pytest.mark.parametrize("form", FORMS)
def test_jobs(full: tuple[Shop, dict[str, str]], form: str) -> None:
    """The newest first, one to a line."""
    shop, ids = full
    listed = answer(shop, form, "jobs")
    assert [(job["id"], job["state"]) for job in listed] == [(i, s) for s, i in reversed(ids.items())]
    assert all(list(job) == JOB for job in listed)
    lines = command(shop, form, "jobs").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[job["id"], job["state"]] for job in listed]


@pytest.mark.parametrize(
    ("options", "states"),
    [
        (["--state", "created"], ["created"]),
        (["--state", "Scheduled"], ["scheduled"]),
        (["--state", "active"], ["active"]),
        (["--state", "completed"], ["completed"]),
        (["--state", "failed"], ["failed"]),
        (["--state", "dead"], []),
        (["--state", "retry"], []),
        (["--queue", "wait"], ["created", "scheduled"]),
        (["--queue", "wait", "--state", "scheduled"], ["scheduled"]),
        (["--name", "probe.add"], ["completed"]),
        (["--name", "probe.*e*"], ["created", "scheduled", "active"]),
        (["--name", "probe%"], []),
        (["--limit", "2"], ["created", "scheduled"]),
        (["--since", "1h"], ["created", "scheduled", "active", "completed", "failed"]),
        (["--before", "1h"], []),
        (["--since", "2000-01-01", "--before", "2000-01-02T00:00+01:00"], []),
        (["--state", "failed", "--before", "1h"], []),
    ],
    ids=" ".join,
)
def test_filters(full: tuple[Shop, dict[str, str]], options: list[str], states: list[str]) -> None:
    """Each filter leaves what it says, and they can be combined."""
    shop, _ = full
    assert [job["state"] for job in answer(shop, "celery-postgres", "jobs", *options)] == states


def test_jobs_of_another_broker(shop: Shop) -> None:
    """Those without a time of creation come last, and only where no time is asked for."""
    schema.upgrade(parse(shop.url), "celery")
    with psycopg.connect(shop.url, autocommit=True) as database:
        for name, created in (("dated", "now()"), ("undated", "NULL")):
            database.execute(
                "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, created_at)"
                f" VALUES (%s, 'SUCCESS', 'application/json', 'utf-8', '{{}}', {created})",
                (name,),
            )

    def listed(*options: str) -> list[str]:
        return [job["id"] for job in answer(shop, "celery-postgres", "jobs", *options)]

    assert listed() == ["dated", "undated"]
    assert listed("--state", "completed") == ["dated", "undated"]
    assert listed("--limit", "1") == ["dated"]
    assert listed("--since", "1h") == ["dated"]


@pytest.mark.parametrize("form", FORMS)
def test_job_that_waits(full: tuple[Shop, dict[str, str]], form: str) -> None:
    """What its message says, with the time at which it is due."""
    shop, ids = full
    told = answer(shop, form, "job", ids["scheduled"])
    assert list(told) == JOB + DETAILS
    assert (told["state"], told["args"], told["kwargs"]) == ("scheduled", "('later',)", "{}")
    assert told["due_on"][:16] == told["eta"][:16]
    assert told["root_id"] == ids["scheduled"]
    text = command(shop, form, "job", ids["scheduled"]).stdout
    assert "args        ('later',)" in text
    assert f"due         {told['due_on'][:10]}" in text


def test_job_that_runs(full: tuple[Shop, dict[str, str]]) -> None:
    """Which process holds it, and since when."""
    shop, ids = full
    told = answer(shop, "celery-postgres", "job", ids["active"])
    assert (told["state"], told["deliveries"], told["held_by_host"]) == ("active", 1, os.uname().nodename)
    assert told["claimed_on"] >= told["created_on"]
    text = command(shop, "celery-postgres", "job", ids["active"]).stdout
    assert f"held by     {os.uname().nodename}, process {told['held_by_pid']}, since" in text


def test_job_that_failed(full: tuple[Shop, dict[str, str]]) -> None:
    """Its error and its traceback, but not twice."""
    shop, ids = full
    told = answer(shop, "celery-postgres", "job", ids["failed"])
    assert (told["result_state"], told["error"]) == ("FAILURE", "RuntimeError: as asked")
    assert told["traceback"].startswith("Traceback (most recent call last)")
    text = command(shop, "celery-postgres", "job", ids["failed"]).stdout
    assert "error       RuntimeError: as asked" in text
    assert 'raise RuntimeError("as asked")' in text
    assert "exc_module" not in text


def test_job_that_has_ended(full: tuple[Shop, dict[str, str]]) -> None:
    """What it returned, and until when that is kept."""
    shop, ids = full
    told = answer(shop, "celery-postgres", "job", ids["completed"])
    assert (told["result"], told["error"], told["worker"].startswith("threads")) == (3, None, True)
    assert told["recorded_until"] > told["recorded_on"]


@pytest.mark.parametrize("form", FORMS)
def test_unknown_id(full: tuple[Shop, dict[str, str]], form: str) -> None:
    """Exit code 1, and why it may be unknown."""
    shop, _ = full
    done = command(shop, form, "job", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No job nothing is known" in done.stderr
    done = command(shop, form, "job", "nothing", "--json")
    assert (done.returncode, done.stdout) == (1, "null\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "--state", "faild"], "did you mean failed?"),
        (["jobs", "--state", "SUCCESS"], "The states are scheduled, created"),
        (["jobs", "--since", "yesterday"], "is no time: write 2026-01-31"),
        (["jobs", "--limit", "0"], "range 1<=x<=10000"),
        (["job"], "Missing argument"),
        (["cancel"], "Missing argument"),
        (["job", "a\udcff"], "not valid Unicode"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else " ".join(value).encode("ascii", "replace").decode()
    ),
)
def test_bad_input(full: tuple[Shop, dict[str, str]], arguments: list[str], said: str) -> None:
    """One sentence, no traceback."""
    shop, _ = full
    done = command(shop, "celery-postgres", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["queues"], ["jobs"], ["job", "x"], ["cancel", "x"]], ids=" ".join)
def test_without_schema(shop: Shop, arguments: list[str]) -> None:
    """Looking creates nothing: the error names the command that does."""
    shop.database.execute("DROP SCHEMA celery CASCADE")
    done = command(shop, "celery-postgres", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: schema celery is missing: run `celery-postgres migrate`")
    assert shop.database.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'celery'").fetchone() is None


def test_empty(shop: Shop) -> None:
    """Nothing is said in words, and is an empty list in JSON."""
    form = "celery-postgres"
    assert "No queue has been declared" in command(shop, form, "queues").stdout
    assert "No job is known" in command(shop, form, "jobs").stdout
    assert "No job is like that" in command(shop, form, "jobs", "--state", "dead").stdout
    assert answer(shop, form, "queues") == answer(shop, form, "jobs") == []


def test_without_rights(shop: Shop) -> None:
    """A role that may not read is told what to grant; the right to read the views is enough to list."""
    schema.upgrade(parse(shop.url), "celery")
    role, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    try:
        shop.database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("this user may not create roles")
    url = urlsplit(shop.url)
    reader = url._replace(netloc=f"{role}:{password}@{url.netloc.rpartition('@')[2]}").geturl()
    try:
        shop.database.execute(f"GRANT USAGE ON SCHEMA celery TO {role}")
        shop.database.execute(f"GRANT SELECT ON celery.schema_version TO {role}")
        done = command(shop, "celery-postgres", "queues", DATABASE_URL=reader)
        assert done.returncode == 1
        assert "permission denied" in done.stderr
        assert "GRANT SELECT" in done.stderr
        shop.database.execute(f"GRANT SELECT ON celery.job, celery.queue_stats TO {role}")
        for listing in ("queues", "jobs"):
            assert command(shop, "celery-postgres", listing, DATABASE_URL=reader).returncode == 0
    finally:
        shop.database.execute(f"DROP OWNED BY {role}")
        shop.database.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("columns", [80, 200])
def test_width_of_the_terminal(full: tuple[Shop, dict[str, str]], columns: int) -> None:
    """On a terminal no line is longer than it is wide, and the id is whole."""
    shop, ids = full
    for listing in ("jobs", "queues"):
        lines = on_terminal(shop, listing, columns)
        assert max(map(len, lines)) <= columns
        if listing == "jobs":
            assert lines[1].startswith(f"{ids['created']}  created")
            assert ("QUEUE" in lines[0]) == (columns == 200)


def on_terminal(shop: Shop, listing: str, columns: int) -> list[str]:
    """What a terminal of that width shows."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("celery-postgres")), listing],
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env={**environment, "DATABASE_URL": shop.url},
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 4096):
            shown += piece
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(controller)
    assert process.wait(30) == 0
    return shown.decode().splitlines()
