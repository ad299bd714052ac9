"""Start, stop and the ways in between, in one process."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.embedded import EmbeddedPostgres, server
from celery_postgres.errors import ConfigurationError, DatabaseUnavailable
from tests.fixtures.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .owners import Place


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()
    return row and row[0]


def keep(url: str, value: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])


@pytest.fixture(scope="module")
def private() -> Iterator[EmbeddedPostgres]:
    """A server that the tests of this module share; each leaves it running."""
    with EmbeddedPostgres() as private:
        yield private


def test_the_block_is_the_life_of_the_server() -> None:
    """Inside the block the server answers; after it nobody does, and the log is gone."""
    with EmbeddedPostgres() as private:
        assert ask(private.url, "SELECT 1") == 1
        assert private.log_path.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(private.url)
    assert not private.log_path.exists()


def test_stop_is_harmless_at_any_time() -> None:
    """A server that was never started or is already stopped can be stopped."""
    private = EmbeddedPostgres()
    private.stop()
    private.start()
    private.stop()
    private.stop()


def test_a_stopped_server_starts_again_empty() -> None:
    """Without a directory the next start has new data."""
    private = EmbeddedPostgres()
    with private:
        keep(private.url, 1)
    with private:
        assert ask(private.url, "SELECT to_regclass('kept')") is None


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill", "smart"])
def test_halt_and_start_keep_data_and_address(private: EmbeddedPostgres, mode: server.Mode) -> None:
    """However it was halted, the server comes back at the same URL with what was committed."""
    url = private.url
    keep(url, 1)
    before = ask(url, "SELECT count(*) FROM kept")
    private.halt(mode)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    private.start()
    assert private.url == url
    assert ask(url, "SELECT count(*) FROM kept") == before


def test_a_crash_spares_nobody(private: EmbeddedPostgres) -> None:
    """A crash takes busy sessions with it, without a word to them, and the next start is not in their way."""
    busy = psycopg.connect(private.url)
    failure: list[psycopg.Error] = []

    def sleep() -> None:
        try:
            busy.execute("SELECT pg_sleep(60)")
        except psycopg.Error as error:
            failure.append(error)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    wait_until(lambda: ask(private.url, asleep) == 1, "the session to be busy")
    private.crash()
    sleeper.join(5)
    assert [error.sqlstate for error in failure] == [None]
    private.start()
    assert ask(private.url, asleep) == 0


def test_settings_reach_the_server() -> None:
    """Settings are the server's own, quotes and all, and win over the defaults of this class."""
    with EmbeddedPostgres(settings={"max_connections": "7", "cluster_name": 'it\'s a "test"'}) as private:
        assert ask(private.url, "SHOW max_connections") == "7"
        assert ask(private.url, "SHOW cluster_name") == 'it\'s a "test"'


def test_the_callers_surroundings_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither stray PG variables nor a locale that does not exist keep it from starting."""
    for name, value in {"PGPORT": "1", "PGDATA": "/nonexistent", "LC_ALL": "xx_XX.utf8"}.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres() as private:
        assert ask(private.url, "SHOW server_encoding") == "UTF8"


def test_a_wrong_setting_is_told() -> None:
    """A server that does not start says why, in PostgreSQL's own words."""
    with pytest.raises(DatabaseUnavailable, match=r'invalid value.*"max_connections"'):
        EmbeddedPostgres(settings={"max_connections": "many"}).start()


def test_several_servers_live_side_by_side(private: EmbeddedPostgres) -> None:
    """Two servers of one process have their own addresses and their own data."""
    with EmbeddedPostgres() as other:
        keep(private.url, 1)
        assert ask(other.url, "SELECT to_regclass('kept')") is None


def test_other_users_of_the_machine_are_kept_out(private: EmbeddedPostgres) -> None:
    """Who reaches the port still needs the password."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(private.url, password="guessed")


def test_a_server_that_dies_is_noticed(private: EmbeddedPostgres) -> None:
    """Who waits for the server learns that it ended by itself."""
    os.kill(int((private.data_path / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    with pytest.raises(DatabaseUnavailable, match="ended by itself"):
        private.wait()
    private.start()


@pytest.mark.parametrize("act", ["halt", "crash", "restart", "wait"])
def test_what_needs_a_running_server_says_so(act: str) -> None:
    """The remedy is in the message."""
    with pytest.raises(ConfigurationError, match=r"start\(\) it before"):
        getattr(EmbeddedPostgres(), act)()


def test_a_running_server_is_not_started_twice(private: EmbeddedPostgres) -> None:
    """A second start is a mistake and changes nothing."""
    with pytest.raises(ConfigurationError, match="is running"):
        private.start()
    assert ask(private.url, "SELECT 1") == 1


def test_a_port_lost_in_a_race_is_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody takes the port between the look and the start, another one is used."""
    private = EmbeddedPostgres(place.folder / "kept")
    with private:
        taken = private.port
    answers = iter([True])
    look = server._is_free
    monkeypatch.setattr(server, "_is_free", lambda port: next(answers, None) or look(port))
    with socket.create_server(("127.0.0.1", taken)), private:
        assert private.port != taken
        assert ask(private.url, "SELECT 1") == 1
        assert "could not bind" in private.log_path.read_text()


def test_a_restart_waits_for_its_port(private: EmbeddedPostgres) -> None:
    """A server that comes back keeps its address, even if somebody holds the port for a moment."""
    private.halt()
    starter = threading.Thread(target=private.start)
    with socket.create_server(("127.0.0.1", private.port)):
        starter.start()
        wait_until(lambda: "could not bind" in private.log_path.read_text(), "a first attempt")
    starter.join(20)
    assert ask(private.url, "SELECT 1") == 1
