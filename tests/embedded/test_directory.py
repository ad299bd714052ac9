"""A server whose data stays in a directory, and the directories that are refused."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.embedded import EmbeddedPostgres
from celery_postgres.embedded.binaries import wheel_bindirs
from celery_postgres.embedded.home import MARK
from celery_postgres.errors import ConfigurationError

from .owners import IS_ROOT, Place, finish, first_line, nobody

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(place: Place) -> Path:
    return place.folder / "some" / "where"


def refusal(directory: Path, **arguments: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        EmbeddedPostgres(directory, **arguments).start()
    return str(caught.value)


def test_data_and_address_stay(directory: Path) -> None:
    """The next start has the same data, the same password and, as it is free, the same port."""
    with EmbeddedPostgres(directory) as first, psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    with EmbeddedPostgres(directory) as second, psycopg.connect(first.url) as connection:
        assert second.url == first.url
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)


def test_what_is_private_is_closed_to_others(directory: Path) -> None:
    """Only the owner can read the password and the log, and only the server's account the data."""
    with EmbeddedPostgres(directory) as private:
        closed = [directory / MARK, private.log_path, private.data_path]
        assert [path.stat().st_mode & 0o077 for path in closed] == [0, 0, 0]


def test_settings_are_not_kept(directory: Path) -> None:
    """Settings hold for one start."""
    for settings, expected in (({"max_connections": "7"}, "7"), ({}, "100")):
        with EmbeddedPostgres(directory, settings) as private, psycopg.connect(private.url) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == (expected,)


def test_the_datas_version_decides(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of an older version is served by that version, although a newer one is there."""
    monkeypatch.delenv("PG_BINDIR", raising=False)
    older = wheel_bindirs()[-1]
    with EmbeddedPostgres(directory, bindir=older):
        pass
    with EmbeddedPostgres(directory) as private:
        assert private.version.startswith("16.")
    newer = wheel_bindirs()[0]
    message = refusal(directory, bindir=newer)
    assert f"made by PostgreSQL 16, and {newer} has version 18" in message
    assert "choose another directory" in message
    monkeypatch.setenv("PG_BINDIR", str(newer))
    assert "was made by PostgreSQL 16; found no programs of PostgreSQL 16 in PG_BINDIR" in refusal(directory)


def test_a_directory_with_other_things_is_refused(directory: Path) -> None:
    """A directory that is not empty and not ours stays as it is."""
    directory.mkdir(parents=True)
    (directory / "thesis.tex").touch()
    assert "is not empty and was not made for a private server: choose" in refusal(directory)
    assert [path.name for path in directory.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(directory: Path) -> None:
    """A file in the directory's place is told as such."""
    directory.parent.mkdir()
    directory.touch()
    assert "Not a directory" in refusal(directory)


def test_a_second_process_is_refused(place: Place, directory: Path) -> None:
    """While one process has the directory, another one is told whose it is."""
    owner = place.own(directory=directory)
    first_line(owner)
    assert f"already runs in {directory}, started by process {owner.pid}: use its URL" in refusal(directory)
    finish(owner, "")


def test_a_second_server_of_one_process_is_refused(directory: Path) -> None:
    """The same holds within a process, and the first server is none the worse."""
    with EmbeddedPostgres(directory) as private:
        assert f"started by process {os.getpid()}" in refusal(directory)
        psycopg.connect(private.url).close()


def test_a_lost_password_is_told(directory: Path) -> None:
    """Without its password the data is of no use, and the message says so."""
    with EmbeddedPostgres(directory):
        pass
    for damage in ("{", json.dumps({"unknown": 1})):
        (directory / MARK).write_text(damage)
        assert f"{MARK} is damaged" in refusal(directory)


@pytest.mark.skipif(not IS_ROOT, reason="needs root: gives a directory away")
def test_another_users_directory_is_refused(directory: Path) -> None:
    """A directory that another user made is served by that user only."""
    with EmbeddedPostgres(directory):
        pass
    os.chown(directory / MARK, nobody().uid, nobody().gid)
    assert "was made by another user: start it as that user" in refusal(directory)


@pytest.mark.skipif(IS_ROOT, reason="needs a user who is not root: root may write everywhere")
def test_a_directory_without_permission_is_refused(directory: Path) -> None:
    """A directory in which nothing can be made is told with the system's reason."""
    directory.mkdir(parents=True)
    directory.chmod(0o500)
    assert "Permission denied" in refusal(directory)
