"""What the documents state about the code is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from celery_postgres import (
    cadence,
    commands,
    gathering,
    intake,
    lanes,
    liveness,
    maintenance,
    pacer,
    qos,
    reaper,
    reopening,
    subscription,
    sweeper,
)
from celery_postgres.connection import OLDEST_SERVER
from celery_postgres.embedded.binaries import OLDEST_MAJOR
from celery_postgres.migrations.versions.v1_1_messages import SHORT_LIVED
from celery_postgres.options import Options
from celery_postgres.sql import consumers
from celery_postgres.worker import PATIENCE, events

from .documents import DOCUMENTS, ROOT

TEXT = {document.name: document.read_text(encoding="utf-8") for document in DOCUMENTS}


@pytest.mark.parametrize("name", ["README.md", "configuration.md"])
def test_table_of_options(name: str) -> None:
    """The table is the one that `python -m celery_postgres.options` prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "celery_postgres.options"], capture_output=True, text=True, check=True
    ).stdout
    assert f"<!-- options -->\n{printed}" in TEXT[name]


def test_table_of_sqlstates() -> None:
    """The table is the one that `python -m celery_postgres.sqlstates` prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "celery_postgres.sqlstates"], capture_output=True, text=True, check=True
    ).stdout
    assert f"<!-- sqlstates -->\n{printed}" in TEXT["operations.md"]


def test_versions() -> None:
    """The supported versions are those of the package's own files."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    minors = [int(minor) for minor in re.findall(r"Programming Language :: Python :: 3\.(\d+)", project)]
    assert f"| Python | 3.{min(minors)} to 3.{max(minors)} |" in TEXT["README.md"]
    assert f"| PostgreSQL | {OLDEST_MAJOR} or newer" in TEXT["README.md"]
    assert OLDEST_SERVER == OLDEST_MAJOR * 10_000
    for library in ("celery", "kombu"):
        assert re.search(rf'"{library}>=5\.7\.0"', project)


FIGURES = [
    ("guarantees.md", "An acknowledgement leaves within 20 ms", pacer.ACK_DELAY, 0.02),
    ("guarantees.md", "the `grace` of one second", Options().grace, 1.0),
    ("guarantees.md", "everybody has 30 s to return", reaper.RESTART_GRACE, 30.0),
    ("guarantees.md", "else for an hour", sweeper._LOG_KEPT, 3600.0),
    ("operations.md", "given up to 500 at a time", qos.UNLIMITED, 500),
    ("operations.md", "about 64 MiB wait", subscription.BYTES_AHEAD, 64 << 20),
    ("operations.md", "a poll every 5 s", Options().max_poll_interval, 5.0),
    ("operations.md", "`beat_at` is written every 15 s", maintenance._BEAT, 15.0),
    ("operations.md", "every 10 s behind a transaction pooler", maintenance._BEAT_POOLED, 10.0),
    ("operations.md", "a sign of life every 15 s each", maintenance._BEAT, 15.0),
    ("operations.md", "opened after a second", maintenance._FIRST, 1.0),
    ("troubleshooting.md", "to 256 MiB", Options(max_message_bytes=256 << 20).max_message_bytes, 256 << 20),
    ("design.md", "at the latest after an hour", sweeper._LOG_KEPT, 3600.0),
    ("design.md", "at once, after 20 ms and after 150 ms", cadence.AFTER_IDLE, (0.02, 0.15)),
    ("design.md", "takes that for granted for 10 ms", commands.QUIET, 0.01),
    ("design.md", "full three times in a row", subscription.BUSY_AFTER, 3),
    ("design.md", "waits up to 5 ms longer", gathering.GATHER_DELAY, 0.005),
    ("design.md", "more than two milliseconds, five times", (lanes.LONG_LOOK, lanes._LOOKS), (0.002, 5)),
    ("design.md", "where that was between 0.1 and 0.2 s ago", lanes._LATE, 0.1),
    (
        "design.md",
        "a twentieth of the time, at least every 30 s",
        (lanes._PAUSE, lanes._LONGEST_PAUSE),
        (20, 30.0),
    ),
    ("design.md", "comes after more than 10 s", intake.STALE_AFTER, 10.0),
    ("design.md", "for up to 20 ms, or 240", (events.GATHERED_FOR, events.GATHERED_AT_MOST), (0.02, 240)),
    ("design.md", "It waits no longer for an event", (reopening.PATIENCE, PATIENCE), (0.5, 0.5)),
    ("guarantees.md", "another one after some ten seconds", intake.STALE_AFTER, 10.0),
    ("design.md", "it looks four times a second", sweeper._LOOK, 0.25),
    ("design.md", "look about four times a second", maintenance._LOOKS_PER_S, 4.0),
    ("design.md", "at least every 8 s each", maintenance._LOOK_AT_LEAST, 8.0),
    ("design.md", "at least three, lose", reaper._CROWD, 3),
    ("design.md", "lose their sessions within 10 s", reaper._CROWD_WINDOW, 10.0),
    ("design.md", "get 5 s more", reaper._CROWD_GRACE, 5.0),
    ("design.md", "60 s with prefork", Options().stall_timeout, 60.0),
    ("design.md", "300 s with other pools", Options().stall_timeout * liveness.OWN_TASKS_FACTOR, 300.0),
    ("moving.md", "| `max_deliveries`, 20 |", Options().max_deliveries, 20),
]


@pytest.mark.parametrize(("document", "phrase", "actual", "stated"), FIGURES)
def test_figures(document: str, phrase: str, actual: object, stated: object) -> None:
    """A figure in the text is the constant in the code."""
    assert phrase in TEXT[document]
    assert actual == stated


def test_figures_in_statements() -> None:
    """Those that stand in SQL: the beat's limit, and the thresholds of autovacuum."""
    assert "after 30 s" in TEXT["operations.md"]
    assert reaper.BEAT_GRACE == 30
    assert "interval '30 s'" in consumers.FIND_CONSUMER.text
    assert "vacuumed after 5,000 dead rows" in TEXT["operations.md"]
    assert "autovacuum_vacuum_threshold = 5000" in SHORT_LIVED
