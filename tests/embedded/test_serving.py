"""`serve` in a terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from .owners import finish

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from .owners import Place


def serve(place: Place, *arguments: str | Path) -> subprocess.Popen[str]:
    return place.start(sys.executable, "-m", "celery_postgres.embedded", *map(str, arguments))


def introduction(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "stops it" in line:
            return text
    raise AssertionError(finish(process))


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_serves_until_it_is_told_to_stop(place: Place, number: signal.Signals) -> None:
    """It prints the line for the second terminal, and ends with 0 and without a trace."""
    terminal = serve(place)
    text = introduction(terminal)
    assert "temporary data" in text
    exported = re.search(r"^ +export DATABASE_URL=(\S+)$", text, re.MULTILINE)
    assert exported is not None
    with psycopg.connect(exported[1]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    os.killpg(terminal.pid, number)
    rest, errors = finish(terminal)
    assert (terminal.returncode, rest.strip(), errors) == (0, "Stopped.", "")
    place.expect_nothing_left()


def test_the_data_of_a_directory_stays(place: Place) -> None:
    """With a directory the next run has the same URL, so a second terminal's variable still fits."""
    directory = place.folder / "kept"
    texts = []
    for _ in range(2):
        terminal = serve(place, directory)
        texts.append(introduction(terminal))
        terminal.send_signal(signal.SIGINT)
        finish(terminal)
    assert f"data in {directory}" in texts[0]
    assert texts[0] == texts[1]


def test_a_refusal_is_one_line(place: Place) -> None:
    """What cannot work is told without a traceback, by exit code 1."""
    terminal = serve(place, place.folder)
    output, errors = finish(terminal)
    assert (terminal.returncode, output) == (1, "")
    assert re.fullmatch(r"error: the directory \S+ is not empty .*\n", errors)


def test_the_servers_death_is_told(place: Place) -> None:
    """When the server ends by itself, so does serve, by exit code 1 and with the server's log."""
    directory = place.folder / "kept"
    terminal = serve(place, directory)
    introduction(terminal)
    pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGQUIT)
    _, errors = finish(terminal)
    assert terminal.returncode == 1
    assert "received immediate shutdown request" in errors
    place.expect_nothing_left()
