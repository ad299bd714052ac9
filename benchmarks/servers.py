"""The servers behind the brokers: a place of our own on each, their settings, their process.

A server is used only over loopback or a local socket: the figures are of one machine,
and a benchmark is no load to put on somebody else's server.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

from benchmarks import processes
from benchmarks.counters import Counters

# Holds, in a Redis database whose contents may be removed, the process id of the benchmark that made them.
_MARKER = "celery-postgres-benchmark"

_POSTGRESQL_SETTINGS = (
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
)

_COUNTERS = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
       (SELECT coalesce(sum(n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables),
       (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()),
       (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid())
"""


class UnreachableError(Exception):
    """This server cannot be used for a measurement; the message says why and what to do."""


class Server(Protocol):
    """What a measurement needs of a broker's server."""

    def reach(self) -> None:
        """Connect once; raise UnreachableError."""

    def facts(self) -> dict[str, str]:
        """Return version and the settings on which the figures depend."""

    def process_id(self) -> int | None:
        """Return the server's root process, None if it is not a process of this machine."""

    def counters(self, name: str) -> Counters:
        """Return what the server has counted about the place, our own question left out."""

    def size_mb(self, name: str) -> float | None:
        """Return how large the place is, None if nobody can say."""

    def prepare(self, name: str) -> str:
        """Make a place called `name` and return the URL that leads to it."""

    def clean(self, name: str) -> None:
        """Remove the place and all that is in it."""


def demand_loopback(url: str) -> None:
    """Raise UnreachableError unless the URL leads to this machine."""
    parts = urlsplit(url)
    hosts = parse_qs(parts.query).get("host", []) + ([parts.hostname] if parts.hostname else [])
    for host in hosts:
        if not host.startswith("/") and not _is_loopback(host):
            raise UnreachableError(f"{host} is not this machine; give a URL on loopback")


class RedisServer:
    """A Redis database that must be empty, or left by an earlier benchmark."""

    def __init__(self, url: str) -> None:
        self._url = url

    def reach(self) -> None:
        """Ping, and refuse a database that holds something else."""
        demand_loopback(self._url)
        import redis

        client = self._client()
        try:
            keys = client.dbsize()
            owner = client.get(_MARKER)
        except redis.RedisError as error:
            raise UnreachableError(
                f"no Redis at {_without_password(self._url)} ({error}); start one or give --redis-url"
            ) from error
        if owner and int(owner) != os.getpid() and processes.command_of(int(owner)):
            raise UnreachableError(
                f"process {owner} is using {_without_password(self._url)};"
                " name another database with --redis-url"
            )
        if keys and not owner:
            raise UnreachableError(
                f"{_without_password(self._url)} holds {keys} keys; name an empty database with --redis-url"
            )

    def facts(self) -> dict[str, str]:
        """Return version and persistence."""
        client = self._client()
        facts = {"version": str(client.info("server")["redis_version"])}
        for setting in ("save", "appendonly", "appendfsync"):
            facts.update(client.config_get(setting))
        return facts

    def process_id(self) -> int | None:
        """Return the process that INFO names, if it is one of this machine."""
        pid = int(self._client().info("server")["process_id"])
        return pid if (processes.command_of(pid) or "").startswith("redis") else None

    def counters(self, name: str) -> Counters:
        """Return the commands and the connections of the whole server."""
        info = self._client().info()
        return Counters(
            commands=float(info["total_commands_processed"]), connections=info["connected_clients"] - 1.0
        )

    def size_mb(self, name: str) -> float | None:
        """Return the memory of the whole server."""
        return float(self._client().info("memory")["used_memory"]) / 1e6

    def prepare(self, name: str) -> str:
        """Mark the database as ours."""
        self._client().set(_MARKER, os.getpid())
        return self._url

    def clean(self, name: str) -> None:
        """Empty the database."""
        self._client().flushdb()

    def _client(self) -> Any:
        import redis

        return redis.Redis.from_url(self._url, decode_responses=True)


class RabbitmqServer:
    """A virtual host in which everything of ours begins with the place's name."""

    def __init__(self, url: str) -> None:
        self._url = url

    def reach(self) -> None:
        """Log in."""
        demand_loopback(self._url)
        from amqp.exceptions import AMQPError
        from kombu.exceptions import KombuError

        try:
            self._connection().release()
        except (OSError, AMQPError, KombuError) as error:
            raise UnreachableError(
                f"no RabbitMQ at {_without_password(self._url)} ({error}); start one or give --rabbitmq-url"
            ) from error

    def facts(self) -> dict[str, str]:
        """Return the version; the queues are declared by Celery: durable, classic."""
        with self._connection() as connection:
            properties = connection.connection.server_properties
        return {"version": str(properties["version"]), "queue": "classic, durable"}

    def process_id(self) -> int | None:
        """Return the only Erlang machine here that boots RabbitMQ."""
        return processes.named("beam.smp", "rabbit")

    def counters(self, name: str) -> Counters:
        """Return nothing: what is counted is behind a plugin, which costs what it counts."""
        return Counters()

    def size_mb(self, name: str) -> float | None:
        """Return None: one would have to ask on the server's command line."""
        return None

    def prepare(self, name: str) -> str:
        """Declare nothing: Celery does."""
        return self._url

    def clean(self, name: str) -> None:
        """Delete the queue and the exchanges; control and event queues go with their connections."""
        with self._connection() as connection:
            channel = connection.default_channel
            channel.queue_delete(name)
            for exchange in (name, f"{name}.pidbox", f"reply.{name}.pidbox", f"{name}.events"):
                channel.exchange_delete(exchange)

    def _connection(self) -> Any:
        from kombu import Connection

        return Connection(self._url, connect_timeout=3).ensure_connection(max_retries=1, timeout=3)


class PostgresqlServer:
    """A server on which the role may create a database; each place is a database of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    def reach(self) -> None:
        """Connect, and look whether databases may be created."""
        demand_loopback(self._url)
        import psycopg

        try:
            with self._connection() as connection:
                row = connection.execute(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
        except psycopg.OperationalError as error:
            raise UnreachableError(f"no PostgreSQL ({error}); start one or give --postgresql-url") from error
        if row is None or not row[0]:
            raise UnreachableError(
                "the role may not create databases; grant it CREATEDB or give --postgresql-url"
            )

    def facts(self) -> dict[str, str]:
        """Return version and durability."""
        with self._connection() as connection:
            values = {
                name: str(connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0])
                for name in ("server_version", *_POSTGRESQL_SETTINGS)
            }
            place = connection.execute(
                "SELECT setting FROM pg_settings WHERE name = 'data_directory'"
            ).fetchone()
        # Only a privileged role is told. Where memory plays the disk, fsync costs nothing.
        filesystem = _filesystem(place[0]) if place and self.process_id() else "unknown"
        return {"version": values.pop("server_version").split()[0], **values, "data on": filesystem}

    def process_id(self) -> int | None:
        """Return the parent of our own backend, if both are processes of this machine."""
        with self._connection() as connection:
            backend = connection.info.backend_pid
            if (processes.command_of(backend) or "").startswith("postgres"):
                return processes.parent_of(backend)
        return None

    def counters(self, name: str) -> Counters:
        """Return those of the database; a session hands its counts in at its end, or within ten seconds."""
        with self._connection(name) as connection:
            row = connection.execute(_COUNTERS).fetchone()
        return Counters(*map(float, row))

    def size_mb(self, name: str) -> float | None:
        """Return tables and indexes of the database, dead rows included."""
        with self._connection() as connection:
            row = connection.execute("SELECT pg_database_size(%s)", (name,)).fetchone()
        return float(row[0]) / 1e6

    def prepare(self, name: str) -> str:
        """Create the database; from template0, which nobody can be connected to."""
        from psycopg import sql

        with self._connection() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            )
        return self._url_of(name)

    def clean(self, name: str) -> None:
        """Drop the database, whoever is still connected to it."""
        from psycopg import sql

        with self._connection() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _connection(self, name: str | None = None) -> Any:
        import psycopg

        return psycopg.connect(self._url_of(name) if name else self._url, autocommit=True, connect_timeout=3)

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))


class PgmqServer(PostgresqlServer):
    """The same with pgmq in each place, from the SQL that its Python client brings.

    As an extension it would be the same statements; an extension has to lie among the server's files.
    """

    def facts(self) -> dict[str, str]:
        """Return those of the server, and the version of the SQL."""
        return {**super().facts(), "pgmq": _pgmq_sql().with_suffix(".sql.version").read_text().strip()}

    def prepare(self, name: str) -> str:
        """Create the database and pgmq in it."""
        url = super().prepare(name)
        with self._connection(name) as connection:
            connection.execute(_pgmq_sql().read_text())
        return url


class NoServer:
    """Stands for the server of the transport that has none."""

    def reach(self) -> None:
        """Do nothing: there is nothing to reach."""

    def facts(self) -> dict[str, str]:
        """Return nothing."""
        return {}

    def process_id(self) -> int | None:
        """Return None: no process."""
        return None

    def counters(self, name: str) -> Counters:
        """Return nothing: nobody counts."""
        return Counters()

    def size_mb(self, name: str) -> float | None:
        """Return None: nothing is kept."""
        return None

    def prepare(self, name: str) -> str:
        """Return a URL without a place."""
        return "null://"

    def clean(self, name: str) -> None:
        """Do nothing: the kept message lies in the directory of the run."""


def _pgmq_sql() -> Path:
    spec = importlib.util.find_spec("pgmq")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "sql" / "pgmq.sql"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _filesystem(path: str) -> str:
    """The kind of file system that holds a path of this machine."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if Path(path).is_relative_to(place)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def _is_loopback(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
