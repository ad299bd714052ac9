"""The URLs of all kinds of brokers: read as a person writes them, and shown without their secrets."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from celery_postgres import SCHEMES, dsn
from celery_postgres.url import veiled

MASK = "**"

_NAMED = re.compile(r"(?P<name>[^=:/|]+)=(?=[A-Za-z][A-Za-z0-9+.]*://)")
_SECRET = re.compile("pass|pwd|secret|token|key|cred|dsn", re.IGNORECASE)
# A | may stand in a password: it parts two URLs only where another one follows.
_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.]*://.*?(?=\|(?:[A-Za-z][A-Za-z0-9+.]*://|none$)|$)", re.DOTALL | re.IGNORECASE
)


def parsed(text: str) -> tuple[str | None, str, str | None]:
    """Name, broker and result backend of `[NAME=]BROKER[|BACKEND]`. ValueError says what is wrong."""
    match = _NAMED.match(text)
    name = match["name"].strip() if match else None
    broker, bar, backend = text[match.end() if match else 0 :].partition("|")
    if "://" not in broker:
        raise ValueError(
            "write it as [NAME=]BROKER[|BACKEND], such as redis://localhost/0 or 'amqp://|rpc://'"
        )
    if bar and backend != "none" and "://" not in backend:
        raise ValueError("behind the | stands the URL of the result backend, or none")
    return name, broker.strip(), backend.strip() or None if bar else None


def masked(url: str) -> str:
    """The URL with `**` in the place of whatever may be secret."""
    if scheme_of(url).partition("+")[0] in SCHEMES:
        return dsn.mask(url, MASK)
    scheme, mark, rest = url.partition("://")
    match = re.match(r"([^/?#]*)([^?#]*)\??(.*)", rest)
    if not mark or match is None or "@" in match[2] or "#" in rest:
        return veiled(url, MASK)  # a raw / or # in a password: nobody can tell what is what
    authority, path, query = match.groups()
    userinfo, at, where = authority.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    shown = "&".join(
        name + equals + (MASK if _SECRET.search(name) else value) for name, equals, value in pairs
    )
    credentials = f"{user}{colon}{MASK if colon else ''}{at}"
    return f"{scheme}://{credentials}{where}{path}{'?' if shown else ''}{shown}"


def masked_in(argument: str) -> str:
    """An argument of a command, with each URL in it masked."""
    return _URL.sub(lambda match: masked(match[0]), argument)


def masked_value(name: str, value: object) -> object:
    """The value of an option of this name, with whatever may be secret in it masked."""
    if isinstance(value, Mapping):
        return {key: masked_value(str(key), inner) for key, inner in value.items()}
    if _SECRET.search(name) and not isinstance(value, (bool, int, float)) and value is not None:
        return masked_in(value) if isinstance(value, str) and "://" in value else MASK
    return masked_in(value) if isinstance(value, str) else value


def scheme_of(url: str) -> str:
    """Everything before ://, in lower case."""
    return url.partition("://")[0].strip().lower()


def with_query(url: str, **values: str) -> str:
    """The URL with these parameters in its query, instead of those of the same name."""
    # Not put together by urllib, which takes the empty host out of `postgresql:///name`.
    before, _, query = url.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in values]
    return f"{before}?{urlencode([*kept, *values.items()])}"


def hosts(url: str) -> list[str]:
    """All hosts that the URL names; a socket is a path. Empty for the default of its kind."""
    parts = urlsplit(url)
    named = [host.rpartition("@")[2] for host in parts.netloc.rpartition("@")[2].split(",")]
    plain = [unquote(_without_port(host)) for host in named if host]
    asked = [host for given in parse_qs(parts.query).get("host", []) for host in given.split(",")]
    return [host for host in (*plain, *asked) if host]


def is_local(url: str) -> bool:
    """Whether it leads to this machine, by loopback or by a socket. False where it cannot be told."""
    return all(is_local_host(host) for host in hosts(url))


def is_local_host(host: str) -> bool:
    """The same for a host, or the path of a socket."""
    return host.startswith("/") or _is_loopback(host)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
