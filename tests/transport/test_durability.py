"""What a publish waits for: the disk for a persistent message, nothing for a transient one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Producer, Queue
from psycopg import sql

from celery_postgres.sql import Statement

pytestmark = pytest.mark.ours("synchronous_commit is PostgreSQL's")

# A deferred trigger runs as the first part of the commit, so it sees what the commit will go by.
WATCH = """
CREATE TABLE watched (body bytea, synchronous_commit text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
    INSERT INTO watched VALUES (NEW.body, current_setting('synchronous_commit')); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT ON celery.message DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch();
"""


@pytest.mark.parametrize("default", ["on", "off"])
def test_delivery_mode_says_whether_a_commit_waits_for_the_disk(fresh_broker, default):
    """Mode 2, the default, waits whatever the database says; mode 1 does not."""
    with psycopg.connect(fresh_broker.url, autocommit=True) as server:
        database = sql.Identifier(urlsplit(fresh_broker.url).path[1:])
        server.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = {}").format(database, default))
        # Where somebody may wait for it, a message is shown first and the disk is waited for afterwards.
        nobody = {"transport_options": {"notify": False}}
        with fresh_broker.connection(**nobody) as connection, connection.channel() as channel:
            Queue("q")(channel).declare()
            server.execute(WATCH)
            producer = Producer(channel, routing_key="q")
            for name, mode in (("persistent", 2), ("transient", 1), ("again", "persistent")):
                producer.publish(name, delivery_mode=mode)
            with producer.batch():
                producer.publish("in a batch")
                producer.publish("beside it", delivery_mode=1)
            with producer.batch():
                producer.publish("by itself", delivery_mode=1)
        assert dict(server.execute("SELECT convert_from(body, 'UTF8'), synchronous_commit FROM watched")) == {
            "persistent": "on",
            "transient": "off",
            "again": "on",
            "in a batch": "on",
            "beside it": "on",
            "by itself": "off",
        }


def test_claims_and_acknowledgements_do_not_wait_for_the_disk(channel: Any) -> None:
    """What a crash takes back of them is delivered again; what is published on the other session is kept."""
    setting = Statement("show_synchronous_commit", "SELECT current_setting('synchronous_commit')")
    transport = channel.connection
    assert transport.intake.session.run((setting, ()))[0].text(0, 0) == "off"
    assert transport.commands.session.run((setting, ()))[0].text(0, 0) == "on"
