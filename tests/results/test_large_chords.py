"""Chords that are large, or many, while the processes that work for them are killed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from os import kill
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery import chord

from . import sums
from .conftest import close

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from .conftest import SumsWorker

CHORDS, PARTS = 1_000, 3


@pytest.fixture
def client(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The application of the tasks, over a database of the test's own."""
    monkeypatch.setattr(sums.app, "_backend_cache", None)
    monkeypatch.setattr(sums.app.amqp, "_producer_pool", None)  # that of a test before is closed
    for name in ("broker_url", "result_backend"):
        monkeypatch.setitem(sums.app.conf, name, database_url)
    yield sums.app
    close(sums.app)


@pytest.mark.long
def test_ten_thousand_parts(
    client: Celery, database_url: str, start_worker: Callable[..., SumsWorker]
) -> None:
    start_worker(database_url)
    result = chord((sums.give.s(n) for n in range(10_000)), sums.gather.s()).delay()
    assert result.get(timeout=240) == list(range(10_000))


@pytest.mark.long
def test_every_body_runs_whoever_is_killed(
    client: Celery, database_url: str, start_worker: Callable[..., SumsWorker], tmp_path: Path
) -> None:
    """Each at least once; a second time only where its message is marked as delivered before."""
    path = tmp_path / "bodies"
    path.touch()
    chance = random.Random(1)
    workers = [start_worker(database_url, "-c", "2") for _ in range(2)]
    sender = threading.Thread(target=send_chords, args=(path,))
    sender.start()
    begin, killed = time.monotonic(), Counter[str]()
    next_worker = begin + 5
    while len(seen(path)) < CHORDS:
        assert time.monotonic() - begin < 400, f"{len(seen(path))} of {CHORDS} bodies, killed {dict(killed)}"
        time.sleep(chance.uniform(0.2, 0.8))
        kill_a_child(chance.choice(workers), chance, killed)
        if time.monotonic() > next_worker:
            victim = workers.pop(chance.randrange(len(workers)))
            victim.send_signal_to_all(signal.SIGKILL)
            killed["workers"] += 1
            workers.append(start_worker(database_url, "-c", "2"))
            next_worker = time.monotonic() + 5
    sender.join(10)
    print(f"{time.monotonic() - begin:.0f} s, killed: {dict(killed)}, bodies run again: {again(path)}")
    assert killed["children"] > 5
    assert killed["workers"] > 0
    for name, lines in seen(path).items():
        number = int(name.removeprefix("body"))
        assert {total for _, total in lines} == {str(sum(number + part for part in range(PARTS)))}, name
        assert [kind for kind, _ in lines].count("first") <= 1, f"{name} was sent twice: {lines}"


def send_chords(path: Path) -> None:
    for number in range(CHORDS):
        header = [sums.give_late.s(number + part) for part in range(PARTS)]
        chord(header, sums.append_sum.s(str(path), f"body{number}")).delay()


def kill_a_child(worker: SumsWorker, chance: random.Random, killed: Counter[str]) -> None:
    try:
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        if children:
            kill(int(chance.choice(children)), signal.SIGKILL)
            killed["children"] += 1
    except (FileNotFoundError, ProcessLookupError):
        pass  # gone already


def seen(path: Path) -> dict[str, list[tuple[str, str]]]:
    """What each body has written: whether it was delivered before, and its sum."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text().splitlines():
        name, kind, total = line.split()
        found.setdefault(name, []).append((kind, total))
    return found


def again(path: Path) -> int:
    return sum(len(lines) - 1 for lines in seen(path).values())
