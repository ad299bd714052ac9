"""What is read and shown without a server: URLs, names, notes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from celery_postgres.cli.compare import _command
from celery_postgres.compare import Broker, names_of, urls
from celery_postgres.compare.address import Address
from celery_postgres.compare.failure import Failure
from celery_postgres.compare.notes import Event, Notes, Pen

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("redis://h/0", (None, "redis://h/0", None)),
        ("amqp://h|redis://h/1", (None, "amqp://h", "redis://h/1")),
        ("Cloud=amqp://u:p=q@h//|none", ("Cloud", "amqp://u:p=q@h//", "none")),
        ("amqp://u:a=b@h", (None, "amqp://u:a=b@h", None)),
    ],
)
def test_with(text: str, found: tuple[str | None, str, str | None]) -> None:
    assert urls.parsed(text) == found


@pytest.mark.parametrize("text", ["redis", "", "amqp://h|", "amqp://h|redis"])
def test_with_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\|"):
        urls.parsed(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@h:1/0", "redis://:**@h:1/0"),
        ("amqp://me:s3cret@h//", "amqp://me:**@h//"),
        ("amqp://me:s3/cr@et@h//", None),
        ("sqla+postgresql+psycopg://me:s3cret@h/x?password=s3cret&a=1", None),
        ("postgresql://me:s3|cret@h/x", "postgresql://me:**@h/x"),
        (
            "postgresql://me:x@h/x?session_dsn=postgresql://:s3cret@db:5432",
            "postgresql://me:**@h/x?session_dsn=postgresql://:**@db:5432/",
        ),
        ("postgresql://h/x?session_dsn=postgresql%3A%2F%2F%3As3cret%40db", None),
        ("redis://:x@h?session_dsn=postgresql://:s3cret@db", None),
        ("amqp://", "amqp://"),
        ("sqla+sqlite:////x/y.db", "sqla+sqlite:////x/y.db"),
        ("rpc://", "rpc://"),
    ],
)
def test_masked(url: str, shown: str | None) -> None:
    found = urls.masked(url)
    assert shown is None or found == shown
    assert "s3" not in found
    assert "et@" not in found


@pytest.mark.parametrize(
    "argument",
    [
        "redis://:s3cret@h:1/0",
        "--url=postgresql://me:s3|cret@h/x",
        "Hare=amqp://me:s3 cret@h//|redis://:s3cret@h:1/0",
        "amqp://me:s3|cret@h//|none",
        "PostgreSQL:session_dsn=postgresql://:s3cret@db:5432",
    ],
)
def test_masked_in_an_argument(argument: str) -> None:
    found = urls.masked_in(argument)
    assert "s3" not in found
    assert "cret" not in found
    assert found.partition("://")[0] == argument.partition("://")[0]


def test_masked_options() -> None:
    """The report is made to be passed on."""
    options = {
        "session_dsn": "postgresql://:s3cret@db:5432",
        "sentinel_kwargs": {"password": "s3cret", "port": 1},
        "url": "redis://:s3cret@h",
        "confirm_publish": True,
    }
    shown = {name: urls.masked_value(name, value) for name, value in options.items()}
    assert "s3cret" not in str(shown)
    assert shown["confirm_publish"] is True
    assert shown["sentinel_kwargs"] == {"password": "**", "port": 1}


def test_address_keeps_numbers_as_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of `socket_keepalive_options`."""
    settings = {
        "broker_url": "redis://",
        "result_backend": "redis://",
        "broker_transport_options": {"socket_keepalive_options": {4: 60}},
    }
    given = Address(settings, tmp_path / "notes", tmp_path / "journal")
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert Address.from_environment() == given


def test_setting_that_cannot_be_handed_over(tmp_path: Path) -> None:
    """It is one contender's failure, in one line."""
    settings = {"broker_url": "redis://", "result_backend": "redis://", "on_connect": lambda: None}
    with pytest.raises(Failure, match="cannot be handed to the workers"):
        Address(settings, tmp_path / "notes", tmp_path / "journal").environment()


def test_names() -> None:
    brokers = [
        Broker("postgresql://"),
        Broker("redis://"),
        Broker("redis://"),
        Broker("amqp://", name="Hare"),
    ]
    assert names_of(brokers) == ["PostgreSQL", "Redis", "Redis 2", "Hare"]


def test_notes(tmp_path: Path) -> None:
    """What is written is read, once, also by ids that are no UUIDs; half a note is not there yet."""
    pen, notes = Pen(tmp_path / "notes", 3), Notes(tmp_path / "notes")
    assert notes.count() == 0
    first = str(uuid.uuid4())
    pen.write(Event.STARTED, first)
    pen.write(Event.STARTED, "mine", redelivered=True)
    pen.write(Event.SUCCEEDED, first)
    with notes.path.open("ab") as file:
        file.write(b"half")
    assert notes.count() == 2
    assert notes.count(Event.SUCCEEDED) == 1
    (mine,) = notes.of(Event.STARTED, "mine")
    assert mine.redelivered
    assert mine.worker == 3
    start, end = [note for note in notes.all() if note.key == uuid.UUID(first).bytes]
    assert 0 <= end.at_ns - start.at_ns < 1e9
    notes.forget()
    assert notes.all() == []


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('redis:sentinel_kwargs={"password": "s3cret"}', 'redis:sentinel_kwargs={"password": "**"}'),
        ("redis:password=s3cret", "redis:password=**"),
        ("rabbitmq:confirm_publish=true", "rabbitmq:confirm_publish=true"),
    ],
)
def test_command_without_the_secrets_of_options(
    given: str, shown: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the command in it, to be repeated by others."""
    monkeypatch.setattr("sys.argv", ["celery", *(("--option", given) if apart else (f"--option={given}",))])
    assert _command()[1:] == (["--option", shown] if apart else [f"--option={shown}"])
