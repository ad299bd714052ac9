"""No text made for people shows a password, whatever the password and wherever it stands."""

from __future__ import annotations

import itertools
import traceback
from urllib.parse import quote

import pytest

from celery_postgres.dsn import assemble, mask, parse
from celery_postgres.errors import ConfigurationError
from celery_postgres.options import Options

# Pieces that occur nowhere else, and what may stand between them. Digits alone pass for a port.
PIECES = [(("xq", "jv", "zk"), "@:/?#%&=;, ["), (("4711", "8150", "9034"), "@:/?&=;,")]
PLACES = [
    "postgresql://me:{}@h/db",
    "postgresql://me:{}@h1:5432,h2:5433/db?sslmode=require",
    "postgresql+asyncpg://me:{}@%2Ftmp%2Fs/db?ssl=true",
    "psycopg://:{}@h",
    "postgresql://me:{}@h:nonsense/db",
    "postgresql://me:{}@h/db?unknown=1",
    "postgresql://me@h/db?password={}",
    "postgresql://me@h/db?sslmode=require&password={}&application_name=a",
    "postgresql://me@h/db?pass%77ord={}",
    "postgresql://me@h/db?sslpassword={}&unknown=1",
    "postgresql://me:{0}@h/db?password={0}",
    "postgresql://h/db?session_dsn=postgresql://me:{}@direct/db",
    "postgresql://h:5432/?session_dsn=postgresql://me:{}@direct",
    "postgresql://h/db?session_dsn=postgresql://me:{}@direct/db&unknown=1",
]
ELSEWHERE = [
    "me:{}@h/db",
    "host=h user=me password={}",
    "host=h password = '{}' user=me",
    "redis://:{}@h:6379/0",
    "amqp://me:{}@h//",
    "sqla+postgresql://me:{}@h/db",
    "postgresql://h1/db;postgresql://me:{}@h2/db",
    "postgresql://me:{}@h1/db;h2",
    "sqs://key:{}@",
]
WHOLE = ["p@ss:w/rd?#%", "xq@jv:zk/xq?#%", "4711", "a;postgres", "é€", "%zz", "%00", "%ff", "\0", "\ud800"]


# Each password with the pieces that must not show.
PASSWORDS = [
    (f"{a}{one}{b}{two}{c}", (a, b, c))
    for (a, b, c), between in PIECES
    for one, two in itertools.product(between, repeat=2)
] + [(word, (word,)) for word in WHOLE]


def said_about(url: str) -> str:
    """Everything that this package says about a URL."""
    said = [mask(url)]
    try:
        address = parse(url)
    except ConfigurationError as error:
        cause: BaseException | None = error
        while cause:
            said += [str(cause), repr(cause)]
            cause = cause.__cause__ or cause.__context__
    else:
        said += [repr(address), str(address), address.masked(), repr([address])]
    return "\n".join(said)


@pytest.mark.parametrize("place", PLACES)
def test_no_password_shows(place: str) -> None:
    """Raw in the authority or in the query: neither a password nor a piece of one shows."""
    leaks = [
        (url, piece)
        for password, pieces in PASSWORDS
        for url in [place.format(password)]
        for said in [said_about(url)]
        for piece in pieces
        if piece in said
    ]
    assert not leaks


@pytest.mark.parametrize("place", PLACES)
def test_no_encoded_password_shows(place: str) -> None:
    """An encoded password shows neither as it is written nor as it is meant."""
    for password in WHOLE:
        encoded = quote(password, safe="", errors="replace")
        said = said_about(place.format(encoded))
        assert password not in said
        assert encoded not in said


@pytest.mark.parametrize("password", WHOLE)
@pytest.mark.parametrize(
    "place", ["postgresql://me:{}@h:nonsense/db", "postgresql://me@h/db?password={}&unknown=1"]
)
def test_no_password_shows_in_a_traceback(place: str, password: str) -> None:
    """A printed traceback shows no password, chained errors included."""
    with pytest.raises(ConfigurationError) as caught:
        parse(place.format(password))
    assert password not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))


@pytest.mark.parametrize("place", ELSEWHERE)
def test_no_password_shows_in_other_texts(place: str) -> None:
    """Lists, other brokers' URLs, connection strings and texts without a scheme are masked as well."""
    leaks = [
        (text, piece)
        for password, pieces in PASSWORDS
        for text in [place.format(password)]
        for piece in pieces
        if piece in mask(text)
    ]
    assert not leaks


@pytest.mark.parametrize("password", ["", "**", "p@ss:w/rd?#%", "me", "h", "db"])
def test_the_mask_does_not_depend_on_the_password(password: str) -> None:
    """An encoded password shows as the mask, even one that is empty or like the other parts."""
    encoded = quote(password, safe="")
    shown = "postgresql://me:**@h/db"
    assert mask(f"postgresql://me:{encoded}@h/db") == (shown if password else "postgresql://me@h/db")
    assert parse(f"postgresql://me@h/db?password={encoded}").masked() == shown


@pytest.mark.parametrize("keyword", ["password", "sslpassword", "scram_client_key", "oauth_client_secret"])
def test_secret_keywords_are_masked(keyword: str) -> None:
    """libpq's other secrets are masked like the password."""
    extra = {keyword: "xq-never"}
    address = assemble(hostname="h", userid="me", password=None, virtual_host="db", port=None, extra=extra)
    assert "xq-never" not in f"{address!r} {address}"
    assert "xq-never" in address.libpq()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@h/db", "postgresql://me:--@h/db"),
        ("postgresql+psycopg2://me:pw@h/db?sslmode=require", "postgresql://me:--@h/db?sslmode=require"),
        ("postgresql://me:pw@h/db?unknown=1", "postgresql://me:--@h/db?unknown=1"),
        ("postgresql://h:99999/db", "postgresql://h:99999/db"),
        ("postgresql://[::1]:99999/db", "postgresql://[::1]:99999/db"),
        ("postgresql://me:pw", "postgresql://me:--"),
        ("postgresql://h1/a;postgresql://me:pw@h2/b", "postgresql://h1/a;postgresql://me:--@h2/b"),
        ("redis://:pw@h:6379/0", "redis://:--@h:6379/0"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("amqp://me:pw@h//", "amqp://me:--@h//"),
        ("host=h password=pw", "host=h password=--"),
        ("h2", "h2"),
        ("", ""),
        ("postgresql://me\n:pw@h/db", "postgresql://me?:--@h/db"),
    ],
)
def test_what_is_not_secret_is_shown(text: str, shown: str) -> None:
    """Masking keeps what helps: scheme, user, hosts, ports, database and parameters."""
    assert mask(text, "--") == shown


@pytest.mark.parametrize(
    "thing", [None, b"postgresql://me:xq@h", ["postgresql://me:xq@h"], 5, ";", "://", "@:@"]
)
def test_masking_never_raises(thing: object) -> None:
    """Whatever stands where a URL should be, masking answers with a text."""
    assert "xq" not in mask(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("password", ["xq-never", "p@ss:w/rd?#%", "a&b=c"])
def test_url_inside_a_url(password: str) -> None:
    """The address for sessions is shown without its password, whether it is good or not."""
    inner = f"postgresql://me:{quote(password, safe='')}@direct/db"
    url = f"postgresql://h/db?session_dsn={quote(inner, safe='')}&poll_interval=2"
    assert mask(url) == "postgresql://h/db?session_dsn=postgresql://me:**@direct/db&poll_interval=2"
    options = Options.parse(parse(url).options)
    assert options.session_dsn == inner
    assert password not in repr(options) + said_about(url)
    for wrong in (f"mysql://me:{password}@h", f"{password}"):
        with pytest.raises(ConfigurationError) as caught:
            Options.parse({"session_dsn": wrong})
        assert password not in "".join(traceback.format_exception(caught.value))


def test_url_options_show_no_password() -> None:
    """A wrong option in a URL is refused without the URL's password."""
    address = parse("postgresql://me:xq-never@h/db?schema=public")
    with pytest.raises(ConfigurationError) as caught:
        Options.parse(address.options)
    assert "xq-never" not in str(caught.value)
