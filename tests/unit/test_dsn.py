"""Every form of a database URL is read, and what is wrong is refused with its remedy."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING

import pytest
from kombu.utils.url import parse_url
from psycopg.conninfo import conninfo_to_dict

from celery_postgres import dsn as dsn_module
from celery_postgres.dsn import Dsn, assemble, mask, parse
from celery_postgres.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBPQ_FORMS = [
    "postgresql://",
    "postgresql:///db",
    "postgres://h/db",
    "postgresql://h",
    "postgresql://h/",
    "postgresql://h?",
    "postgresql://h:5433/db",
    "postgresql://h:/db",
    "postgresql://:5433/db",
    "postgresql://u@h/db",
    "postgresql://u@/db",
    "postgresql://@h/db",
    "postgresql://u:@h/db",
    "postgresql://:pw@h/db",
    "postgresql://u:pw@h/db?sslmode=require&target_session_attrs=read-write",
    "postgresql://u%40corp:p%40%3A%2F%3F%23%25@h/d%20b%2F1",
    "postgresql://u:%C3%A9%E2%82%AC@h/db",
    "postgresql://u:a+b@h/db?application_name=a+b",
    "postgresql://u:pw#1@h/db#1",
    "postgresql://h/a/b",
    "postgresql://h1:5432,h2:5433/db",
    "postgresql://h1,h2:5433/db",
    "postgresql://h1:5432,/db",
    "postgresql://h1,h2/db?port=5433",
    "postgresql://u:pw@h1:1,[::1]:2,10.0.0.1:3/db?load_balance_hosts=random",
    "postgresql://[::1]:5433/db",
    "postgresql://[::1]/db",
    "postgresql://[fe80::1%25eth0]/db",
    "postgresql://%2Ftmp%2Fx:5433/db",
    "postgresql://u:pw@%2Ftmp%2Fx",
    "postgresql:///db?host=/tmp/x",
    "postgresql:///db?host=%2Ftmp%2Fx&port=5433",
    "postgresql://h/db?host=other",
    "postgresql:///db?host=h1,h2&port=1,2",
    "postgresql:///db?hostaddr=10.0.0.1,10.0.0.2&port=1,2",
    "postgresql://?service=jobs",
    "postgresql:///?service=jobs&passfile=/etc/pgpass",
    "postgresql:///db?user=u&password=pw&sslpassword=pw2",
    "postgresql://h:5432/db?user=me@tenant",
    "postgresql://h/db?options=-c%20search_path%3Da%2Cb",
    "postgresql://h/db?sslmode=",
    "postgresql://h/db?sslmode=allow&sslmode=require",
    "postgresql://h/db?ssl=true",
    "postgresql://h/db?requiressl=1",
    "postgresql://h/db?requiressl=0",
    "postgresql://h/db?connect_timeout=5&keepalives_idle=5",
]


@pytest.mark.parametrize("url", LIBPQ_FORMS)
def test_reads_a_url_as_libpq_does(url: str) -> None:
    """A URL that libpq takes means the same here."""
    assert parse(url).conninfo == conninfo_to_dict(url)


@pytest.mark.parametrize("url", LIBPQ_FORMS)
def test_libpq_string_says_the_same(url: str) -> None:
    """The connection string holds every parameter, quoted where it must be."""
    assert conninfo_to_dict(parse(url).libpq()) == conninfo_to_dict(url)


@pytest.mark.parametrize("url", LIBPQ_FORMS)
def test_sqlalchemy_url_says_the_same(url: str) -> None:
    """SQLAlchemy passes every parameter on to psycopg, sockets and several hosts included."""
    wanted = {key: value for key, value in conninfo_to_dict(url).items() if value != ""}
    if "," in wanted.get("host", "") and "," not in wanted.get("port", ","):
        # libpq takes one port for all hosts; SQLAlchemy wants as many.
        wanted["port"] = ",".join([wanted["port"]] * len(wanted["host"].split(",")))
    if "," in wanted.get("port", "") and "host" not in wanted:
        wanted["host"] = "," * wanted["port"].count(",")
    address = parse(url).sqlalchemy()
    _, found = address.get_dialect()().create_connect_args(address)
    assert address.drivername == "postgresql+psycopg"
    assert {key: str(value) for key, value in found.items() if value != ""} == wanted


@pytest.mark.parametrize("url", LIBPQ_FORMS)
def test_masked_url_reads_back(url: str) -> None:
    """The URL for people is a URL: only what is secret differs."""
    secrets = ("password", "sslpassword")
    address = parse(url)
    shown = {key: "**" if key in secrets else value for key, value in address.conninfo.items()}
    assert parse(address.masked()).conninfo == shown


DRIVER_FORMS = [
    f"{scheme}://u:pw@h:5433/db"
    for scheme in (
        "postgresql",
        "postgres",
        "PostgreSQL",
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+psycopg_async",
        "postgresql+asyncpg",
        "postgresql+pg8000",
        "postgres+psycopg",
        # What is left after kombu and Celery have split at the first "+".
        "psycopg",
        "psycopg2",
        "psycopg_async",
        "asyncpg",
        "pg8000",
    )
]


@pytest.mark.parametrize("url", [*DRIVER_FORMS, "  postgresql://u:pw@h:5433/db\n"])
def test_driver_in_the_scheme_is_ignored(url: str) -> None:
    """SQLAlchemy's schemes, kombu's remainder of them and outer blanks change nothing."""
    assert parse(url) == parse("postgresql://u:pw@h:5433/db")


@pytest.mark.parametrize(
    ("url", "conninfo"),
    [
        ("postgresql://u:p@w@h/db", {"user": "u", "password": "p@w", "host": "h", "dbname": "db"}),
        ("postgresql://u:p:w@h", {"user": "u", "password": "p:w", "host": "h"}),
        ("postgresql://me@corp:pw@h", {"user": "me@corp", "password": "pw", "host": "h"}),
        ("postgresql://h/a b", {"host": "h", "dbname": "a b"}),
        ("postgresql://h?options=-csearch_path=a", {"host": "h", "options": "-csearch_path=a"}),
        ("postgresql://h/db?&sslmode=allow&", {"host": "h", "dbname": "db", "sslmode": "allow"}),
        ("postgresql:///db?host=a:1&host=b", {"dbname": "db", "host": "a,b", "port": "1,"}),
        ("postgresql:///db?host=a:1", {"dbname": "db", "host": "a", "port": "1"}),
        ("postgresql:///db?host=/tmp/x&host=b", {"dbname": "db", "host": "/tmp/x,b"}),
        ("postgresql+asyncpg://h/?ssl=require", {"host": "h", "sslmode": "require"}),
        ("postgresql+asyncpg://h/?ssl=Verify-Full", {"host": "h", "sslmode": "verify-full"}),
        ("postgresql+pg8000://h/?ssl=True", {"host": "h", "sslmode": "require"}),
        ("postgresql+asyncpg://h/?ssl=false", {"host": "h", "sslmode": "disable"}),
        ("postgresql://h/?ssl=prefer&sslmode=verify-ca", {"host": "h", "sslmode": "verify-ca"}),
        ("postgresql://h/?sslmode=verify-ca&ssl=true", {"host": "h", "sslmode": "verify-ca"}),
    ],
)
def test_reads_what_others_write(url: str, conninfo: Mapping[str, str]) -> None:
    """Forms that libpq refuses or misreads, but that SQLAlchemy, asyncpg or people use."""
    assert parse(url).conninfo == conninfo


def test_options_are_told_from_keywords() -> None:
    """A parameter named as an option goes to the options and not to libpq."""
    address = parse("postgresql://h/db?schema=jobs&poll_interval=2&sslmode=require")
    assert address.options == {"schema": "jobs", "poll_interval": "2"}
    assert address.conninfo == {"host": "h", "dbname": "db", "sslmode": "require"}
    assert address.masked() == "postgresql://h/db?schema=jobs&poll_interval=2&sslmode=require"


def test_connect_timeout_is_keyword_and_option() -> None:
    """A connect_timeout in the URL reaches libpq and the options alike."""
    address = parse("postgresql://h/db?connect_timeout=5")
    assert address.conninfo["connect_timeout"] == address.options["connect_timeout"] == "5"


def test_parameters_of_drivers_are_ignored_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Parameters of other drivers are named in one line and dropped."""
    caplog.set_level(logging.INFO, dsn_module.__name__)
    address = parse("postgresql+asyncpg://u:pw-never@h/db?async_fallback=1&prepared_statement_cache_size=0")
    assert address == parse("postgresql://u:pw-never@h/db")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "async_fallback, prepared_statement_cache_size" in caplog.text
    assert "pw-never" not in caplog.text


def test_masking_does_not_log(caplog: pytest.LogCaptureFixture) -> None:
    """Masking a URL is silent, however often a log needs it."""
    caplog.set_level(logging.DEBUG)
    assert mask("postgresql+asyncpg://u:pw@h/db?async_fallback=1") == "postgresql://u:**@h/db"
    assert not caplog.records


def test_libpq_overrides() -> None:
    """An override replaces, adds or with None removes a keyword."""
    text = parse("postgresql://u:pw@h/db").libpq(application_name="a b", connect_timeout=3, password=None)
    assert conninfo_to_dict(text) == {
        "user": "u",
        "host": "h",
        "dbname": "db",
        "application_name": "a b",
        "connect_timeout": "3",
    }


def test_equal_addresses_are_one_key() -> None:
    """Addresses serve as keys: equal with equal parameters in any order, through pickle as well."""
    one = parse("postgresql://h/db?sslmode=require&application_name=a&schema=jobs")
    two = parse("postgres://h/db?schema=jobs&application_name=a&sslmode=require")
    other = parse("postgresql://h/db?sslmode=require&application_name=a")
    assert {one: 1}[two] == 1
    assert one != other
    assert pickle.loads(pickle.dumps(one)) == one


REFUSED = [
    ("", "it has no scheme: begin it with postgresql://"),
    ("h:5432/db", "it has no scheme: begin it with postgresql://"),
    ("host=h dbname=db", "it has no scheme: begin it with postgresql://"),
    ("://h/db", "it has no scheme: begin it with postgresql://"),
    ("mysql://h/db", "its scheme is not PostgreSQL's: begin it with postgresql://"),
    ("mysql+psycopg://h/db", "its scheme is not PostgreSQL's: begin it with postgresql://"),
    ("psycopg+postgresql://h/db", "its scheme is not PostgreSQL's: begin it with postgresql://"),
    ("postgressql://h/db", "its scheme is not PostgreSQL's: begin it with postgresql://"),
    ("postgresql://h1/db;postgresql://h2/db", "it is a list of URLs: give one, and several hosts as"),
    ("postgresql://h:abc/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h:0/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h:65536/db", "a port is not a number from 1 to 65535: correct it"),
    (f"postgresql://h:{'1' * 10_000}/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h:-1/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h:\N{ARABIC-INDIC DIGIT FIVE}/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h/db?port=abc", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h1,h2:x/db", "a port is not a number from 1 to 65535: correct it"),
    ("postgresql://h:1:2/db", "a host has two ports: write an IPv6 address as [::1]:5432"),
    ("postgresql://::1/db", "a host has two ports: write an IPv6 address as [::1]:5432"),
    ("postgresql://[::1/db", "the brackets of an IPv6 address are wrong: write it as [::1]:5432"),
    ("postgresql://[::1]5/db", "the brackets of an IPv6 address are wrong: write it as [::1]:5432"),
    (
        "postgresql:///db?host=a,b&port=1,2,3",
        "it has 3 ports for 2 host: give one port for all, or one for each",
    ),
    ("postgresql:///db?port=1,2", "it has 2 ports for 1 host: give one port for all, or one for each"),
    ("postgresql://h/db?hostaddr=a,b", "it has 1 host and 2 hostaddr: give both for each server"),
    ("postgresql://u:%zz@h/db", "a % is not followed by two hexadecimal digits: write % as %25"),
    ("postgresql://h/100%", "a % is not followed by two hexadecimal digits: write % as %25"),
    ("postgresql://h/db?options=%2", "a % is not followed by two hexadecimal digits: write % as %25"),
    ("postgresql://h/d%00b", "it holds a NUL character, which PostgreSQL does not take: remove it"),
    ("postgresql://h/d\0b", "it holds a control character: remove it"),
    ("postgresql://h/d\nb", "it holds a control character: remove it"),
    ("postgresql://u:%C3%28@h/db", "its escapes are not UTF-8: encode the characters as UTF-8, then as %XX"),
    ("postgresql://h/d%ED%A0%80", "its escapes are not UTF-8: encode the characters as UTF-8, then as %XX"),
    ("postgresql://h/d\ud800", "it is not UTF-8: encode it as UTF-8"),
    (
        "postgresql://h/db?sslmode",
        "a query parameter has no value: write name=value, and & in a value as %26",
    ),
    (
        "postgresql://h/db?ssl=maybe",
        "the value of ssl is unknown: use sslmode, one of disable, allow, prefer",
    ),
    ("postgresql://h/db?sslmod=require", "unknown parameter 'sslmod': did you mean 'sslmode'?"),
    ("postgresql://h/db?SSLMODE=require", "unknown parameter 'SSLMODE': did you mean 'sslmode'?"),
    ("postgresql://h/db?shema=jobs", "unknown parameter 'shema': did you mean 'schema'?"),
    (
        "postgresql://h/db?zzzz=1",
        "unknown parameter 'zzzz': remove it, or write a keyword of libpq or an option",
    ),
    ("postgresql://u:1/2@h/db", "it has an @ behind the host: write @ as %40, : as %3A, / as %2F, ? as %3F"),
    ("postgresql://u:1?2@h/db", "it has an @ behind the host: write @ as %40, : as %3A, / as %2F, ? as %3F"),
    ("postgresql://h/db?password=a&b=c", "unknown parameter beside a password: remove it, or write & in the"),
]


@pytest.mark.parametrize(("url", "complaint"), REFUSED)
def test_refuses_what_is_wrong(url: str, complaint: str) -> None:
    """What is wrong is said with its remedy, behind the masked URL, and the reason is chained."""
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert str(caught.value).startswith(f"cannot use the URL {mask(url)}: {complaint}")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40w@h:5433/db",
        "postgresql://u:pw@h/db",
        "postgresql://u@h",
        "postgresql://h",
        "postgresql://%2Ftmp%2Fx/db",
    ],
)
def test_assembles_what_kombu_keeps(url: str) -> None:
    """The parts into which kombu splits a URL at a failover give the same address."""
    parts = parse_url(url)
    assert parts.pop("transport") == "postgresql"
    assert assemble(**parts, extra={}) == parse(url)


def test_assembles_with_the_parameters_of_the_first_url() -> None:
    """Keywords and options stay over a failover; the first URL's place does not."""
    first = parse("postgresql://u:pw@h1:5433/db?sslmode=require&hostaddr=10.0.0.1&schema=jobs")
    second = assemble(
        hostname="h2",
        userid=None,
        password=None,
        virtual_host=None,
        port=None,
        extra={**first.options, **first.conninfo},
    )
    assert second == parse("postgresql://u:pw@h2/db?sslmode=require&schema=jobs")


@pytest.mark.parametrize(
    ("parts", "conninfo"),
    [
        ({}, {}),
        ({"virtual_host": "/"}, {}),
        ({"virtual_host": "/db"}, {"dbname": "db"}),
        ({"port": 5433}, {"port": "5433"}),
        ({"port": "5433", "hostname": "h"}, {"host": "h", "port": "5433"}),
        ({"hostname": "h:5433"}, {"host": "h", "port": "5433"}),
        ({"hostname": "::1"}, {"host": "::1"}),
        ({"password": lambda: "fresh"}, {"password": "fresh"}),
        ({"extra": {"host": "h", "port": 1, "keepalives": 1}}, {"host": "h", "port": "1", "keepalives": "1"}),
        ({"extra": {"sslmode": None, "ssl": "require"}}, {"sslmode": "require"}),
        ({"extra": {"user": "x"}, "userid": "u"}, {"user": "u"}),
        (
            {"hostname": "postgresql://h/db", "userid": "u", "port": 1},
            {"user": "u", "host": "h", "dbname": "db"},
        ),
        (
            {"hostname": "postgresql://u@h", "userid": "x", "password": "p"},
            {"user": "u", "password": "p", "host": "h"},
        ),
        ({"hostname": "postgresql://"}, {}),
    ],
)
def test_assembles_from_any_parts(parts: dict[str, object], conninfo: Mapping[str, str]) -> None:
    """Missing parts are left to libpq, and what is said nearer to the host wins."""
    nothing = dict.fromkeys(("hostname", "userid", "password", "virtual_host", "port"))
    assert assemble(**{**nothing, "extra": {}, **parts}).conninfo == conninfo


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"port": "abc"}, "a port is not a number from 1 to 65535"),
        (
            {"extra": {"sslmod": "require", "password": "pw"}},
            "unknown parameter 'sslmod': did you mean 'sslmode'?",
        ),
        ({"password": "p\0w"}, "a value holds a NUL character, which PostgreSQL does not take: remove it"),
    ],
)
def test_refuses_wrong_parts(parts: dict[str, object], complaint: str) -> None:
    """Wrong parts are refused as a wrong URL is."""
    nothing = dict.fromkeys(("hostname", "userid", "password", "virtual_host", "port"))
    with pytest.raises(ConfigurationError) as caught:
        assemble(**{**nothing, "extra": {}, **parts})
    assert str(caught.value).startswith(f"cannot use the parameters of the connection: {complaint}")


def test_a_dsn_made_by_hand_is_masked_too() -> None:
    """Ports and hosts that do not match are still shown."""
    address = Dsn({"host": "h", "hostaddr": "10.0.0.1,10.0.0.2", "port": "1,2", "password": "pw"}, {})
    assert str(address) == "postgresql://:**@h/?hostaddr=10.0.0.1,10.0.0.2&port=1,2"
