"""Redriving: the same message goes back where it came from, once, and lives on."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from celery_postgres import dead
from celery_postgres.dead import Filter
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from .conftest import Cemetery

STORED = "SELECT id, uuid, queue_id, priority, enqueued_at, headers, properties, body FROM celery.message"


def test_same_message_returns(cemetery: Cemetery) -> None:
    """To its own place and priority, untouched; delivered again, it says so."""
    task_id = cemetery.kill(1, priority=7)
    stored = cemetery.rows(STORED)
    assert cemetery.state(task_id) == "dead"
    with cemetery.letters() as letters:
        (done,) = letters.redrive(Filter())
    assert (done.moved, done.homeless, done.expired) == ({"mail": 1}, {}, 0)
    assert cemetery.rows(STORED) == stored
    assert cemetery.dead() == []
    assert cemetery.state(task_id) == "created"
    (again,) = cemetery.ready()
    assert (again["ready_priority"], again["deliveries"]) == (7, 1)
    message = cemetery.channel.basic_get("mail")
    assert message.delivery_info["redelivered"]
    assert cemetery.state(task_id) == "active"
    message.ack()
    cemetery.channel.connection.intake.flush()
    assert cemetery.rows(STORED) == []


def test_message_that_was_never_delivered(cemetery: Cemetery) -> None:
    """What a full queue pushed out comes back as new."""
    cemetery.declare("short", max_length=1)
    for number in (1, 2):
        cemetery.channel.basic_publish(cemetery.channel.prepare_message(b"%d" % number), "", "short")
    (pushed_out,) = cemetery.dead()
    assert (pushed_out["reason"], pushed_out["deliveries"], pushed_out["body"]) == ("maxlen", 0, b"1")
    cemetery.rows("UPDATE celery.queue SET max_length = NULL RETURNING id")
    with cemetery.letters() as letters:
        assert [done.moved for done in letters.redrive(Filter())] == [{"short": 1}]
    message = cemetery.channel.basic_get("short")
    assert (message.body, message.delivery_info["redelivered"]) == (b"1", False)


def test_order_is_kept(cemetery: Cemetery) -> None:
    """What is redriven goes before what was published later, in the order of its publication."""
    ids = [cemetery.kill(number) for number in range(3)]
    ids.append(cemetery.send("later"))
    with cemetery.letters() as letters:
        list(letters.redrive(Filter()))
    assert [row["task_id"] for row in cemetery.ready()] == ids


def test_many_go_in_small_transactions(cemetery: Cemetery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is committed before the next is begun; a limit takes the oldest."""
    monkeypatch.setattr(dead, "BATCH", 2)
    ids = [cemetery.kill(number) for number in range(6)]
    with cemetery.letters() as letters:
        going = letters.redrive(Filter(), limit=5)
        assert next(going).moved.total() == 2
        assert [row["task_id"] for row in cemetery.ready()] == ids[:2]
        assert [done.moved.total() for done in going] == [2, 1]
    assert [row["task_id"] for row in cemetery.dead()] == ids[5:]


def test_interrupted_batch_changes_nothing(cemetery: Cemetery) -> None:
    """What the server refuses is dead as before, all of it."""
    for number in range(3):
        cemetery.kill(number)
    before = cemetery.dead()
    last = max(row["message_id"] for row in before)
    cemetery.database.execute(f"ALTER TABLE celery.ready ADD CONSTRAINT refused CHECK (message_id < {last})")
    try:
        with cemetery.letters() as letters, pytest.raises(Exception, match="refused"):
            list(letters.redrive(Filter()))
    finally:
        cemetery.database.execute("ALTER TABLE celery.ready DROP CONSTRAINT refused")
    assert cemetery.dead() == before
    assert cemetery.ready() == []


def test_consumer_is_woken(cemetery: Cemetery) -> None:
    """The bell rings: whoever waits does not find it by the poll."""
    cemetery.kill(1)
    with psycopg.connect(cemetery.url, autocommit=True) as listener, cemetery.letters() as letters:
        listener.execute(f"LISTEN {letters._bell.channel}".encode())  # type: ignore[union-attr]
        list(letters.redrive(Filter()))
        (queue,) = cemetery.rows("SELECT id FROM celery.queue WHERE name = 'mail'")
        heard = next(listener.notifies(timeout=10, stop_after=1))
        assert heard.payload == str(queue["id"])


def test_another_queue(cemetery: Cemetery) -> None:
    """There its priority is capped, and it may lie beside a copy of the same publish."""
    cemetery.declare("urgent", max_priority=3)
    task_id = cemetery.kill(1, priority=9)
    (twin,) = cemetery.rows(
        "INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, headers, properties,"
        " body) SELECT m.uuid, q.id, 0, '', '', '{}', '{}', '' FROM celery.message m, celery.queue q"
        " WHERE q.name = 'urgent' RETURNING id"
    )
    with cemetery.letters() as letters:
        assert [done.moved for done in letters.redrive(Filter(), to="urgent")] == [{"urgent": 1}]
    (moved,) = cemetery.ready()
    assert (moved["task_id"], moved["queue"], moved["ready_priority"]) == (task_id, "urgent", 3)
    assert moved["id"] != twin["id"]
    assert cemetery.state(task_id) == "created"
    assert cemetery.channel.basic_get("urgent").headers["id"] == task_id


def test_queue_that_is_gone(cemetery: Cemetery) -> None:
    """What came from it stays dead; declared again, the queue of that name is the same."""
    task_id = cemetery.kill(1, queue="old")
    other = cemetery.kill(2)
    cemetery.channel.queue_delete("old")
    with cemetery.letters() as letters:
        (done,) = letters.redrive(Filter())
        assert (done.moved, done.homeless) == ({"mail": 1}, {"old": 1})
        assert (cemetery.state(task_id), cemetery.state(other)) == ("dead", "created")
        cemetery.declare("old")
        assert [done.moved for done in letters.redrive(Filter())] == [{"old": 1}]
    assert cemetery.state(task_id) == "created"
    assert cemetery.channel.basic_get("old").headers["id"] == task_id


def test_queue_of_the_broadcast_log_takes_none(cemetery: Cemetery) -> None:
    """It has no rows, so nothing would ever find what is put there."""
    cemetery.kill(1)
    cemetery.channel.queue_declare("replies", durable=False, exclusive=True, auto_delete=True)
    with cemetery.letters() as letters:
        (done,) = letters.redrive(Filter(), to="replies")
        assert (done.moved, done.homeless) == ({}, {"replies": 1})
        assert "replies" not in letters.queues()
    assert len(cemetery.dead()) == 1


def test_time_to_live_begins_anew(cemetery: Cemetery) -> None:
    """A message that was too late is not too late again at once; the queue's own time counts from now."""
    cemetery.declare("brief", message_ttl=600)
    message = cemetery.channel.prepare_message(b"late", properties={"expiration": "0"})
    cemetery.channel.basic_publish(message, "", "brief")
    assert cemetery.channel.basic_get("brief") is None  # finds that it is too late
    (late,) = cemetery.dead()
    assert late["reason"] == "expired"
    with cemetery.letters() as letters:
        list(letters.redrive(Filter()))
    (left,) = cemetery.rows("SELECT extract(epoch FROM expires_at - now()) AS s FROM celery.message")
    assert 500 < left["s"] <= 600
    assert cemetery.channel.basic_get("brief").body == b"late"


def test_celerys_own_expiry(cemetery: Cemetery) -> None:
    """It is told, since a worker would revoke the task, and taken away on demand; nothing else changes."""
    ids = [cemetery.kill(1, expires=0.001), cemetery.kill(2, expires=3600), cemetery.kill(3)]
    headers = [json.loads(row["headers"]) for row in cemetery.dead()]
    with cemetery.letters() as letters:
        (done,) = letters.redrive(Filter())
        assert (done.moved.total(), done.expired) == (3, 1)
        for _ in ids:
            cemetery.reject()
        (done,) = letters.redrive(Filter(), unexpire=True)
        assert (done.moved.total(), done.expired) == (3, 0)
    assert [json.loads(row["headers"]) for row in cemetery.ready()] == [
        {**header, "expires": None} for header in headers
    ]


def test_by_id(cemetery: Cemetery) -> None:
    """Named by the number of the message or the id of the task."""
    ids = [cemetery.kill(number) for number in range(3)]
    with cemetery.letters() as letters:
        numbers = [row["message_id"] for row in cemetery.dead()]
        meant = letters.identify([ids[0], str(numbers[1]), "nothing", "9" * 40])
        assert meant == {ids[0]: [numbers[0]], str(numbers[1]): [numbers[1]], "nothing": [], "9" * 40: []}
        assert [done.moved.total() for done in letters.redrive([numbers[0], numbers[1], 4711])] == [2]
        assert [done.moved.total() for done in letters.redrive([numbers[0]])] == [0]
    assert [row["task_id"] for row in cemetery.dead()] == ids[2:]


def test_two_who_redrive_move_it_once(cemetery: Cemetery) -> None:
    """Who comes second waits for the first and finds nothing."""
    cemetery.kill(1)
    (row,) = cemetery.dead()
    moved: list[int] = []

    def redrive() -> None:
        with cemetery.letters() as letters:
            moved.extend(done.moved.total() for done in letters.redrive([row["message_id"]]))

    with psycopg.connect(cemetery.url) as first:
        first.execute("SELECT FROM celery.dead_letter FOR UPDATE")
        threads = [threading.Thread(target=redrive) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(waiting(cemetery)) == 2)
    for thread in threads:
        thread.join(10)
    assert sorted(moved) == [0, 1]
    assert len(cemetery.ready()) == 1


def test_queue_that_goes_meanwhile(cemetery: Cemetery) -> None:
    """A queue that is being deleted takes nothing any more: what is dead stays dead, and is not lost."""
    task_id = cemetery.kill(1)
    outcome: list[dead.Redriven] = []

    def redrive() -> None:
        with cemetery.letters() as letters:
            outcome.extend(letters.redrive(Filter()))

    with psycopg.connect(cemetery.url) as deleting:
        deleting.execute("DELETE FROM celery.queue WHERE name = 'mail'")
        thread = threading.Thread(target=redrive)
        thread.start()
        eventually(lambda: waiting(cemetery))
    thread.join(10)
    assert [done.moved.total() for done in outcome] == [0]
    assert cemetery.ready() == []
    assert cemetery.state(task_id) == "dead"


def waiting(cemetery: Cemetery) -> list[object]:
    """Sessions that wait for a lock."""
    return list(
        cemetery.rows(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )


def test_discard(cemetery: Cemetery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message goes with its row; others stay."""
    monkeypatch.setattr(dead, "BATCH", 2)
    for number in range(5):
        cemetery.kill(number)
    kept = cemetery.send("alive")
    with cemetery.letters() as letters:
        assert list(letters.discard(Filter(), limit=3)) == [2, 1]
        assert sum(letters.discard([row["message_id"] for row in cemetery.dead()])) == 2
        assert list(letters.discard(Filter())) == []
    assert [row["task_id"] for row in cemetery.rows("SELECT task_id FROM celery.message")] == [kept]


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"queue": "mail"}, [0, 1, 3]),
    ({"queue": "nowhere"}, []),
    ({"name": "shop.greet"}, [0, 2]),
    ({"name": "shop.*"}, [0, 1, 2]),
    ({"name": "shop_greet"}, []),
    ({"reason": "rejected"}, [0, 1, 2, 3]),
    ({"reason": "expired"}, []),
    ({"queue": "mail", "name": "*et"}, [0]),
]


def test_filters(cemetery: Cemetery) -> None:
    """What is listed, what is counted and what would be redriven are the same."""
    ids = [
        cemetery.kill(1),
        cemetery.kill(2, name="shop.send"),
        cemetery.kill(3, queue="post"),
        cemetery.kill(4, name="store.count"),
    ]
    with cemetery.letters() as letters:
        for chosen, expected in FILTERS:
            wanted = Filter(**chosen)
            assert [letter.task_id for letter in letters.last(wanted, 9)] == [ids[i] for i in expected[::-1]]
            assert sum(origin.dead for origin in letters.count(wanted)) == len(expected)
            picked = [id_ for page in letters._batches(wanted, None) for id_ in page]
            assert [letter.task_id for letter, _ in letters.read(picked)[::-1]] == [ids[i] for i in expected]


def test_filter_by_time(cemetery: Cemetery) -> None:
    """It is the time of the death that counts."""
    ids = [cemetery.kill(number) for number in range(3)]
    for hours, task_id in enumerate(ids):
        cemetery.rows(
            "UPDATE celery.dead_letter SET died_at = '2026-01-01T00:00Z'::timestamptz + %s * interval '1 h'"
            " WHERE message_id = (SELECT id FROM celery.message WHERE task_id = %s) RETURNING 1",
            hours,
            task_id,
        )
    with cemetery.letters() as letters:
        died = [letter.died_on for letter in reversed(letters.last(Filter(), 9))]
        assert [letter.task_id for letter in letters.last(Filter(since=died[1]), 9)] == [ids[2], ids[1]]
        assert [letter.task_id for letter in letters.last(Filter(before=died[1]), 9)] == [ids[0]]
