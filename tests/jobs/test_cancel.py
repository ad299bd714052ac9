"""`cancel` takes a job away for good, and leaves alone what it must not touch."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery import chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult

from celery_postgres import dsn
from celery_postgres.cancellation import Cancellation, record_revoked
from celery_postgres.connection import Database
from celery_postgres.jobs import Jobs
from celery_postgres.options import Options
from tests.fixtures.waiting import eventually

from .commands import FORMS, answer, command
from .test_states import LONG, messages

if TYPE_CHECKING:
    from .conftest import Shop


def result(shop: Shop, task_id: str) -> AsyncResult:
    return AsyncResult(task_id, app=shop.site.client)


def states_without_message(shop: Shop) -> list[Any]:
    """Rows of a state that nothing belongs to."""
    return shop.database.execute(
        "SELECT message_id FROM (SELECT message_id FROM celery.ready"
        " UNION ALL SELECT message_id FROM celery.delayed) AS waiting"
        " WHERE NOT EXISTS (SELECT FROM celery.message WHERE id = message_id)"
    ).fetchall()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"countdown": 1}], ids=["ready", "held"])
def test_job_never_runs(shop: Shop, form: str, options: dict[str, Any]) -> None:
    """No worker runs it, also one that starts later and has heard of no revoke; its result is REVOKED."""
    task_id = shop.send("record", queue="celery", **options)
    other = shop.send("record", queue="celery", **options)
    assert answer(shop, form, "cancel", task_id) == [
        {"id": task_id, "cancelled": True, "state": "cancelled", "recorded": True, "untold_chord": False}
    ]
    assert messages(shop, task_id) == 0
    assert not states_without_message(shop)
    shop.site.worker("-Q", "celery", pool="solo")
    shop.begun(other)
    marker = shop.send("record", queue="celery")
    shop.begun(marker)
    assert not shop.site.record.of(task_id)
    with pytest.raises(TaskRevokedError, match="cancelled"):
        result(shop, task_id).get(timeout=5)
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["name"], job["queue"]) == ("cancelled", "probe.record", "celery")
    assert job["created_on"] < job["completed_on"]


def test_who_waits_for_the_result_is_told(shop: Shop) -> None:
    """`get()` that waits already ends with the cancellation."""
    task_id = shop.send("record", queue="celery")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            result(shop, task_id).get(timeout=20)
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the test looks at it
            raised.append(exc)

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(
        lambda: shop.database.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        ).fetchone()
    )
    assert command(shop, "celery-postgres", "cancel", task_id).returncode == 0
    waiter.join(10)
    assert [type(exc) for exc in raised] == [TaskRevokedError]


def test_retry_is_cancelled(shop: Shop) -> None:
    """A task between two attempts has no other."""
    worker = shop.site.worker("-Q", "celery", pool="threads")
    task_id = shop.send("retry_twice", LONG, queue="celery")
    eventually(lambda: shop.state(task_id) == "retry" and messages(shop, task_id) == 1)
    eventually(lambda: result(shop, task_id).state == "RETRY")
    assert answer(shop, "celery", "cancel", task_id)[0]["cancelled"]
    assert shop.state(task_id) == "cancelled"
    worker.end()


@pytest.mark.parametrize("form", FORMS)
def test_running_job_is_refused(shop: Shop, form: str) -> None:
    """It goes on, and the remedy is named."""
    shop.site.worker("-Q", "celery", pool="threads", task_acks_late=True)
    task_id = shop.send("sleep_for", LONG, queue="celery")
    shop.begun(task_id)
    done = command(shop, form, "cancel", task_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"celery -A app control terminate KILL {task_id}" in done.stderr
    assert shop.state(task_id) == "active"
    done = command(shop, form, "cancel", task_id, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {"id": task_id, "cancelled": False, "state": "active", "recorded": False, "untold_chord": False}
    ]


def test_several_at_once(shop: Shop) -> None:
    """Each has a line of its own; the exit code is 1 if one of them was not cancelled."""
    waiting = [shop.send("record", queue="celery") for _ in range(2)]
    done = command(shop, "celery-postgres", "cancel", *waiting, "nothing", waiting[0])
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{task_id}  cancelled" for task_id in waiting]
    assert done.stderr.startswith("nothing  not cancelled: unknown")
    again = command(shop, "celery-postgres", "cancel", waiting[0])
    assert "not cancelled: it is cancelled already" in again.stderr


@pytest.mark.parametrize("form", FORMS)
def test_ignored_result_stays_ignored(shop: Shop, form: str) -> None:
    """Nothing is recorded of a task whose result nobody wants."""
    task_id = shop.send("record", queue="celery", ignore_result=True)
    assert answer(shop, form, "cancel", task_id)[0]["recorded"] is False
    assert shop.job(task_id) is None


def header_of_a_chord(shop: Shop) -> tuple[str, AsyncResult]:
    """A part that waits, of a chord whose other part waits too, and the chord's result."""
    client = shop.site.client
    parts = [client.signature("probe.add", args=(n, n)) for n in (1, 2)]
    body = chord(parts, app=client)(client.signature("probe.echo"))
    assert body.parent is not None
    return body.parent.results[0].id, body


def test_chord_hears_of_a_cancelled_part(shop: Shop) -> None:
    """With the application the chord fails as if a worker had found the part revoked."""
    part, body = header_of_a_chord(shop)
    (outcome,) = answer(shop, "celery", "cancel", part)
    assert (outcome["cancelled"], outcome["untold_chord"]) == (True, False)
    shop.site.worker("-Q", "celery", pool="solo")
    with pytest.raises(ChordError, match="TaskRevokedError"):
        result(shop, body.id).get(timeout=15)
    with pytest.raises(TaskRevokedError):
        result(shop, part).get(timeout=5)


def test_chord_that_is_not_told(shop: Shop) -> None:
    """Without the application nobody can tell the chord, and the command says so."""
    part, _ = header_of_a_chord(shop)
    done = command(shop, "celery-postgres", "cancel", part)
    assert done.returncode == 0
    assert "part of a chord, which will not complete" in done.stdout
    with pytest.raises(TaskRevokedError):
        result(shop, part).get(timeout=5)


@pytest.mark.parametrize("form", FORMS)
def test_member_of_a_group_is_no_part_of_a_chord(shop: Shop, form: str) -> None:
    client = shop.site.client
    sent = group([client.signature("probe.add", args=(n, n)) for n in (1, 2)], app=client)()
    (outcome,) = answer(shop, form, "cancel", sent.results[0].id)
    assert outcome["untold_chord"] is False


def test_body_that_cannot_be_read(shop: Shop) -> None:
    """Refused where the application does not accept it; without the application it is removed."""
    task_id = shop.send("record", queue="celery", serializer="pickle")
    done = command(shop, "celery", "cancel", task_id)
    assert done.returncode == 1
    assert "accept_content" in done.stderr
    assert "Traceback" not in done.stderr
    assert shop.state(task_id) == "created"
    assert command(shop, "celery-postgres", "cancel", task_id).returncode == 0
    assert shop.state(task_id) == "cancelled"


def test_failure_to_record_leaves_the_job(shop: Shop) -> None:
    """Recording and removing are one: if the first fails, the job waits as before."""
    task_id = shop.send("record", queue="celery", countdown=LONG)
    due = shop.database.execute("SELECT due_at FROM celery.delayed").fetchone()

    def refuse(*_: object) -> Any:
        raise RuntimeError("no")

    session, _ = Database(dsn.parse(shop.url), Options()).open()
    with pytest.raises(RuntimeError):
        Cancellation(session, Jobs(session, 5), 5, refuse).cancel(task_id)
    assert shop.database.execute("SELECT due_at FROM celery.delayed").fetchone() == due
    assert Cancellation(session, Jobs(session, 5), 5, record_revoked).cancel(task_id).cancelled
    session.close()


def test_who_cancels_and_who_claims(shop: Shop) -> None:
    """One of the two gets the message: while it is being cancelled, a worker takes the next one."""
    task_id = shop.send("record", queue="celery")
    other = shop.send("record", queue="celery")
    session, _ = Database(dsn.parse(shop.url), Options()).open()
    shop.site.worker("-Q", "nothing", pool="threads")
    worker = shop.site.worker("-Q", "elsewhere", pool="threads")

    def record_while_a_worker_claims(*arguments: Any) -> Any:
        shop.site.command(worker, "add_consumer", queue="celery")
        shop.begun(other)
        return record_revoked(*arguments)

    cancellation = Cancellation(session, Jobs(session, 5), 5, record_while_a_worker_claims)
    assert cancellation.cancel(task_id).cancelled
    session.close()
    marker = shop.send("record", queue="celery")
    shop.begun(marker)
    assert not shop.site.record.of(task_id)
