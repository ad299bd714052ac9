"""Every figure can be taken, with tiny counts, over whichever servers are there."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from benchmarks import (
    backlog,
    calling,
    chords,
    drain,
    idle,
    latency,
    publish,
    queues,
    recovery,
    roundtrip,
    sustained,
)
from benchmarks.addresses import Addresses
from benchmarks.bare.contestants import CONTESTANTS
from benchmarks.peers import CHORDS, DRAIN, PEERS, ROUNDTRIP, Peer, named
from benchmarks.servers import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DRAINED = [peer for peer in PEERS if DRAIN in peer.figures and not peer.green_only]
CHORDED = [
    # Celery's database backend looks once a second whether a header is complete.
    pytest.param(peer, marks=[pytest.mark.long] if peer.name == "celery-postgres-db" else [], id=peer.name)
    for peer in PEERS
    if CHORDS in peer.figures
]
# What chords do not show already: a backend that has none.
ANSWERED = [peer for peer in PEERS if ROUNDTRIP in peer.figures and CHORDS not in peer.figures]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def measured(json_path: Path, *arguments: str) -> list[dict[str, Any]]:
    """The measurements of a run that succeeded."""
    done = run(*arguments, "--json", str(json_path))
    assert done.returncode == 0, done.stderr
    report = json.loads(json_path.read_text())
    assert report["versions"]["celery"] in done.stdout
    return report["measurements"]


def about_tasks(measurement: dict[str, Any]) -> list[str]:
    """The remarks, but for those about a busy machine, which a test cannot help."""
    return [remark for remark in measurement["remarks"] if not remark.startswith("others used")]


def demand(peer: Peer, server: str) -> None:
    """Skip where a server of the peer is missing."""
    addresses = Addresses(None, None, server)
    try:
        peer.reach(addresses)
        peer.reach_results(addresses)
    except UnreachableError as error:
        pytest.skip(str(error))


@pytest.fixture
def turn(peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of several test processes take turns where there is one place for all: a Redis database."""
    with (tmp_path_factory.getbasetemp().parent / "benchmarks-redis.lock").open("w") as place:
        if "redis" in peer.name:
            fcntl.flock(place, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("turn")
@pytest.mark.parametrize("peer", DRAINED, ids=lambda peer: peer.name)
def test_drain_starts_every_preloaded_task_once(peer: Peer, server: str, tmp_path: Path) -> None:
    """A drained queue is empty, every task has started once, and rate and CPU are known."""
    demand(peer, server)
    # So long that the fast are still at it when the first look at their CPU time is taken.
    load = ("--count", "200") if peer.name in ("sqlalchemy", "pgmq") else ("--count", "500", "--task-ms", "2")
    arguments = ("--peers", peer.name, "--rounds", "1", *load, "--pools", "solo")
    (taken,) = measured(tmp_path / "drain.json", "drain", *arguments, "--postgresql-url", server)
    assert about_tasks(taken) == []
    assert taken["values"][drain.RATE] > 0
    assert taken["values"][drain.MAIN_CPU] > 0


def test_drain_varies_the_load(server: str, tmp_path: Path) -> None:
    """Workers, events, prefetch and payload make a cell of their own, and the server says what it counted."""
    arguments = ("--peers", "celery-postgres", "--rounds", "1", "--count", "100", "--pools", "solo", "--late")
    varied = ("--workers", "2", "--prefetch", "1", "--payload", "100", "--task-ms", "1", "--events", "on")
    (taken,) = measured(tmp_path / "drain.json", "drain", *arguments, *varied, "--postgresql-url", server)
    assert taken["cell"] == "solo, 2 workers, prefetch 1, late acks, 1 ms, 100 B, -E"
    assert about_tasks(taken) == []
    assert taken["values"][drain.WAL_PUBLISH] > 100
    # Nothing is lost in counting: message, ready and unacked leave one dead row each.
    assert taken["values"][drain.DEAD_ROWS] >= 3
    assert taken["values"][drain.CONNECTIONS] >= 2


def test_publish_counts_what_arrives(server: str, tmp_path: Path) -> None:
    """All messages of several processes are in the queue when the clock stops."""
    arguments = ("--peers", "celery-postgres,null", "--rounds", "1", "--count", "20", "--processes", "2")
    taken = measured(tmp_path / "publish.json", "publish", *arguments, "--postgresql-url", server)
    assert [(m["peer"], m["cell"]) for m in taken] == [
        ("celery-postgres", "2 processes, persistent"),
        ("null", "2 processes, persistent"),
        ("celery-postgres", "2 processes, transient"),
    ]
    assert all(about_tasks(m) == [] and m["values"][publish.RATE] > 0 for m in taken)


def test_publish_in_batches_over_a_slow_link(server: str, tmp_path: Path) -> None:
    """Each way of sending stores every message, and a round trip takes as long as it is told to."""
    arguments = ("--peers", "celery-postgres", "--rounds", "1", "--count", "20", "--processes", "1")
    varied = ("--modes", "persistent", "--ways", "delay,batch,group,group in batch", "--link-ms", "10")
    taken = measured(tmp_path / "publish.json", "publish", *arguments, *varied, "--postgresql-url", server)
    assert [about_tasks(m) for m in taken] == [[]] * 4
    singly, in_a_batch, _, _ = (m["values"][publish.RATE] for m in taken)
    assert singly < 100
    assert in_a_batch > singly


def test_latency_has_every_sample_and_leaves_nothing_behind(server: str, tmp_path: Path) -> None:
    """Percentiles come from all samples, and the databases of the run are dropped."""
    arguments = ("--peers", "celery-postgres", "--rounds", "1", "--samples", "10")
    (taken,) = measured(tmp_path / "latency.json", "latency", *arguments, "--postgresql-url", server)
    assert taken["remarks"] == []
    assert 0 < taken["values"][latency.COLUMNS[0]] <= taken["values"][latency.COLUMNS[-1]]
    with psycopg.connect(server) as connection:
        left = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'benchmark%'"
        ).fetchall()
    assert left == []


def test_idle_workers_are_counted_and_still_hear(server: str, tmp_path: Path) -> None:
    """Several workers from one start each have their sessions, and one of them starts each task."""
    arguments = ("--peers", "celery-postgres", "--rounds", "1", "--workers", "2", "--samples", "3")
    times = ("--settle-s", "0", "--seconds", "1", "--interval-ms", "50")
    (taken,) = measured(tmp_path / "idle.json", "idle", *arguments, *times, "--postgresql-url", server)
    assert about_tasks(taken) == []
    assert taken["values"][idle.CONNECTIONS] >= 4
    assert taken["values"][idle.LATENCY_COLUMNS[0]] > 0


@pytest.mark.parametrize(
    "pin",
    [pytest.param("none", marks=pytest.mark.long), pytest.param("reader", marks=pytest.mark.long), "writer"],
)
def test_a_backlog_is_filled_as_if_published(pin: str, server: str, tmp_path: Path) -> None:
    """A worker runs the copies, each once, while a transaction is open."""
    arguments = ("--rounds", "1", "--sizes", "1000", "--pins", pin, "--count", "200", "--pool", "solo")
    (taken,) = measured(tmp_path / "backlog.json", "backlog", *arguments, "--postgresql-url", server)
    assert about_tasks(taken) == []
    assert taken["values"][backlog.RATE] > 0


def test_a_sustained_load_has_a_line_for_each_period(server: str, tmp_path: Path) -> None:
    """Every task belongs to the period in which it was sent."""
    arguments = ("--peers", "celery-postgres", "--rate", "50", "--minutes", "0.04", "--period-s", "1")
    taken = measured(tmp_path / "sustained.json", "sustained", *arguments, "--postgresql-url", server)
    assert [m["cell"] for m in taken][:2] == ["period 1", "period 2"]
    assert all(m["remarks"] == [] and m["values"][sustained.SIZE] > 0 for m in taken)


@pytest.mark.parametrize("peer", [named(name) for name in CONTESTANTS], ids=lambda peer: peer.name)
def test_a_queue_of_its_own_is_emptied(peer: Peer, server: str, tmp_path: Path) -> None:
    """Every job is done, once, as the queue itself counts."""
    demand(peer, server)
    arguments = ("--peers", peer.name, "--rounds", "1", "--cells", "tuned", "--count", "200")
    (taken,) = measured(tmp_path / "queues.json", "queues", *arguments, "--postgresql-url", server)
    assert about_tasks(taken) == []
    assert taken["values"][queues.RATE] > 0


@pytest.mark.parametrize("peer", [named("celery-postgres"), *ANSWERED], ids=lambda peer: peer.name)
def test_a_round_trip_brings_every_answer(peer: Peer, server: str, tmp_path: Path) -> None:
    """Percentiles come from answers that are right, and the CPU of all who took part is known."""
    demand(peer, server)
    arguments = ("--peers", peer.name, "--rounds", "1", "--samples", "10", "--pools", "solo")
    (taken,) = measured(
        tmp_path / "roundtrip.json", "roundtrip", *arguments, "--pauses-ms", "0", "--postgresql-url", server
    )
    assert about_tasks(taken) == []
    assert 0 < taken["values"][roundtrip.COLUMNS[0]] <= taken["values"][roundtrip.COLUMNS[-1]]
    assert all(taken["values"][name] != 0 for name in (calling.CLIENT_CPU, calling.MAIN_CPU))


@pytest.mark.usefixtures("turn")
@pytest.mark.parametrize("peer", CHORDED)
def test_a_chord_ends_with_its_body(peer: Peer, server: str, tmp_path: Path) -> None:
    """The body has added up the whole header, and nothing is left in the queue."""
    demand(peer, server)
    arguments = ("--peers", peer.name, "--rounds", "1", "--samples", "1", "--sizes", "3", "--pools", "solo")
    (taken,) = measured(tmp_path / "chords.json", "chords", *arguments, "--postgresql-url", server)
    assert about_tasks(taken) == []
    assert taken["values"][chords.TIME] > 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://postgres@127.0.0.1:1/postgres", "no PostgreSQL"),
        ("postgresql://postgres@192.0.2.1/postgres", "is not this machine"),
    ],
)
def test_a_named_peer_must_be_reachable(url: str, reason: str) -> None:
    """A server that is missing or elsewhere is refused with the reason, before anything is measured."""
    done = run("drain", "--peers", "celery-postgres", "--postgresql-url", url)
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_killed_workers_task_is_run_again(server: str, tmp_path: Path) -> None:
    """The time from the kill to the next start is known for each kill."""
    arguments = ("--peers", "celery-postgres", "--rounds", "1", "--kills", "1", "--places", "host")
    (taken,) = measured(
        tmp_path / "recovery.json", "recovery", *arguments, "--pool", "solo", "--postgresql-url", server
    )
    assert taken["remarks"] == []
    assert taken["values"][recovery.WITHIN] == 1
    assert 0 < taken["values"][recovery.COLUMNS[0]] < 30
