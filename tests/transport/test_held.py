"""Messages that are held until they are due."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from tests.fixtures.waiting import eventually

from .inbox import bodies_of, size

pytestmark = pytest.mark.differs(
    redis="its workers hold what is not due", amqp="its workers hold what is not due"
)


def test_what_is_due_takes_the_place_of_its_publication(new_queue, publish, broker):
    """It goes before what was published behind it, although that was ready earlier."""
    queue = new_queue()
    eta = datetime.now(timezone.utc) + timedelta(hours=1)
    publish(queue, "due", headers={"id": "1", "task": "t", "eta": eta.isoformat()})
    publish(queue, "behind", "further behind")
    assert size(queue) == 2
    assert new_queue().get() is None  # who takes with acknowledgement looks at the clock as well
    with psycopg.connect(broker.url, autocommit=True) as database:
        database.execute("UPDATE celery.delayed SET due_at = due_at - interval '1 h'")
    eventually(lambda: size(queue) == 3)
    assert bodies_of(queue, 3) == ["due", "behind", "further behind"]
