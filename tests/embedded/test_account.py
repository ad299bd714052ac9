"""Under which account the server runs, and what that account can reach."""

from __future__ import annotations

import os
import shutil

import psutil
import psycopg
import pytest

from celery_postgres.embedded import EmbeddedPostgres, find_bindir
from celery_postgres.errors import ConfigurationError

from .owners import IS_ROOT, SCRIPT, WAIT, Place, finish, first_line, nobody, open_environment, open_python

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: starts processes of other users")
needs_open_python = pytest.mark.skipif(
    IS_ROOT and open_python() is None, reason="needs a Python that every user can run"
)


def server_process(private: EmbeddedPostgres) -> psutil.Process:
    return psutil.Process(int((private.data_path / "postmaster.pid").read_text().split()[0]))


@needs_root
def test_roots_server_runs_as_nobody(place: Place) -> None:
    """Started by root, the server and its data belong to nobody, who has no other rights."""
    directory = place.folder / "kept"
    with EmbeddedPostgres(directory) as private:
        process = server_process(private)
        assert set(process.uids()) == {nobody().uid}
        assert set(process.gids()) == {nobody().gid}
        assert (directory / "data").stat().st_uid == nobody().uid
        assert directory.stat().st_uid == 0


@pytest.mark.skipif(IS_ROOT, reason="needs a user who is not root")
def test_a_users_server_runs_as_the_user(embedded_server: EmbeddedPostgres) -> None:
    """Started by anybody else, the server is that user's."""
    assert set(server_process(embedded_server).uids()) == {os.getuid()}


@needs_root
@needs_open_python
def test_a_normal_user_owns_a_server(place: Place) -> None:
    """A user without rights starts, uses and leaves a server."""
    owner = place.start(
        str(open_python()), "-c", SCRIPT.format(then=WAIT), env=open_environment(place), **nobody().switch
    )
    with psycopg.connect(first_line(owner)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    owner.kill()
    finish(owner)
    place.expect_nothing_left()


@needs_root
def test_closed_programs_are_copied(place: Place) -> None:
    """Programs in a folder that is closed to nobody are copied; the folder stays closed."""
    closed = place.folder / "closed"
    closed.mkdir(0o700)
    source = find_bindir().parent
    if not (source / "share").is_dir():
        pytest.skip("needs programs that can be moved: these have their files elsewhere")
    target = closed / source.parent.name / source.name
    shutil.copytree(source, target)
    libraries = source.parent.with_name(source.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    with EmbeddedPostgres(bindir=target / "bin") as private, psycopg.connect(private.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not private.bindir.is_relative_to(closed)
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not private.bindir.exists()


@needs_root
def test_a_closed_directory_is_refused(place: Place) -> None:
    """A directory that nobody cannot enter is refused, and stays closed and empty."""
    closed = place.folder / "closed"
    closed.mkdir(0o700)
    with pytest.raises(ConfigurationError, match=r"as nobody, who cannot enter .*: choose a directory"):
        EmbeddedPostgres(closed / "kept").start()
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_closed_temporary_folder_is_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """When TMPDIR is closed to nobody, the server's temporary folder lies elsewhere."""
    closed = place.folder / "closed"
    closed.mkdir(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    with EmbeddedPostgres() as private:
        assert not private.data_path.is_relative_to(closed)
    assert list(closed.iterdir()) == []


@needs_root
@needs_open_python
def test_a_user_id_without_a_name_is_told(place: Place) -> None:
    """PostgreSQL cannot serve a user id without an entry, and the message names the way out."""
    owner = place.start(
        str(open_python()),
        "-c",
        SCRIPT.format(then=WAIT),
        env=open_environment(place),
        user=54_321,
        group=54_321,
        extra_groups=[],
    )
    _, errors = finish(owner)
    assert "user id 54321 has no entry in /etc/passwd" in errors
    assert "DATABASE_URL" in errors
    place.expect_nothing_left()
