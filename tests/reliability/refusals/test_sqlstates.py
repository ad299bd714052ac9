"""What each SQLSTATE is met with: by whoever publishes, and by whoever stores a result."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.exceptions import BackendStoreError
from kombu import Connection, Consumer, Queue

from celery_postgres import connection as connection_module
from celery_postgres import dsn, schema
from celery_postgres.errors import ConfigurationError, DatabaseRejected, DatabaseUnavailable
from celery_postgres.sqlstates import TABLE, Reaction, reaction
from tests.fixtures.standby import execute

from .faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kombu import Producer

#: One code of each class of which the table names the beginning alone.
OF_CLASS = {
    "08": ("08006",),
    "25": ("25P02", "25P03", "25P04"),
    "53": ("53100", "53200", "53300", "53400"),
    "58": ("58030",),
    "28": ("28000", "28P01"),
    "22": ("22021", "22P05"),
    "54": ("54000",),
    "23": ("23514",),
    "P0": ("P0001",),
    "XX": ("XX000", "XX001", "XX002"),
}
CODES = [
    code
    for rule in TABLE
    for prefix in rule.codes
    for code in ((prefix,) if len(prefix) == 5 else OF_CLASS[prefix])
]
UNKNOWN = "YY123"


#: By these a pooler is found out.
POOLER = ("26000", "42P05")
#: One or two of each reaction; the others take minutes.
SOME = (
    "40P01",
    "57014",
    "53100",
    "58030",
    "57P01",
    "25006",
    "0A000",
    "26000",
    "22021",
    "42501",
    "42P01",
    UNKNOWN,
)


def with_reaction(*wanted: Reaction) -> list[Any]:
    """Their codes; all but some of them for the long run."""
    return [
        pytest.param(code, marks=[] if code in SOME else pytest.mark.long)
        for code in (*CODES, UNKNOWN)
        if reaction(code) in wanted
    ]


@pytest.fixture(autouse=True)
def _prepared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process has learnt about a server ends with the test."""
    monkeypatch.setattr(connection_module, "_unprepared", {})


@pytest.fixture(scope="module")
def url(module_database_url: str) -> str:
    """A database with the schema and a queue `q`."""
    schema.upgrade(dsn.parse(module_database_url), "celery")
    with Connection(module_database_url) as connection:
        Queue("q")(connection.channel()).declare()
    return module_database_url


@pytest.fixture
def fault(url: str) -> Iterator[Fault]:
    """For publishers."""
    fault = Fault(url, "message")
    yield fault
    fault.clear()
    execute(url, "TRUNCATE celery.message, celery.ready")


@pytest.fixture
def producer(url: str) -> Iterator[Producer]:
    options = {"publish_timeout": 3}
    with Connection(url, transport_options=options) as connection:
        yield connection.Producer(routing_key="q")


def stored(url: str) -> object:
    return execute(url, "SELECT count(*) FROM celery.message")[0][0]


@pytest.mark.parametrize("code", with_reaction(Reaction.RETRY, Reaction.BACK_OFF))
def test_what_passes_is_waited_for(url, fault, producer, code) -> None:
    """Two refusals and then none: one message, over the same session."""
    session = producer.connection.connection.commands.session
    fault.raise_(code, times=2)
    producer.publish("x", retry=False)
    assert (stored(url), fault.attempts) == (1, 3)
    assert producer.connection.connection.commands.session is session


@pytest.mark.parametrize("code", with_reaction(Reaction.RETRY))
def test_what_does_not_pass_is_given_to_the_caller(url, fault, producer, code) -> None:
    """Six attempts, no more; nothing is stored, and the caller knows it."""
    fault.raise_(code)
    with pytest.raises(DatabaseRejected) as told:
        producer.publish("x", retry=True)
    assert (told.value.sqlstate, fault.attempts, stored(url)) == (code, 6, 0)


def test_full_server_is_not_pressed(url, fault, caplog) -> None:
    """Attempts grow apart until `publish_timeout`; the log says why, once."""
    fault.raise_("53100")
    caplog.set_level(logging.WARNING, "celery_postgres")
    begin = time.monotonic()
    with (
        Connection(url, transport_options={"publish_timeout": 2}) as connection,
        pytest.raises(DatabaseRejected, match="free space on the server's disk"),
    ):
        connection.Producer(routing_key="q").publish("x", retry=True)
    assert 0.5 < time.monotonic() - begin < 20
    assert 2 <= fault.attempts <= 20
    assert caplog.text.count("the server has no room") == 1


@pytest.mark.parametrize("code", with_reaction(Reaction.RECONNECT, Reaction.UNPREPARE))
def test_session_that_is_over_is_an_unknown_outcome(url, fault, producer, code) -> None:
    """The caller hears so at once, and kombu's retry stores it over another session."""
    fault.raise_(code, times=2)
    session = producer.connection.connection.commands.session
    with pytest.raises(DatabaseUnavailable) as told:
        producer.publish("x", retry=False)
    assert (told.value.sqlstate, fault.attempts) == (code, 1)
    assert session.broken
    if reaction(code) is Reaction.RECONNECT:
        producer.publish("x", retry=True, retry_policy={"max_retries": 3, "interval_start": 0})
        assert (stored(url), fault.attempts) == (1, 3)


@pytest.mark.parametrize("code", with_reaction(Reaction.UNPREPARE))
def test_nothing_is_prepared_where_it_is_not_kept(url, fault, producer, code, caplog) -> None:
    """The next session prepares nothing, and the log says what to set; refused again, it is the caller's."""
    producer.publish("x", retry=False)
    assert producer.connection.connection.commands.session._prepare
    fault.raise_(code, times=1)
    producer.publish("x", retry=True, retry_policy={"max_retries": 3, "interval_start": 0})
    assert not producer.connection.connection.commands.session._prepare
    assert stored(url) == 2
    assert "set pooled=true" in caplog.text
    fault.raise_(code)
    with pytest.raises(DatabaseRejected):
        producer.publish("x", retry=True)
    assert fault.attempts == 1


@pytest.mark.parametrize("code", with_reaction(Reaction.GIVE))
def test_refusal_is_given_to_the_caller(url, fault, producer, code) -> None:
    """At once, whatever kombu's retry policy says."""
    fault.raise_(code)
    with pytest.raises(DatabaseRejected) as told:
        producer.publish("x", retry=True)
    assert (told.value.sqlstate, fault.attempts, stored(url)) == (code, 1, 0)


@pytest.mark.parametrize("code", with_reaction(Reaction.STOP))
def test_configuration_is_named_and_not_tried_again(url, fault, producer, code) -> None:
    """The error is one of configuration and ends with what to do."""
    fault.raise_(code)
    with pytest.raises(ConfigurationError, match=r"raised by the test.*: (run `celery|as the owner|correct)"):
        producer.publish("x", retry=True)
    assert (fault.attempts, stored(url)) == (1, 0)


class TestResults:
    """Whoever stores a result waits by Celery's policy for results, about 20 s."""

    @pytest.fixture
    def fault(self, url: str) -> Iterator[Fault]:
        fault = Fault(url, "result")
        yield fault
        fault.clear()
        execute(url, "TRUNCATE celery.result")

    @pytest.fixture
    def app(self, url: str) -> Iterator[Celery]:
        app = Celery("any", broker=url, backend=url, set_as_current=False)
        app.conf.result_backend_transport_options = {"retry_policy": {"interval_max": 0.05, "max_retries": 4}}
        yield app
        app.backend._results.close()
        app.close()

    @pytest.mark.parametrize(
        "code", with_reaction(Reaction.RETRY, Reaction.BACK_OFF, Reaction.RECONNECT, Reaction.UNPREPARE)
    )
    def test_what_passes_is_waited_for(self, url, fault, app, code) -> None:
        """Two refusals, or lost sessions, and then none: the result is stored."""
        fault.raise_(code, times=2 if reaction(code) is not Reaction.UNPREPARE else 1)
        app.backend.store_result("id", 1, "SUCCESS")
        assert execute(url, "SELECT state FROM celery.result") == [("SUCCESS",)]

    @pytest.mark.parametrize("code", with_reaction(Reaction.RETRY, Reaction.BACK_OFF, Reaction.RECONNECT))
    def test_what_does_not_pass_is_an_error(self, url, fault, app, code) -> None:
        """After the attempts of the policy: never silence."""
        fault.raise_(code)
        with pytest.raises(DatabaseUnavailable):
            app.backend.store_result("id", 1, "SUCCESS")
        assert fault.attempts == 5

    @pytest.mark.parametrize("code", with_reaction(Reaction.GIVE, Reaction.STOP))
    def test_refusal_is_an_error_at_once(self, url, fault, app, code) -> None:
        """No further attempt is made."""
        fault.raise_(code)
        with pytest.raises((BackendStoreError, ConfigurationError)):
            app.backend.store_result("id", 1, "SUCCESS")
        assert fault.attempts == 1

    def test_always_retry_goes_on(self, url, fault, app) -> None:
        """`result_backend_always_retry` begins again where that ends."""
        app.conf.result_backend_always_retry = True
        app.conf.result_backend_base_sleep_between_retries_ms = 1
        app.conf.result_backend_max_sleep_between_retries_ms = 5
        fault.raise_("57P01", times=7)
        app.backend.store_result("id", 1, "SUCCESS")
        assert execute(url, "SELECT state FROM celery.result") == [("SUCCESS",)]


PASSES = [param for param in with_reaction(*set(Reaction) - {Reaction.STOP}) if param.values[0] not in POOLER]


class TestConsumer:
    """Who claims and acknowledges has no caller: it goes on, and what was refused is done later."""

    @pytest.fixture
    def fault(self, url: str) -> Iterator[Callable[[str], Fault]]:
        """Of an insert or delete in the table of what is claimed: name it with `event`."""
        made: list[Fault] = []

        def make(event: str) -> Fault:
            made.append(Fault(url, "unacked", event))
            return made[0]

        yield make
        made[0].clear()
        execute(url, "TRUNCATE celery.message, celery.ready, celery.unacked, celery.consumer CASCADE")

    @pytest.mark.parametrize("event", ["INSERT", "DELETE"], ids=["claim", "acknowledgement"])
    @pytest.mark.parametrize("code", PASSES)
    def test_goes_on(self, url, fault, producer, code, event) -> None:
        """After a refusal, or a lost session, each message has come once and is gone."""
        got: list[object] = []

        def take(message: Any) -> None:
            got.append(message.body)
            message.ack()

        with Connection(url) as connection, Consumer(connection, Queue("q"), on_message=take):
            raising = fault(event)
            raising.raise_(code, times=1)
            producer.publish("x")
            deadline = time.monotonic() + 20
            while (stored(url) or not got) and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.05)
            assert (got, stored(url)) == ([b"x"], 0)
            assert raising.attempts >= 2

    @pytest.mark.parametrize("code", POOLER)
    def test_pooler_that_shows_itself_is_an_end(self, url, fault, producer, code) -> None:
        """Behind a transaction pooler a consumer is another one, so whoever consumes connects anew."""
        with Connection(url) as connection, Consumer(connection, Queue("q"), on_message=print):
            fault("INSERT").raise_(code, times=1)
            producer.publish("x")
            with pytest.raises(DatabaseUnavailable, match="a pooler has come in between"):
                connection.drain_events(timeout=20)
        with Connection(url) as connection:
            queue = connection.SimpleQueue("q", no_ack=True)
            assert connection.connection.intake.pooled
            assert queue.get(timeout=20).payload == "x"

    def test_missing_right_ends_it_with_the_remedy(self, url, fault, producer) -> None:
        """No silent loop."""
        with Connection(url) as connection, Consumer(connection, Queue("q"), on_message=print):
            raising = fault("INSERT")
            raising.raise_("42501")
            producer.publish("x")
            with pytest.raises(ConfigurationError, match="as the owner of schema celery run: GRANT"):
                connection.drain_events(timeout=20)
            raising.clear()
