"""Options are read from strings and values alike, and every wrong one is refused with its remedy."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from dataclasses import fields
from decimal import Decimal

import amqp
import pytest
from kombu import Connection
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from celery_postgres import options as options_module
from celery_postgres.errors import ConfigurationError
from celery_postgres.options import Options, option_names


@pytest.fixture(autouse=True)
def _nothing_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options_module, "_announced", set())


def test_defaults() -> None:
    """Nothing given means the documented defaults."""
    assert Options.parse({}) == Options()
    assert {doc.name: doc.default for doc in Options.describe()} == {
        "schema": "celery",
        "auto_migrate": True,
        "priority_order": "amqp",
        "strict_declare": False,
        "max_message_bytes": 16 * 1024 * 1024,
        "hold_eta": True,
        "keep_rejected": False,
        "max_deliveries": 20,
        "dead_letter_keep": 0.0,
        "notify": True,
        "gossip": False,
        "poll_interval": 1.0,
        "max_poll_interval": 5.0,
        "grace": 1.0,
        "stall_timeout": 60.0,
        "max_outage": None,
        "connect_timeout": 10.0,
        "statement_timeout": 30.0,
        "publish_timeout": 30.0,
        "publish_dedup": False,
        "lock_timeout": 5.0,
        "pooled": None,
        "session_dsn": None,
    }


READ = [
    ("schema", "jobs", "jobs"),
    ("schema", "_", "_"),
    ("schema", "a" * 40, "a" * 40),
    ("schema", "pgjobs", "pgjobs"),
    ("priority_order", "redis", "redis"),
    *[("notify", value, True) for value in (True, 1, "true", "True", "1", "yes", "ON", " on ")],
    *[("notify", value, False) for value in (False, 0, "false", "FALSE", "0", "no", "off")],
    ("pooled", "true", True),
    ("pooled", False, False),
    ("pooled", "auto", None),
    ("pooled", "None", None),
    ("max_message_bytes", "1024", 1024),
    ("max_message_bytes", 256 * 1024 * 1024, 256 * 1024 * 1024),
    ("max_message_bytes", 4096.0, 4096),
    ("max_deliveries", "0", 0),
    ("max_deliveries", 32_767, 32_767),
    ("poll_interval", "0.5", 0.5),
    ("poll_interval", 2, 2.0),
    ("poll_interval", "1e-1", 0.1),
    ("max_poll_interval", 3600, 3600.0),
    ("grace", "1.5", 1.5),
    ("connect_timeout", "2", 2.0),
    ("statement_timeout", 0, 0.0),
    ("statement_timeout", "0", 0.0),
    ("lock_timeout", 0.01, 0.01),
]


@pytest.mark.parametrize(("name", "value", "read"), READ)
def test_reads_values_and_strings(name: str, value: object, read: object) -> None:
    """A value and its spelling in a URL mean the same, in the option's own type."""
    found = getattr(Options.parse({name: value}), name)
    assert found == read
    assert type(found) is type(read)
    assert getattr(Options(**{name: value}), name) == read


@pytest.mark.parametrize("name", sorted(option_names()))
def test_none_means_the_default(name: str) -> None:
    """None is what a setting says that is not set."""
    assert Options.parse({name: None}) == Options()


SCHEMA_RULE = "1 to 40 lower-case letters, digits or underscores that do not begin with a digit"
SCHEMA_OWN = "a schema for this purpose alone, such as celery"
REFUSED = [
    *[
        ("schema", value, SCHEMA_RULE)
        for value in ("", "Jobs", "1jobs", "a" * 41, "a-b", 'a"b', "jobs\n", "é", "a.b", 5, True)
    ],
    *[("schema", value, SCHEMA_OWN) for value in ("public", "information_schema", "pg_catalog", "pg_jobs")],
    *[("priority_order", value, '"amqp" or "redis"') for value in ("", "AMQP", "kafka", 5, True)],
    *[("notify", value, "true or false") for value in ("", "auto", "maybe", 2, -1, 0.5, [])],
    *[
        ("session_dsn", value, "a URL such as postgresql://db.internal:5432")
        for value in ("", "db.internal", "redis://h", "host=h", 5, True)
    ],
    *[("pooled", value, "true, false or auto") for value in ("", "maybe", 2)],
    *[
        ("max_message_bytes", value, "a whole number from 1024 to 268435456")
        for value in (0, 1023, 256 * 1024 * 1024 + 1, "16 MiB", "", "1.5", 1024.5, True, [])
    ],
    *[
        ("max_deliveries", value, "a whole number from 0 to 32767")
        for value in (-1, 32_768, "twenty", 1.5, float("inf"), float("nan"), False)
    ],
    *[
        ("poll_interval", value, "a number from 0.01 to 3600")
        for value in (0, -1, 3601, "soon", "nan", "inf", float("nan"), 10**400, True, Decimal(1))
    ],
    *[("max_poll_interval", value, "a number from 0.01 to 3600") for value in (0, 3601)],
    *[("grace", value, "a number from 0.1 to 3600") for value in (0, 0.09, 3601, "3s")],
    *[("connect_timeout", value, "a number from 2 to 86400") for value in (0, 1, 1.9, 86_401)],
    *[("statement_timeout", value, "0 or a number from 0.1 to 86400") for value in (-1, 0.05, 86_401)],
    *[("lock_timeout", value, "a number from 0.01 to 86400") for value in (0, -1, 86_401)],
]


@pytest.mark.parametrize(("name", "value", "wanted"), REFUSED)
def test_refuses_wrong_values(name: str, value: object, wanted: str) -> None:
    """A wrong value is refused, from a mapping or from code, and the message ends with what is right."""
    for make in (lambda: Options.parse({name: value}), lambda: Options(**{name: value})):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert str(caught.value).startswith(f"option {name!r} is ")
        assert str(caught.value).endswith(f"set it to {wanted}")
        assert isinstance(caught.value.__cause__, ValueError)


def test_refuses_a_poll_that_never_slows_down() -> None:
    """The slowest poll cannot be faster than the first."""
    with pytest.raises(ConfigurationError, match=r"set max_poll_interval to 9 or more$"):
        Options.parse({"poll_interval": "9"})
    assert Options.parse({"poll_interval": 9, "max_poll_interval": 9}).max_poll_interval == 9.0


def test_a_long_value_is_cut_short() -> None:
    """A message stays readable whatever was put into an option."""
    with pytest.raises(ConfigurationError) as caught:
        Options.parse({"schema": "x" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shema", "schema"),
        ("Schema", "schema"),
        ("poll_intervall", "poll_interval"),
        ("max_delivery", "max_deliveries"),
        ("max_message_size", "max_message_bytes"),
        ("automigrate", "auto_migrate"),
        ("strict_declares", "strict_declare"),
        ("hold_etas", "hold_eta"),
    ],
)
def test_suggests_the_option_that_was_meant(name: str, meant: str) -> None:
    """A misspelt option is refused, and the right name is suggested."""
    with pytest.raises(ConfigurationError) as caught:
        Options.parse({name: 1})
    wanted = f"unknown option {name!r} in broker_transport_options: did you mean {meant!r}?"
    assert str(caught.value) == wanted


@pytest.mark.parametrize("name", ["zzzz", "", 5, None])
def test_lists_the_options_where_nothing_is_close(name: object) -> None:
    """An option unlike all others is refused with the list of all, and with the setting's name."""
    with pytest.raises(ConfigurationError) as caught:
        Options.parse({name: 1}, where="result_backend_transport_options")  # type: ignore[dict-item]
    assert str(caught.value).startswith(
        f"unknown option {name!r} in result_backend_transport_options: remove it"
    )
    assert all(known in str(caught.value) for known in option_names())


def parameters(function: object) -> set[str]:
    """The names of a callable's keyword parameters."""
    found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {item.name for item in found if item.kind is item.POSITIONAL_OR_KEYWORD}


def test_passes_over_what_kombu_puts_in(caplog: pytest.LogCaptureFixture) -> None:
    """kombu keeps its retry policy and its connection's settings among the options: silently accepted."""
    caplog.set_level(logging.DEBUG)
    policy = parameters(Connection.ensure) - {"self", "obj", "fun"}
    failover = {"callback", "connect_retries_timeout", "errback", "max_retries", "interval_start"}
    assert Options.parse(dict.fromkeys(policy | failover | {"retry_policy"}, 1)) == Options()
    assert not caplog.records


OF_OTHERS = {
    "virtual": virtual.Channel.from_transport_options,
    "redis": kombu_redis.Channel.from_transport_options,
    "sentinel": kombu_redis.SentinelChannel.from_transport_options,
    # What kombu's AMQP transport passes on; the address itself is no option.
    "amqp": parameters(amqp.Connection)
    - {"host", "userid", "password", "virtual_host", "ssl", "frame_handler", "frame_writer"},
    "sqs": ("predefined_queues", "region", "wait_time_seconds", "queue_name_prefix", "polling_interval"),
    "pgmq": ("visibility_timeout", "max_poll_seconds", "use_notify", "pool_size", "fifo_mode"),
    "sqlalchemy": ("queue_tablename", "message_tablename", "echo"),
}


@pytest.mark.parametrize("transport", OF_OTHERS)
def test_options_of_other_transports_have_no_effect(transport: str) -> None:
    """An application that comes from another broker keeps its options."""
    foreign = set(OF_OTHERS[transport]) - option_names()
    assert foreign
    assert Options.parse(dict.fromkeys(foreign, "anything")) == Options()


def test_an_option_of_another_transport_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A foreign option is worth one line per process and not one per connection; its value is not shown."""
    caplog.set_level(logging.INFO, "celery_postgres.options")
    for _ in range(3):
        Options.parse({"visibility_timeout": "s3cret", "sep": "s3cret", "schema": "jobs"})
    assert [record.name for record in caplog.records] == ["celery_postgres.options"] * 2
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2
    assert "visibility_timeout" in caplog.text
    assert "s3cret" not in caplog.text


def test_no_name_has_two_owners() -> None:
    """What is ours is never taken for a foreign option or for kombu's."""
    kombu, foreign = options_module._FROM_KOMBU, options_module._FOREIGN
    assert not option_names() & (kombu | foreign)
    assert not kombu & foreign


def test_describe_covers_every_option() -> None:
    """Each option is documented in the order of its definition, durations with their unit."""
    docs = Options.describe()
    assert [doc.name for doc in docs] == [item.name for item in fields(Options)]
    assert all(doc.type and doc.description.endswith(".") for doc in docs)
    assert all(doc.unit == "s" for doc in docs if doc.type == "float")


def test_module_prints_the_table() -> None:
    """`python -m celery_postgres.options` prints one Markdown row per option."""
    command = [sys.executable, "-W", "error", "-m", "celery_postgres.options"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[:2] == ["| option | type | default | unit | meaning |", "|---|---|---|---|---|"]
    assert [line.split("`")[1] for line in lines[2:]] == [doc.name for doc in Options.describe()]
    assert "| `poll_interval` | float | `1.0` | s |" in "\n".join(lines)
