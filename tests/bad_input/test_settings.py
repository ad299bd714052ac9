"""URLs and options that are wrong, foreign or unusual."""

from __future__ import annotations

import random
import re
from urllib.parse import quote

import pytest
from kombu import Connection

from celery_postgres import options as options_module
from celery_postgres.errors import ConfigurationError
from tests.fixtures.waiting import wait_until

from .admin import CANARY, connect, publish, refusal, take


@pytest.fixture(autouse=True)
def _nothing_announced(monkeypatch):
    monkeypatch.setattr(options_module, "_announced", set())


URLS = {
    "port that is a word": (f"postgresql://app:{CANARY}@h:port/db", "a port is not a number"),
    "port too high": (f"postgresql://app:{CANARY}@h:65536/db", "a port is not a number"),
    "raw at sign": (f"postgresql://app:{CANARY}/@h/db", "write @ as %40"),
    "raw slash": (f"postgresql://app:{CANARY}/x@h/db", "/ as %2F"),
    "raw percent": (f"postgresql://app:{CANARY}%zz@h/db", "write % as %25"),
    "IPv6 without brackets": (f"postgresql://app:{CANARY}@::1/db", r"write an IPv6 address as \[::1\]:5432"),
    "NUL": (f"postgresql://app:{CANARY}%00@h/db", "NUL character"),
    "newline": (f"postgresql://app:{CANARY}\n@h/db", "control character"),
    "not UTF-8": (f"postgresql://app:{CANARY}%ff@h/db", "encode the characters as UTF-8"),
    "lone surrogate": (f"postgresql://app:{CANARY}\udc80@h/db", "not UTF-8"),
    "parameter without value": (f"postgresql://app:{CANARY}@h/db?sslmode", "write name=value"),
    "unknown parameter": (f"postgresql://app:{CANARY}@h/db?ssl_mode=require", "did you mean 'sslmode'"),
    "unknown option": (f"postgresql://app:{CANARY}@h/db?poll_intervall=3", "did you mean 'poll_interval'"),
    "password in the query": (f"postgresql://app@h/db?password={CANARY}&shema=x", "unknown parameter"),
    "wrong value": (f"postgresql://app:{CANARY}@h/db?poll_interval=often", "set it to a number from 0.01"),
    "wrong timeout": (f"postgresql://app:{CANARY}@h/db?connect_timeout=soon", "set it to a number from 2"),
    "schema that is not ours": (f"postgresql://app:{CANARY}@h/db?schema=public", "for this purpose alone"),
    "ports without hosts": (f"postgresql://app:{CANARY}@h/db?port=1,2,3", "one port for all"),
}


@pytest.mark.parametrize("kind", URLS)
def test_wrong_url(kind):
    """What cannot be a URL of ours is named, with the remedy and without the password."""
    url, remedy = URLS[kind]
    connection = Connection(url)
    assert CANARY not in repr(connection) + str(connection) + connection.as_uri()
    with refusal(ConfigurationError) as told:
        connection.connect()
    assert told.matches(remedy)


def test_generated_urls_never_show_the_password():
    """Whatever surrounds the password: an error of ours or an attempt to connect, and no password."""
    chance = random.Random(7)
    alphabet = "ab/@:?#%&=[];,\\ +é\x00\ud800."
    for _ in range(300):
        before, after = ("".join(chance.choices(alphabet, k=chance.randint(0, 6))) for _ in range(2))
        # A semicolon separates brokers and a plus the driver, for kombu, before the URL is ours to read.
        text = f"{before}{CANARY}{after}".replace(";", ",")
        url = f"postgresql://app:{quote(text, errors='surrogatepass')}@127.0.0.1:1/db?nonsense={after[:1]}"
        with refusal(ConfigurationError):
            connect(url)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (
            {"poll_intervall": 3},
            "unknown option 'poll_intervall' in broker_transport_options: did you mean 'po",
        ),
        ({"strict": True}, "did you mean 'strict_declare'"),
        ({"xyzzy": 1}, "remove it; the options are auto_migrate, "),
        ({"schema": 'x"; DROP TABLE t; --'}, "set it to 1 to 40 lower-case letters"),
        ({"max_message_bytes": "16 MB"}, "set it to a whole number from 1024"),
        ({"notify": "perhaps"}, "set it to true or false"),
        ({"grace": -1}, "set it to a number from 0.1"),
        ({"poll_interval": 10}, "set max_poll_interval to 10 or more"),
        ({5: 6}, "unknown option 5"),
    ],
)
def test_wrong_option(admin, options, remedy):
    """An unknown or impossible option is an error with a suggestion, before anything is created."""
    with refusal(ConfigurationError) as told:
        publish(admin.url, transport_options=options)
    assert told.matches(re.escape(remedy))
    assert admin.schemas() == set()


def test_options_of_other_transports_are_announced_once(admin, log):
    """What Redis or SQS needed may stay: one line for each option, however many connections there are."""
    foreign = {"visibility_timeout": 3600, "fanout_prefix": True, "queue_name_prefix": "x-", "sep": "|"}
    for _ in range(3):
        publish(admin.url, transport_options=foreign)
        assert take(admin.url, transport_options=foreign) == 1
    said = [line for line in log.getvalue().splitlines() if "belongs to another transport" in line]
    assert sorted(re.findall(r"'(\w+)'", " ".join(said))) == sorted(foreign)
    assert all(line.startswith("INFO celery_postgres.options") for line in said)


def test_retry_policy_among_the_options_is_no_option(admin, log, new_app):
    """kombu reads its own settings there, and writes some: they are passed over without a word."""
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 1, "errback": None}
    app = new_app(broker_url=admin.url, broker_transport_options=dict(policy))
    for _ in range(2):
        app.send_task("t", retry=True, retry_policy=policy)
    assert admin.stored()["ready"] == 2
    assert "belongs to another transport" not in log.getvalue()


@pytest.mark.parametrize("given", [True, {"ssl_cert_reqs": "CERT_REQUIRED", "ca_certs": "/ca.pem"}])
def test_broker_use_ssl(admin, new_app, given):
    """`broker_use_ssl` is refused, with the way to say it here."""
    app = new_app(broker_url=admin.url, broker_use_ssl=given)
    with refusal(ConfigurationError) as told:
        app.send_task("t")
    assert told.matches("put sslmode=verify-full&sslrootcert=… into broker_url")
    assert admin.schemas() == set()


def test_broker_use_ssl_that_is_off(admin, new_app):
    """`broker_use_ssl=False` asks for nothing."""
    app = new_app(broker_url=admin.url, broker_use_ssl=False)
    app.send_task("t")
    assert admin.stored()["ready"] == 1


def test_read_and_write_urls(admin, new_role, new_app):
    """Publishers use `broker_write_url`, consumers `broker_read_url`, and neither the other's."""
    reader, writer = new_role(), new_role()
    publish(admin.url)
    assert take(admin.url) == 1
    for role in (reader, writer):
        admin.run(
            f'GRANT USAGE ON SCHEMA celery TO "{role}"',
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA celery TO "{role}"',
        )
    app = new_app(
        broker_url=admin.url_of("nobody"),
        broker_read_url=admin.url_of(reader),
        broker_write_url=admin.url_of(writer),
    )
    app.send_task("t")
    assert (admin.sessions_of(writer), admin.sessions_of(reader)) == (1, 0)
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        queue.get(timeout=5).ack()
        assert admin.sessions_of(reader) >= 1


@pytest.mark.parametrize("limit", [None, 0])
def test_no_pool(admin, new_role, new_app, limit):
    """Without a pool each publish has a connection of its own, and leaves none behind."""
    role = new_role()
    admin.run(f'GRANT CREATE ON DATABASE "{admin.database}" TO "{role}"')
    app = new_app(broker_url=admin.url_of(role), broker_pool_limit=limit)
    for _ in range(5):
        app.send_task("t")
        wait_until(lambda: admin.sessions_of(role) == 0, "the session of the publish ends")
    assert admin.stored()["ready"] == 5
