"""Dead letters are kept for ever, or for as long as is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu import Connection

from celery_postgres import sweeper
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    import pytest

    from .conftest import Cemetery

AGE = "UPDATE celery.dead_letter SET died_at = now() - interval '1 h' WHERE message_id = %s RETURNING 1"


def test_old_ones_go(cemetery: Cemetery, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their messages, in small batches, and nothing younger."""
    monkeypatch.setattr(sweeper, "_BATCH", 2)
    ids = [cemetery.kill(number) for number in range(6)]
    for row in cemetery.dead():
        if row["task_id"] != ids[3]:
            cemetery.rows(AGE, row["message_id"])
    cemetery.channel.close()
    cemetery.connection.release()  # which sweeps as well, and was not told
    with Connection(f"{cemetery.url}?dead_letter_keep=600") as other:
        channel = other.channel()
        channel.queue_declare("elsewhere", durable=True, auto_delete=False)
        channel.basic_consume("elsewhere", callback=lambda _: None)
        eventually(lambda: len(cemetery.dead()) == 1)
    assert [row["task_id"] for row in cemetery.rows("SELECT task_id FROM celery.message")] == [ids[3]]


def test_kept_for_ever_by_default(cemetery: Cemetery) -> None:
    """However old they are, who sweeps leaves them."""
    cemetery.kill(1)
    (row,) = cemetery.dead()
    cemetery.rows(AGE, row["message_id"])
    message = cemetery.channel.prepare_message(b"", properties={"expiration": "0"})
    cemetery.channel.basic_publish(message, "", "mail")
    eventually(lambda: not cemetery.ready())  # it has been swept: what was too late is dead, too
    assert row["message_id"] in {dead["message_id"] for dead in cemetery.dead()}
