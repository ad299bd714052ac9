"""The view `job` tells of each task what is so, on every path that leads there.

Three workers share the work: one acknowledges early, one late, and one early while it tells of the start.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from celery.utils import uuid
from kombu import Connection

from tests.fixtures.waiting import PATIENCE_S, eventually

from .commands import answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Shop

LONG = 300


@pytest.fixture(scope="module")
def shop(new_shop: Callable[[], Shop]) -> Shop:
    """All three workers, ready."""
    shop = new_shop()
    options = {"keep_rejected": True}
    workers = [
        shop.site.start_worker(
            "-Q", queue, pool="threads", concurrency=12, broker_transport_options=options, **settings
        )
        for queue, settings in {
            "early": {},
            "late": {"task_acks_late": True, "worker_prefetch_multiplier": 1},
            "telling": {"task_track_started": True},
        }.items()
    ]
    for worker in workers:
        worker.wait_until_ready()
    return shop


def wait_for_state(shop: Shop, task_id: str, state: str) -> dict[str, Any]:
    eventually(lambda: shop.state(task_id) == state, what=f"state {state}")
    job = shop.job(task_id)
    assert job is not None
    return job


# -- waiting ------------------------------------------------------------------------------------------


def test_created(shop: Shop) -> None:
    """What waits and was never delivered; whether its end will be recorded is the worker's to know."""
    before = datetime.now(timezone.utc) - timedelta(minutes=1)
    task_id = shop.send("record", queue="nobody", priority=3)
    job = shop.job(task_id)
    assert job is not None
    assert before < job.pop("created_on") < before + timedelta(minutes=2)
    assert job == {
        "id": task_id,
        "name": "probe.record",
        "queue": "nobody",
        "state": "created",
        "priority": 3,
        "deliveries": 0,
        "retries": 0,
        "started_on": None,
        "completed_on": None,
        "worker": None,
        "tracked": None,
    }


def test_ignored_result_is_not_tracked(shop: Shop) -> None:
    """`ignore_result` with the call says that nothing will be recorded."""
    job = shop.job(shop.send("record", queue="nobody", ignore_result=True))
    assert job is not None
    assert job["tracked"] is False


def test_scheduled(shop: Shop) -> None:
    """What is held for its eta, and is no retry."""
    assert shop.state(shop.send("record", queue="early", countdown=LONG)) == "scheduled"


def test_message_that_came_back_waits_again(shop: Shop) -> None:
    """What a consumer gave back is created once more, with its deliveries counted."""
    task_id = shop.send("record", queue="returned")
    with Connection(shop.url) as connection:
        message = connection.default_channel.basic_get("returned")
        assert shop.state(task_id) == "active"
        message.requeue()
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["deliveries"]) == ("created", 1)


def test_expired_message_waits_until_it_is_swept(shop: Shop) -> None:
    """Past its time to live a message is still there until a worker of its queue, or the sweeper, comes."""
    task_id = shop.send("record", queue="early", countdown=LONG)
    shop.database.execute("UPDATE celery.message SET expires_at = now() WHERE task_id = %s", (task_id,))
    assert shop.state(task_id) == "scheduled"


# -- running ------------------------------------------------------------------------------------------


def test_active_by_its_claim(shop: Shop) -> None:
    """Acknowledged late, a task that runs is a claimed message; the worker is the process that holds it."""
    task_id = shop.send("sleep_for", LONG, queue="late")
    shop.begun(task_id)
    job = wait_for_state(shop, task_id, "active")
    assert re.fullmatch(rf"{os.uname().nodename}:\d+", job["worker"])
    assert (job["deliveries"], job["started_on"], job["tracked"]) == (1, None, None)


def test_active_by_what_was_told(shop: Shop) -> None:
    """Acknowledged early, the message is gone; with `task_track_started` its start is recorded."""
    task_id = shop.send("sleep_for", LONG, queue="telling")
    shop.begun(task_id)
    job = wait_for_state(shop, task_id, "active")
    eventually(lambda: not waits(shop, task_id))
    job = shop.job(task_id)
    assert job is not None
    assert job["state"] == "active"
    assert job["created_on"] <= job["started_on"]
    assert job["worker"].startswith("threads")
    assert (job["priority"], job["deliveries"], job["tracked"]) == (None, None, True)


def test_running_unseen(shop: Shop) -> None:
    """Acknowledged early and not told of, a task that runs is not known."""
    task_id = shop.send("sleep_for", LONG, queue="early")
    shop.begun(task_id)
    eventually(lambda: not waits(shop, task_id))
    assert shop.job(task_id) is None


@pytest.mark.parametrize("queue", ["early", "late"])
def test_state_of_the_application(shop: Shop, queue: str) -> None:
    """A state that the application invented is one in which the task runs."""
    task_id = shop.send("progress", LONG, queue=queue)
    shop.begun(task_id)
    assert wait_for_state(shop, task_id, "active")["tracked"] is True


# -- retrying -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["early", "late"])
def test_retry_is_held(shop: Shop, queue: str) -> None:
    """A task that waits for its next attempt is one row: that of the new message."""
    task_id = shop.send("retry_twice", LONG, queue=queue)
    job = wait_for_state(shop, task_id, "retry")
    assert (job["retries"], job["queue"], job["completed_on"]) == (1, queue, None)
    eventually(lambda: messages(shop, task_id) == 1)
    assert shop.state(task_id) == "retry"


def test_retry_beside_its_old_message(shop: Shop) -> None:
    """While the old attempt is not acknowledged yet, the new message is what counts, and the only row."""
    task_id = shop.send("sleep_for", LONG, queue="late")
    shop.begun(task_id)
    shop.database.execute(
        "WITH retry AS (INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, task,"
        " task_id, headers, properties, body) SELECT gen_random_uuid(), queue_id, priority, exchange,"
        " routing_key, task, task_id, replace(headers, '\"retries\": 0', '\"retries\": 1'), properties, body"
        " FROM celery.message WHERE task_id = %s RETURNING id, queue_id, priority)"
        "INSERT INTO celery.delayed SELECT now() + interval '1 h', id, queue_id, priority, 0 FROM retry",
        (task_id,),
    )
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["retries"], job["deliveries"]) == ("retry", 1, 0)
    eventually(lambda: counted(shop) == looked_at(shop))  # what another test has left may just move


@pytest.mark.parametrize("queue", ["early", "late"])
def test_retry_that_runs(shop: Shop, queue: str) -> None:
    """The next attempt is active, although what is recorded is still RETRY."""
    task_id = shop.send("retry_and_sleep", 0.1, LONG, queue=queue)
    shop.site.record.wait_until(
        lambda _: len(shop.site.record.of(task_id)) == 2, timeout_s=PATIENCE_S, what="second attempt"
    )
    if queue == "early":
        eventually(lambda: not waits(shop, task_id))
    job = wait_for_state(shop, task_id, "active")
    assert recorded(shop, task_id) == "RETRY"
    assert job["tracked"] is True


def test_retry_over_another_broker(shop: Shop) -> None:
    """Where the broker is another one, what is recorded is all that is known."""
    task_id = store(shop, "RETRY", created_at=None)
    assert shop.state(task_id) == "retry"


# -- ended --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["early", "late", "telling"])
def test_completed(shop: Shop, queue: str) -> None:
    """A success is recorded, with its times and, once its message is acknowledged, its worker."""
    job = wait_for_state(shop, shop.send("add", 1, 2, queue=queue), "completed")
    assert job["created_on"] <= job["started_on"] <= job["completed_on"]
    assert (job["name"], job["queue"], job["retries"]) == ("probe.add", queue, 0)
    eventually(lambda: (shop.job(job["id"]) or job)["worker"].startswith("threads"), what="the worker's name")
    assert job["tracked"] is True


def test_completed_after_a_retry(shop: Shop) -> None:
    """The end of the last attempt is the job's."""
    job = wait_for_state(shop, shop.send("retry_twice", 0.1, queue="early"), "completed")
    assert job["retries"] == 2


def test_failed(shop: Shop) -> None:
    assert wait_for_state(shop, shop.send("fail", queue="early"), "failed")["completed_on"] is not None


def test_cancelled_by_revoke(shop: Shop) -> None:
    """A task that Celery revoked before it came."""
    task_id = uuid()
    assert shop.site.control.revoke(task_id, reply=True, timeout=PATIENCE_S, limit=1)
    shop.send("record", queue="early", task_id=task_id)
    wait_for_state(shop, task_id, "cancelled")


def test_cancelled_by_its_expiry(shop: Shop) -> None:
    """A task that comes after its `expires` is marked by the worker."""
    task_id = shop.send("record", queue="early", countdown=0.5, expires=0.1)
    wait_for_state(shop, task_id, "cancelled")


def test_dead(shop: Shop) -> None:
    """What lies in dead_letter, with the time of its death."""
    job = wait_for_state(shop, shop.send("reject", queue="early"), "dead")
    assert job["completed_on"] is not None
    assert job["queue"] == "early"


def test_end_before_the_acknowledgement(shop: Shop) -> None:
    """A late acknowledgement comes after the result: the job has ended all the same."""
    task_id = shop.send("sleep_for", LONG, queue="late")
    shop.begun(task_id)
    store(shop, "SUCCESS", task_id)
    assert waits(shop, task_id)
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["completed_on"] is not None) == ("completed", True)


def test_ignored_result_leaves_nothing(shop: Shop) -> None:
    """With `ignore_result` a task that has ended is not known any more."""
    task_id = shop.send("record", queue="early", ignore_result=True)
    shop.begun(task_id)
    eventually(lambda: not waits(shop, task_id))
    assert shop.job(task_id) is None


def test_id_that_is_sent_again(shop: Shop) -> None:
    """A new message with the id of a task that has ended is a job that waits; the old end is not its end."""
    task_id = shop.send("add", 1, 2, queue="early")
    wait_for_state(shop, task_id, "completed")
    shop.send("add", 1, 2, queue="nobody", task_id=task_id)
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["started_on"], job["completed_on"]) == ("created", None, None)


def test_id_that_was_sent_twice(shop: Shop) -> None:
    """Two messages with one id are one row."""
    task_id = shop.send("record", queue="nobody")
    shop.send("record", queue="nobody", task_id=task_id, countdown=LONG)
    assert shop.state(task_id) == "scheduled"


# -- once more ----------------------------------------------------------------------------------------


def test_failed_and_waits_again(shop: Shop, tmp_path: Path) -> None:
    """What is redriven waits as if it had never run, whatever is recorded of that."""
    shop.send("record", queue="nobody")
    task_id = fail_and_die(shop, tmp_path / "end")
    redrive(shop, task_id, "--to", "nobody")
    job = shop.job(task_id)
    assert job is not None
    assert recorded(shop, task_id) == "FAILURE"
    assert (job["state"], job["started_on"], job["completed_on"]) == ("created", None, None)
    assert (job["worker"], job["deliveries"], job["tracked"]) == (None, 1, True)


def test_failed_and_runs_again(shop: Shop, tmp_path: Path) -> None:
    """What is redriven runs until it ends again; then that end is told, already before its message goes."""
    end = tmp_path / "end"
    task_id = fail_and_die(shop, end)
    run_again(shop, task_id)
    job = shop.job(task_id)
    assert job is not None
    assert recorded(shop, task_id) == "FAILURE"
    assert (job["state"], job["started_on"], job["completed_on"]) == ("active", None, None)
    assert job["worker"].startswith(os.uname().nodename)
    shop.database.execute(
        "UPDATE celery.result SET finished_at = now(), updated_at = now() WHERE task_id = %s", (task_id,)
    )
    job = shop.job(task_id)
    assert job is not None
    assert (job["state"], job["completed_on"] is not None) == ("failed", True)
    end.touch()
    wait_for_state(shop, task_id, "completed")


def test_count_of_what_runs_again(shop: Shop, tmp_path: Path) -> None:
    """A job that runs once more is counted among those that run, and not among those that failed."""
    task_id = fail_and_die(shop, tmp_path / "end")
    failed = counted(shop).get("failed", 0)
    run_again(shop, task_id)
    assert counted(shop).get("failed", 0) == failed
    eventually(lambda: counted(shop) == looked_at(shop))


def test_end_whose_acknowledgement_was_lost(shop: Shop) -> None:
    """A message that is delivered once more after its task has ended waits, and runs, again."""
    task_id = shop.send("add", 1, 2, queue="lost")
    with Connection(shop.url) as connection:
        message = connection.default_channel.basic_get("lost")
        store(shop, "SUCCESS", task_id)
        assert shop.state(task_id) == "completed"
        message.requeue()
        job = shop.job(task_id)
        assert job is not None
        assert (job["state"], job["started_on"], job["completed_on"]) == ("created", None, None)
        again = connection.default_channel.basic_get("lost")
        job = shop.job(task_id)
        assert job is not None
        assert (job["state"], job["started_on"], job["completed_on"]) == ("active", None, None)
        assert counted(shop) == looked_at(shop)
        again.ack()
    wait_for_state(shop, task_id, "completed")


# -- what is in the way -------------------------------------------------------------------------------


def test_message_that_is_no_task(shop: Shop) -> None:
    """Other programs' messages are no jobs."""
    known = looked_at(shop)
    with Connection(shop.url) as connection:
        connection.Producer().publish("hello", routing_key="nobody")
    assert looked_at(shop) == known
    assert counted(shop) == known


def test_headers_that_are_no_json_for_the_server(shop: Shop) -> None:
    """NUL and half of a surrogate pair, and text that looks like a key, harm neither the row nor the rest."""
    trick = '"retries": 7, "ignore_result": true \0 \ud800'
    job = shop.job(shop.send("record", queue="nobody", headers={"note": trick}))
    assert job is not None
    assert (job["state"], job["retries"], job["tracked"]) == ("created", 0, None)
    shop.database.execute("TABLE celery.job")


def test_counts_are_those_of_the_jobs(shop: Shop) -> None:
    """`job_stats` counts what `job` lists."""
    for queue in ("nobody", "early"):
        shop.send("record", queue=queue, countdown=LONG)
    eventually(lambda: counted(shop) == looked_at(shop))


def fail_and_die(shop: Shop, end: Path) -> str:
    """A task that has failed and was rejected for it; run once more, it runs until there is this file."""
    task_id = shop.send("fail_at_first", str(end), queue="early")
    job = wait_for_state(shop, task_id, "dead")
    assert job["started_on"] < job["completed_on"]
    return task_id


def redrive(shop: Shop, task_id: str, *options: str) -> None:
    assert answer(shop, "celery-postgres", "dead", "redrive", task_id, *options)["redriven"] == 1


def run_again(shop: Shop, task_id: str) -> None:
    """Redrive it, and return when its code runs once more."""
    redrive(shop, task_id)
    shop.site.record.wait_until(
        lambda _: len(shop.site.record.of(task_id)) == 2, timeout_s=15, what="second run"
    )


def waits(shop: Shop, task_id: str) -> bool:
    return messages(shop, task_id) > 0


def messages(shop: Shop, task_id: str) -> int:
    query = "SELECT count(*) AS number FROM celery.message WHERE task_id = %s"
    row = shop.database.execute(query, (task_id,)).fetchone()
    assert row is not None
    return int(row["number"])


def recorded(shop: Shop, task_id: str) -> str | None:
    query = "SELECT state FROM celery.result WHERE task_id = %s"
    row = shop.database.execute(query, (task_id,)).fetchone()
    return row and row["state"]


def store(shop: Shop, state: str, task_id: str = "by hand", created_at: str | None = "now") -> str:
    """What a backend records."""
    shop.database.execute(
        "INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, created_at,"
        " started_at, finished_at) VALUES (%s, %s, 'application/json', 'utf-8', '{}', %s, now(), now())",
        (task_id, state, created_at),
    )
    return task_id


def looked_at(shop: Shop) -> dict[str, int]:
    """How many rows the view has in each state."""
    rows = shop.database.execute("SELECT state, count(*) AS jobs FROM celery.job GROUP BY state")
    return {row["state"]: row["jobs"] for row in rows}


def counted(shop: Shop) -> dict[str, int]:
    rows = shop.database.execute("SELECT state, jobs FROM celery.job_stats")
    return {row["state"]: row["jobs"] for row in rows}
