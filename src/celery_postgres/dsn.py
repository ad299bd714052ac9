"""Where the database is: URLs in, libpq's and SQLAlchemy's forms out, masked for people.

Every form that libpq takes is understood, and so are SQLAlchemy's, whose driver part is ignored:
several hosts, sockets, service files, TLS. An application's `DATABASE_URL` serves as it is.

No text that this module makes for people holds a password: no masked URL, no `repr`, no exception.
That is why the URL is taken apart here: libpq's own complaints quote it in full.
The values of the options are left to `options.py`, the values of libpq's keywords to libpq.
"""

from __future__ import annotations

import difflib
import functools
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from psycopg import pq
from psycopg.conninfo import make_conninfo

from celery_postgres.errors import ConfigurationError
from celery_postgres.options import option_names
from celery_postgres.url import UrlError, scheme_of, split_url, veiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy.engine import URL

__all__ = ["Dsn", "assemble", "mask", "parse"]

_log = logging.getLogger(__name__)

# Query parameters of drivers, of connection pools and of other tools that share one DATABASE_URL.
_FOREIGN_BY_OWNER = {
    "asyncpg": "async_creator_fn async_fallback command_timeout direct_tls max_cacheable_statement_size"
    " max_cached_statement_lifetime prepared_statement_cache_size prepared_statement_name_func"
    " server_settings statement_cache_size timeout",
    "psycopg": "autocommit executemany_mode prepare_threshold",
    "pg8000": "tcp_keepalive",
    "pools": "connection_limit max_overflow max_size min_size pgbouncer pool_pre_ping pool_recycle pool_size"
    " pool_timeout",
}
_FOREIGN = frozenset(name for names in _FOREIGN_BY_OWNER.values() for name in names.split())

# What asyncpg and pg8000 call `ssl`, as libpq's sslmode.
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS = {
    **{mode: mode for mode in _SSL_MODES},
    **dict.fromkeys(("true", "1", "yes", "on"), "require"),
    **dict.fromkeys(("false", "0", "no", "off"), "disable"),
}

# Beside those that libpq itself marks as secret.
_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)

# Not `read-write`, which takes a role's default_transaction_read_only for the server's: our settings win.
_PRIMARY = "primary" if pq.version() >= 140000 else "read-write"

# Bounded: Python refuses to read a number of thousands of digits.
_NUMBER = re.compile(r"[0-9]{1,9}")
_HOST_WITH_PORT = re.compile(r"([A-Za-z0-9.-]+):(\d+)")


@dataclass(frozen=True, repr=False)
class Dsn:
    """The address of one database; equal when all parameters are.

    `conninfo`: libpq's keywords and values.
    `options`: the query parameters that are options of the transport (see `options.py`), unread.
    A `connect_timeout` is in both, since it is a keyword and an option.
    """

    conninfo: Mapping[str, str]
    options: Mapping[str, str]

    def __hash__(self) -> int:
        return hash((frozenset(self.conninfo.items()), frozenset(self.options.items())))

    def __repr__(self) -> str:
        return f"Dsn({self.masked()!r})"

    def __str__(self) -> str:
        return self.masked()

    def libpq(self, **override: str | int | None) -> str:
        """A connection string for `psycopg.connect`, password included; None removes a keyword."""
        merged = {**self.conninfo, **override}
        return make_conninfo("", **{key: value for key, value in merged.items() if value is not None})

    def at_primary(self) -> Dsn:
        """The same; where it names several hosts and not which of them is meant, the primary is."""
        hosts = self.conninfo.get("host", "") + self.conninfo.get("hostaddr", "")
        if "," not in hosts or "target_session_attrs" in self.conninfo:
            return self
        return Dsn({**self.conninfo, "target_session_attrs": _PRIMARY}, self.options)

    def sqlalchemy(self) -> URL:
        """The same address for `create_engine`, over psycopg.

        SQLAlchemy hides only the password when it prints this; print `masked()` instead.
        """
        from sqlalchemy.engine import URL  # half a second that only migrations need

        rest = dict(self.conninfo)
        user, password, dbname = rest.pop("user", None), rest.pop("password", None), rest.pop("dbname", None)
        host, port = rest.get("host", ""), rest.get("port", "")
        if host and not host.startswith(("/", "@")) and "," not in host + port:
            del rest["host"]
            rest.pop("port", None)
            return URL.create(
                "postgresql+psycopg", user, password, host, int(port) if port else None, dbname, rest
            )
        if "," in host and port and "," not in port:
            # One port holds for all hosts; SQLAlchemy wants as many ports as hosts.
            rest["port"] = ",".join([port] * len(host.split(",")))
        elif "," in port and not host:
            # libpq counts the ports against `hostaddr`; SQLAlchemy only knows hosts.
            rest["host"] = "," * port.count(",")
        return URL.create("postgresql+psycopg", user, password, database=dbname, query=rest)

    def masked(self, mask: str = "**") -> str:
        """A URL for people, with `mask` in place of everything secret."""
        rest = dict(self.conninfo)
        userinfo = quote(rest.pop("user", ""), safe="")
        if rest.pop("password", None) is not None:
            userinfo += f":{mask}"
        hosts, ports = rest.pop("host", "").split(","), rest.get("port", "").split(",")
        if len(hosts) == len(ports):
            rest.pop("port", None)
        else:
            ports = [""] * len(hosts)
        where = ",".join(
            _quoted_host(host) + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=True)
        )
        path = quote(rest.pop("dbname", ""), safe="")
        query = "&".join(
            f"{key}={_veiled(key, value, mask)}" for key, value in {**self.options, **rest}.items()
        )
        return f"postgresql://{userinfo}{'@' if userinfo else ''}{where}/{path}{'?' if query else ''}{query}"


def parse(url: str) -> Dsn:
    """The address that a URL gives.

    Raises `ConfigurationError` for what is no such URL or holds an unknown parameter.
    """
    try:
        dsn, ignored = _read(url)
    except UrlError as wrong:
        raise ConfigurationError(f"cannot use the URL {mask(url)}: {wrong}") from wrong
    _log_ignored(ignored)
    return dsn


def assemble(
    *,
    hostname: str | None,
    userid: str | None,
    password: str | Callable[[], str] | None,
    virtual_host: str | None,
    port: str | int | None,
    extra: Mapping[str, object],
) -> Dsn:
    """The address from kombu's parts, which are all that it keeps after a failover.

    `hostname` is a host, or a whole URL: then its own parameters win over the parts.
    `extra` holds keywords and options as a query does; everything else wins over it.
    Beside a `hostname`, no host or port of `extra` is taken: they belong together.
    Raises `ConfigurationError` as `parse` does.
    """
    whole = parse(hostname) if hostname and "://" in hostname else None
    parts = {
        "host": None if whole else hostname,
        "port": None if whole else port,
        "user": userid,
        "password": password() if callable(password) else password,
        "dbname": (virtual_host or "").removeprefix("/"),
    }
    elsewhere = ("host", "hostaddr", "port") if hostname else ()
    given = {
        **{key: str(value) for key, value in extra.items() if value is not None and key not in elsewhere},
        **{key: str(value) for key, value in parts.items() if value},
        **(whole.options if whole else {}),
        **(whole.conninfo if whole else {}),
    }
    try:
        if any("\0" in value for value in given.values()):
            raise UrlError("a value holds a NUL character, which PostgreSQL does not take: remove it")
        dsn, ignored = _sorted({}, given.items())
    except UrlError as wrong:
        raise ConfigurationError(f"cannot use the parameters of the connection: {wrong}") from wrong
    _log_ignored(ignored)
    return dsn


def mask(url: str, mask: str = "**") -> str:
    """The URL, or `;`-separated URLs, without what is secret; `mask` stands for it.

    Takes any text. Where a text can be read in two ways, the one that hides more is chosen. Never raises.
    """
    pieces = str(url).split(";")
    if not all(scheme_of(piece) for piece in pieces):
        # The semicolon is part of something, perhaps of a password.
        pieces = [str(url)]
    return ";".join(_masked(piece, mask) for piece in pieces)


def _veiled(key: str, value: str, with_: str) -> str:
    """A value of the query for people. One is a URL itself, and hides its own secrets."""
    if key in _secrets():
        return with_
    return quote(mask(value, with_), safe="/,:@*") if key == "session_dsn" else quote(value, safe="/,:")


def _masked(url: str, mask: str) -> str:
    try:
        return _read(url)[0].masked(mask)
    except UrlError:
        return veiled(url, mask)


def _read(url: str) -> tuple[Dsn, list[str]]:
    """The address, and the names of the parameters that have no meaning here."""
    parts = split_url(url)
    shy = parts.doubtful or any(name in _secrets() for name, _ in parts.query)
    return _sorted(parts.base, parts.query, shy)


def _sorted(
    base: Mapping[str, str], given: Iterable[tuple[str, str]], shy: bool = False
) -> tuple[Dsn, list[str]]:
    """Keywords, options and ignored names told apart; what is given later wins.

    With `shy`, an unknown name is not repeated: it may be a piece of a password.
    """
    conninfo, options = dict(base), dict[str, str]()
    hosts, ignored = list[str](), list[str]()
    ssl = None
    for key, value in given:
        if key == "host":
            hosts.append(value)
        elif key == "ssl":
            ssl = _ssl_mode(value)
        elif key == "requiressl":
            ssl = "require" if value == "1" else "prefer"
        elif key in _keywords() or key in option_names():
            if key in _keywords():
                conninfo[key] = value
            if key in option_names():
                options[key] = value
        elif key in _FOREIGN:
            ignored.append(key)
        elif shy:
            raise UrlError(
                "unknown parameter beside a password: remove it, or write & in the password as %26"
            )
        else:
            raise UrlError(f"unknown parameter {key!r}: {_suggestion(key)}")
    if ssl:
        conninfo.setdefault("sslmode", ssl)
    _place(conninfo, hosts)
    return Dsn(conninfo, options), ignored


def _ssl_mode(value: str) -> str:
    mode = _SSL_WORDS.get(value.lower())
    if mode is None:
        raise UrlError(f"the value of ssl is unknown: use sslmode, one of {', '.join(_SSL_MODES)}")
    return mode


def _place(conninfo: dict[str, str], hosts: list[str]) -> None:
    """Put the query's hosts in (SQLAlchemy repeats host=name:port) and check the ports."""
    if hosts:
        found = [_HOST_WITH_PORT.fullmatch(host) for host in hosts]
        conninfo["host"] = ",".join(
            match[1] if match else host for match, host in zip(found, hosts, strict=True)
        )
        if any(found):
            conninfo["port"] = ",".join(match[2] if match else "" for match in found)
    ports = conninfo.get("port", "").split(",")
    if not all(not port or (_NUMBER.fullmatch(port) and 0 < int(port) < 65536) for port in ports):
        raise UrlError("a port is not a number from 1 to 65535: correct it, or write : in a password as %3A")
    hosts, addresses = conninfo.get("host", "").split(","), conninfo.get("hostaddr", "").split(",")
    if "host" in conninfo and "hostaddr" in conninfo and len(hosts) != len(addresses):
        raise UrlError(f"it has {len(hosts)} host and {len(addresses)} hostaddr: give both for each server")
    count = max(len(hosts), len(addresses))
    if len(ports) not in (1, count):
        raise UrlError(f"it has {len(ports)} ports for {count} host: give one port for all, or one for each")


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), sorted(_keywords() | option_names()), n=1)
    return f"did you mean {close[0]!r}?" if close else "remove it, or write a keyword of libpq or an option"


def _log_ignored(keys: list[str]) -> None:
    if keys:
        _log.info("Ignored in the database URL, since they concern other drivers: %s.", ", ".join(keys))


def _quoted_host(host: str) -> str:
    return f"[{quote(host, safe=':')}]" if ":" in host and "/" not in host else quote(host, safe="")


@functools.cache
def _keywords() -> frozenset[str]:
    """The keywords of the libpq that runs here."""
    return frozenset({item.keyword.decode() for item in pq.Conninfo.get_defaults()} | {"service", "passfile"})


@functools.cache
def _secrets() -> frozenset[str]:
    marked = {item.keyword.decode() for item in pq.Conninfo.get_defaults() if item.dispchar == b"*"}
    return _SECRETS | marked
