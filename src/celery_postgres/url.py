"""The text of a database URL: taken apart, or veiled when it cannot be.

Nothing here knows what a parameter means; that is `dsn.py`'s.
No complaint repeats a part of the URL, since each part may be a piece of a password.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

__all__ = ["UrlError", "UrlParts", "scheme_of", "split_url", "veiled"]

_NAMES = frozenset({"postgresql", "postgres"})

# Drivers as SQLAlchemy names them. kombu and Celery split a scheme at its first "+", so that the
# transport sees `psycopg://…` where `postgresql+psycopg://…` was written.
_DRIVERS = frozenset(
    {"aiopg", "asyncpg", "pg8000", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "pygresql"}
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*")
# Surrogates: bytes that are no UTF-8 and that PostgreSQL would refuse.
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^:\[\];]*)(?::\d*)?")
_NAME_OF_VALUE = re.compile(r"([^?&;=\s]+)\s*=")
_SECRET_WORDS = re.compile("pass|pwd|secret|token|key|cred|dsn", re.IGNORECASE)
_ESCAPE = "write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25 in user name and password"


class UrlError(ValueError):
    """What is wrong with a URL and the remedy, in words that hold nothing secret."""


class UrlParts(NamedTuple):
    """A URL taken apart and decoded.

    `base`: libpq's keywords and values from everything before the query.
    `query`: names and values in their order.
    `doubtful`: what looks like a query may be the rest of a password.
    """

    base: dict[str, str]
    query: list[tuple[str, str]]
    doubtful: bool


def scheme_of(url: str) -> str:
    """The scheme in lower case; empty when there is none."""
    scheme, mark, _ = url.strip().partition("://")
    return scheme.lower() if mark and _SCHEME.fullmatch(scheme) else ""


def split_url(url: str) -> UrlParts:
    """Take a PostgreSQL URL apart as libpq does, hosts and ports in its comma lists.

    Gentler than libpq in three points: the last @ ends the password and not the first, a value may
    hold "=", and blanks are allowed. Raises `UrlError`.
    """
    url = url.strip()
    _check_text(url)
    before, _, query = url.partition("://")[2].partition("?")
    authority, slash, path = before.partition("/")
    # libpq takes the beginning of a password with a raw / or ? for a port, and connects elsewhere.
    torn = ":" in authority and "@" not in authority and "@" in query and not slash
    if "@" in path or torn:
        raise UrlError(f"it has an @ behind the host: {_ESCAPE}")
    userinfo, _, where = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    hosts, ports = _hosts(where)
    base = {"user": user, "password": password, "host": hosts, "port": ports, "dbname": path}
    return UrlParts(
        {key: _decoded(value) for key, value in base.items() if value}, _pairs(query), "@" in query
    )


def veiled(text: str, mask: str) -> str:
    """A text that cannot be taken apart, with all hidden that may be a password or follow one."""
    scheme, mark, rest = _CONTROL.sub("?", text).partition("://")
    if not mark or not _SCHEME.fullmatch(scheme.strip()):
        scheme, mark, rest = "", "", scheme + mark + rest
    shown, hidden = rest, ""
    for match in _NAME_OF_VALUE.finditer(rest):
        if _SECRET_WORDS.search(unquote(match[1])):
            shown, hidden = rest[: match.end()] + mask, rest[match.end() :]
            break
    if "@" in shown and "@" not in hidden:
        before, _, after = shown.rpartition("@")
        user, colon, _ = before.partition(":")
        shown = f"{user}{colon}{mask if colon else ''}@{after}"
    elif ":" in shown and ("@" in hidden or not _plain(shown)):
        shown = f"{shown.partition(':')[0]}:{mask}"
    return f"{scheme}{mark}{shown}"


def _check_text(url: str) -> None:
    if _NO_CHARACTER.search(url):
        raise UrlError("it is not UTF-8: encode it as UTF-8")
    if _CONTROL.search(url):
        raise UrlError("it holds a control character: remove it")
    name, plus, _ = scheme_of(url).partition("+")
    if not name:
        raise UrlError("it has no scheme: begin it with postgresql://")
    if name not in _NAMES and (plus or name not in _DRIVERS):
        raise UrlError("its scheme is not PostgreSQL's: begin it with postgresql://")
    if re.search(r";[A-Za-z][A-Za-z0-9+]*://", url):
        raise UrlError("it is a list of URLs: give one, and several hosts as postgresql://h1:5432,h2:5432/db")


def _hosts(text: str) -> tuple[str, str]:
    """Hosts and ports as libpq lists them, by commas; still encoded."""
    hosts, ports = [], []
    for item in text.split(","):
        if item.startswith("["):
            host, closed, port = item[1:].partition("]")
            if not closed or (port and not port.startswith(":")):
                raise UrlError("the brackets of an IPv6 address are wrong: write it as [::1]:5432")
        else:
            host, colon, port = item.partition(":")
            port = colon + port
        if ":" in port[1:]:
            raise UrlError(f"a host has two ports: write an IPv6 address as [::1]:5432, and {_ESCAPE}")
        hosts.append(host)
        ports.append(port[1:])
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = []
    for item in query.split("&"):
        name, equals, value = item.partition("=")
        if equals:
            pairs.append((_decoded(name), _decoded(value)))
        elif item:
            torn = f", and {_ESCAPE}" if "@" in query else ""
            raise UrlError(f"a query parameter has no value: write name=value, and & in a value as %26{torn}")
    return pairs


def _decoded(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise UrlError("a % is not followed by two hexadecimal digits: write % as %25")
    if "%00" in text:
        raise UrlError("it holds a NUL character, which PostgreSQL does not take: remove it")
    # Not errors="strict": that exception would carry the text, and with it the password.
    decoded = unquote(text, errors="surrogateescape")
    if _NO_CHARACTER.search(decoded):
        raise UrlError("its escapes are not UTF-8: encode the characters as UTF-8, then as %XX")
    return decoded


def _plain(rest: str) -> bool:
    """Whether every colon before the path is a port's."""
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    return all(_PLAIN_HOST.fullmatch(host) for host in authority.split(","))
