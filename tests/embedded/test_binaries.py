"""Which PostgreSQL is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from celery_postgres.embedded import EmbeddedPostgres, binaries, find_bindir
from celery_postgres.embedded.binaries import major_version, server_version, wheel_bindirs
from celery_postgres.errors import ConfigurationError

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def unguided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BINDIR", raising=False)


@pytest.fixture
def nothing_installed(unguided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "INSTALLED", ())
    monkeypatch.setenv("PATH", "/nonexistent")


def program(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def fake_server(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program(folder, name, f"postgres (PostgreSQL) {version}")
    return folder


def test_the_wheel_brings_two_versions() -> None:
    """The wheel's folders are found, the newest version first."""
    assert [major_version(bindir) for bindir in wheel_bindirs()] == [18, 16]


@pytest.mark.parametrize("bindir", [*wheel_bindirs(), *INSTALLED], ids=server_version)
def test_every_version_serves(bindir: Path) -> None:
    """The wheel's versions and the installed ones start, answer and stop."""
    with EmbeddedPostgres(bindir=bindir) as private, psycopg.connect(private.url) as connection:
        assert connection.info.server_version // 10_000 == major_version(bindir)
        assert private.version == server_version(bindir)


def test_the_wheel_comes_first(unguided: None) -> None:
    """Without wishes the wheel's newest version is taken, whatever is installed."""
    assert find_bindir() == wheel_bindirs()[0]


def test_a_major_version_can_be_asked_for(unguided: None) -> None:
    """The wish decides among what there is."""
    assert find_bindir(16) == wheel_bindirs()[1]


def test_pg_bindir_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PG_BINDIR is taken before everything else."""
    chosen = fake_server(tmp_path / "bin", "17.2")
    monkeypatch.setenv("PG_BINDIR", str(chosen))
    assert find_bindir() == chosen
    assert server_version(chosen) == "17.2"


def test_pg_bindir_is_not_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When PG_BINDIR has another version than is asked for, nothing else is taken in its place."""
    monkeypatch.setenv("PG_BINDIR", str(fake_server(tmp_path / "bin", "17.2")))
    with pytest.raises(ConfigurationError, match=r"of PostgreSQL 16 in PG_BINDIR: .* has version 17"):
        find_bindir(16)


def test_a_pg_bindir_without_a_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong PG_BINDIR is an error that names what is missing."""
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"{tmp_path} holds no initdb"):
        find_bindir()


def test_installed_folders_come_next(
    nothing_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel the newest installed server is taken, by number and not by letter."""
    fake_server(tmp_path / "9" / "bin", "9.6.1")
    newest = fake_server(tmp_path / "17" / "bin", "17.2")
    fake_server(tmp_path / "14" / "bin", "14.9")
    monkeypatch.setattr(binaries, "INSTALLED", (f"{tmp_path}/*/bin",))
    assert find_bindir() == newest


def test_the_path_comes_last(
    nothing_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on the PATH is found by its initdb, through links."""
    real = fake_server(tmp_path / "real", "17.2")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "initdb").symlink_to(real / "initdb")
    monkeypatch.setenv("PATH", str(linked))
    assert find_bindir() == real


def test_without_any_server_the_ways_out_are_named(nothing_installed: None) -> None:
    """One message names DATABASE_URL, the extra and PG_BINDIR."""
    with pytest.raises(ConfigurationError) as caught:
        find_bindir()
    for way in ("DATABASE_URL", "celery-postgres[embedded]", "PG_BINDIR"):
        assert way in str(caught.value)


def test_what_was_found_and_not_taken_is_named(
    nothing_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too old a server, and one that does not run, are named with the reason."""
    fake_server(tmp_path / "12" / "bin", "12.22")
    broken = fake_server(tmp_path / "17" / "bin", "17.2")
    (broken / "postgres").write_text("#!/nonexistent/interpreter\n")
    monkeypatch.setattr(binaries, "INSTALLED", (f"{tmp_path}/*/bin",))
    with pytest.raises(ConfigurationError, match="version 12, the oldest that works is 13") as caught:
        find_bindir()
    assert f"{broken}/postgres does not run here" in str(caught.value)


def test_the_wheel_is_not_imported() -> None:
    """Looking for programs runs no code of the wheel's package."""
    look = f"import sys; from celery_postgres.embedded import find_bindir; find_bindir(); {binaries.WHEEL!r}"
    code = f"{look} in sys.modules and sys.exit('imported')"
    subprocess.run([sys.executable, "-c", code], check=True)
