"""A publisher and a pair of servers: the primary ends or steps down, its standby takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kombu import Connection

from tests.fixtures.standby import NAME, confirm_by, execute, standby, url_of_both

from .publishing import Publisher, stored_bodies

if TYPE_CHECKING:
    from tests.fixtures.standby import Standby

__all__ = ["standby"]


@pytest.mark.timeout(600)
def test_synchronous_failover_loses_nothing(embedded_server, standby: Standby) -> None:
    """The primary is killed at full speed: what was confirmed is on the promoted standby, once."""
    url = url_of_both(embedded_server, standby)
    with Connection(embedded_server.url) as connection:
        connection.SimpleQueue("q").close()
    confirm_by(embedded_server, NAME)
    with Publisher(url) as publisher:
        publisher.confirmed_more(200)
        embedded_server.crash()
        standby.promote()
        publisher.confirmed_more(200)
    stored = stored_bodies(standby.url)
    assert publisher.confirmed <= set(stored)
    assert len(stored) == len(set(stored))


@pytest.mark.timeout(600)
def test_session_of_a_primary_that_was_demoted_is_left(embedded_server, standby: Standby) -> None:
    """A server that only reads ends the session, and the next one finds the primary of the two."""
    url = url_of_both(embedded_server, standby)
    with Connection(url) as connection:
        queue = connection.SimpleQueue("q")
        queue.put("before")
        embedded_server.halt()
        (embedded_server.data_path / "standby.signal").touch()
        standby.promote()
        embedded_server.start()  # alive, and reads only
        queue.producer.publish("after", retry=True, retry_policy={"max_retries": 20, "interval_start": 0.1})
    assert execute(standby.url, "SELECT count(*) FROM celery.message") == [(2,)]


@pytest.mark.timeout(600)
def test_default_of_the_role_does_not_hide_the_primary(embedded_server, standby: Standby) -> None:
    """`default_transaction_read_only` of the role does not make a primary look like a standby."""
    execute(embedded_server.url, "ALTER ROLE postgres SET default_transaction_read_only = on")
    with Connection(url_of_both(standby, embedded_server)) as connection:
        connection.SimpleQueue("q").put("x")
    assert execute(embedded_server.url, "SELECT count(*) FROM celery.message") == [(1,)]
