"""A server that lets nobody in, or is not there."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from celery_postgres.errors import ConfigurationError, DatabaseUnavailable

from .admin import CANARY, Admin, connect, publish, refusal, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.embedded import EmbeddedPostgres


@pytest.fixture(scope="module")
def admin(private_server: EmbeddedPostgres) -> Admin:
    """Of a server that asks for passwords, with roles and databases that lack something."""
    admin = Admin(private_server.url)
    for attributes in ("app LOGIN", "sleeper NOLOGIN", "late LOGIN CONNECTION LIMIT 0"):
        admin.run(f"CREATE ROLE {attributes} PASSWORD '{CANARY}'")
    admin.run("CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    admin.run("CREATE DATABASE open", "GRANT CREATE ON DATABASE open, closed TO app, sleeper, late")
    return admin


MISTAKES = {
    "wrong password": ("app", CANARY[::-1], "open", "correct user or password of app$"),
    "no password": ("app", "", "open", "give a password in the URL"),
    "unknown role": ("nobody", CANARY, "open", "correct user or password of nobody$"),
    "no login": ("sleeper", CANARY, "open", 'ALTER ROLE "sleeper" LOGIN$'),
    "no database": ("app", CANARY, 'no "such"', 'CREATE DATABASE "no ""such""" ENCODING .UTF8. TEMPLATE'),
    "no right to connect": ("app", CANARY, "closed", 'GRANT CONNECT ON DATABASE "closed" TO "app"$'),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_is_named(admin, kind):
    """A wrong user, password or database is a configuration error that says what to correct."""
    role, password, database, remedy = MISTAKES[kind]
    with refusal(ConfigurationError) as told:
        connect(admin.url_of(role, password, database))
    assert re.search(remedy, str(told))
    assert "cannot connect to postgresql://" in str(told)
    assert password[::-1] not in told.shown or not password


@pytest.mark.parametrize("kind", ["no login", "no database", "no right to connect"])
def test_remedy_helps(admin, kind):
    """The SQL in the message, executed as it stands, lets the same connection in."""
    role, password, database, _ = MISTAKES[kind]
    options = {"schema": f"of_{role}"}  # the others may not look into it
    with Connection(admin.url_of(role, password, database), transport_options=options) as connection:
        with refusal(ConfigurationError) as told:
            connection.connect()
        remedy = re.search(r"(ALTER|CREATE|GRANT) .*", str(told))
        assert remedy
        admin.run(remedy[0])
        if kind == "no database":
            admin.run('GRANT CREATE ON DATABASE "no ""such""" TO app')
        connection.connect()
        connection.SimpleQueue("after").put(1)
        assert connection.SimpleQueue("after").get(timeout=5).payload == 1


PARAMETERS = {
    "sslmode=require": "correct sslmode",
    "sslmode=sometimes": "correct that parameter",
    "service=nowhere": "correct that parameter",
    "options=-c%20nosuch%3D1": "correct `options`",
    "options=-c%20statement_timeout%3Dsoon": "correct `options`",
}


@pytest.mark.parametrize("query", PARAMETERS)
def test_wrong_parameter_is_named(admin, query):
    """A keyword of libpq that this server or libpq does not take is a configuration error."""
    with refusal(ConfigurationError) as told:
        connect(f"{admin.url_of('app', database='open')}?{query}")
    assert PARAMETERS[query] in str(told)


def closed_port() -> int:
    """A port at which nobody listens: it was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "where", ["127.0.0.1:{port}", "no-such-host.invalid", "%2Fno%2Fsuch%2Ffolder", "[::1]:{port}"]
)
def test_no_server(where):
    """Nobody there is worth a retry, and the message names the server, the host and the port."""
    with refusal(DatabaseUnavailable) as told:
        connect(f"postgresql://app:{CANARY}@{where.format(port=closed_port())}/db")
    assert str(told).endswith(": start the server, or correct host and port in the URL")


def test_one_of_several_hosts_is_enough(admin):
    """Hosts that do not answer are passed over."""
    url = admin.url_of("app", database="open").replace("@", f"@127.0.0.1:{closed_port()},")
    publish(url, "here")
    assert take(url) == "here"


def test_too_many_connections(admin):
    """A full server is worth a retry, and the message names the limits."""
    with refusal(DatabaseUnavailable) as told:
        connect(admin.url_of("late", database="open"))
    assert "max_connections" in str(told)
    assert "CONNECTION LIMIT" in str(told)


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """The port of a server that accepts, answers once if at all, and then says nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:  # closed: the test is over
                    return
                accepted.append(client)
                if answer is not None:
                    client.recv(1024)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in accepted:
                client.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n"])
def test_other_service(answer):
    """A port at which something else listens is not mistaken for a database."""
    with listener(answer) as port, refusal(DatabaseUnavailable) as told:
        connect(f"postgresql://app:{CANARY}@127.0.0.1:{port}/db", connect_timeout=3)
    assert "correct host and port" in str(told)


def seconds_of_an_attempt(connection: Connection) -> float:
    """How long one attempt takes that is given up. kombu makes a second one two seconds after its end."""
    begin = time.monotonic()
    with refusal(DatabaseUnavailable) as told:
        connection.transport.establish_connection()
    assert "timeout expired" in str(told)
    return time.monotonic() - begin


@pytest.mark.parametrize("answer", [None, b"N"], ids=["silent", "silent after a word"])
def test_silent_server_is_given_up_in_time(new_app, answer):
    """`broker_connection_timeout` is how long an attempt to connect may take."""
    with listener(answer) as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/db"
        app = new_app(broker_url=url, broker_connection_timeout=3)
        with app.connection_for_write() as connection:
            assert 2.5 < seconds_of_an_attempt(connection) < 7.5


@pytest.mark.parametrize("place", ["option", "url"])
def test_timeout_is_an_option_too(place):
    """`connect_timeout`, as an option or in the URL, wins over kombu's."""
    with listener(None) as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/db"
        options = {"connect_timeout": 2} if place == "option" else {}
        url = url if options else f"{url}?connect_timeout=2"
        with Connection(url, connect_timeout=30, transport_options=options) as connection:
            assert seconds_of_an_attempt(connection) < 5.5


def test_publisher_gets_the_error(new_app):
    """`delay()` without a server raises what kombu raises for every broker, after its retries."""
    app = new_app(broker_url=f"postgresql://app:{CANARY}@127.0.0.1:{closed_port()}/db")
    with refusal(OperationalError) as told:
        app.send_task("t", retry=True, retry_policy={"max_retries": 2, "interval_start": 0.1})
    assert "start the server" in str(told)
    with refusal(OperationalError):
        app.send_task("t", retry=False)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_other_encoding(admin, encoding):
    """A database that is not UTF8 is refused before anything is created in it."""
    name = f"in_{encoding.lower()}"
    admin.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = Admin(admin.url_of("postgres", admin.password, name)).url
    with refusal(ConfigurationError) as told:
        publish(url)
    assert encoding in str(told)
    assert "ENCODING 'UTF8' and TEMPLATE template0" in str(told)
    assert Admin(url).schemas() == set()
