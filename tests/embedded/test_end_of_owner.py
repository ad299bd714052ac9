"""However an owner ends, its server ends with it and nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.fixtures.waiting import PATIENCE_S, wait_until

from .owners import WAIT, Place, finish, first_line

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

ENDINGS = {
    "exit without stop": "",
    "exception": "1 / 0",
    "exit without clean-up": "os._exit(1)",
}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.parametrize("then", ENDINGS.values(), ids=ENDINGS.keys())
def test_an_owner_that_ends_by_itself(place: Place, then: str) -> None:
    """Nothing is left of the server when its owner ends without stopping it."""
    owner = place.own(then)
    first_line(owner)
    finish(owner)
    place.expect_nothing_left()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_owner_that_is_ended(place: Place, number: signal.Signals) -> None:
    """Nothing is left of the server when a signal ends its owner, sent to all its terminal's processes."""
    owner = place.own()
    first_line(owner)
    os.killpg(owner.pid, number)
    finish(owner)
    place.expect_nothing_left()


def own_that_makes_the_data(place: Place, directory: Path | None = None) -> subprocess.Popen[str]:
    """An owner whose initdb is at work; another one if that was over before anybody looked."""

    def found(folder: str) -> bool:
        made = (
            place.temporary.glob(f"*/server/{folder}/*")
            if directory is None
            else directory.glob(f"{folder}/*")
        )
        return any(made)

    while True:
        owner = place.own(directory=directory)
        wait_until(lambda: found("data.unfinished") or found("data"), "initdb to begin")
        if found("data.unfinished"):
            return owner
        finish(owner, "")
        if directory is not None:
            shutil.rmtree(directory)
        place.expect_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_owner_that_is_ended_while_it_makes_the_data(place: Place, number: signal.Signals) -> None:
    """Nothing is left when the signal arrives before there is a server."""
    owner = own_that_makes_the_data(place)
    os.killpg(owner.pid, number)
    finish(owner)
    place.expect_nothing_left()


def test_an_owner_that_is_killed_while_a_client_is_busy(place: Place) -> None:
    """A busy session does not keep the server alive."""
    owner = place.own()
    with psycopg.connect(first_line(owner)) as busy:
        busy.execute("CREATE TABLE held AS SELECT 1")
        owner.kill()
        finish(owner)
        place.expect_nothing_left()
        busy.close()


def test_a_directory_stays_when_its_owner_is_killed(place: Place) -> None:
    """The server goes, the data in a directory stays, and the next owner can have it at once."""
    directory = place.folder / "kept"
    owner = place.own(directory=directory)
    with psycopg.connect(first_line(owner)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
    owner.kill()
    finish(owner)
    heir = place.own(directory=directory)
    with psycopg.connect(first_line(heir)) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (1,)
    finish(heir, "")
    place.expect_nothing_left()
    assert directory.exists()


def test_data_that_was_never_finished_is_made_anew(place: Place) -> None:
    """A directory whose first owner was killed in initdb can be used by the next."""
    directory = place.folder / "kept"
    owner = own_that_makes_the_data(place, directory)
    owner.kill()
    finish(owner)
    heir = place.own(directory=directory)
    with psycopg.connect(first_line(heir)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    finish(heir, "")
    assert names(directory) == {"celery-postgres.json", "data", "server.log"}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_forked_child_does_not_stop_the_server(place: Place) -> None:
    """The server belongs to the process that started it: a child's exit leaves it running."""
    then = f"""
if os.fork() == 0:
    server.stop()
    sys.exit(0)
os.wait()
print("child gone", flush=True)
{WAIT}"""
    owner = place.own(then)
    url = first_line(owner)
    assert first_line(owner) == "child gone"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    finish(owner, "")
    place.expect_nothing_left()


def test_a_forked_child_does_not_hold_the_server_up(place: Place) -> None:
    """The server ends with its owner, although a child of the owner lives on."""
    then = f"""
if os.fork() == 0:
    print("child", flush=True)
{WAIT}"""
    owner = place.own(then)
    first_line(owner)
    assert first_line(owner) == "child"
    owner.kill()
    owner.wait(PATIENCE_S)
    place.expect_nothing_left()
    finish(owner, "")
