"""The commands of the proof of concept where something is wrong, and the flag of the cut-over."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.docs.documents import ROOT
from tests.fixtures.process import Process
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start(empty_database_url: str) -> Iterator[Callable[..., Process]]:
    """Starts a command of the proof on an empty database, or on another URL."""
    started: list[Process] = []

    def begin(*arguments: str, url: str | None = empty_database_url) -> Process:
        env = {"PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), str(ROOT)]), "DATABASE_URL": url or ""}
        argv = [sys.executable, "-m", "proof_of_concept", *arguments]
        started.append(Process("proof of concept", argv, env))
        return started[-1]

    yield begin
    for process in started:
        process.end()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "set DATABASE_URL"),
        ("mysql://localhost/test", "cannot use the URL"),
        ("postgresql://nobody@127.0.0.1:1/nothing", "start the server"),
    ],
)
def test_set_up_fails(start, url, said) -> None:
    """One line, exit code 1."""
    process = start("jobs", url=url)
    assert said in process.wait_for_line("It did not work: ")
    assert process.wait(30) == 1
    assert "Traceback" not in process.tail()


def test_time_is_up(start) -> None:
    """`--seconds` ends it, and its worker with it."""
    process = start("jobs", "--seconds", "0.5")
    assert process.wait(60) == 1


def test_interrupted(start) -> None:
    """Ctrl+C ends it in good order: the worker finishes what it runs."""
    process = start("jobs")
    process.wait_for_line("Worker registered")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert workers
    eventually(lambda: not any(one.is_running() and one.status() != "zombie" for one in workers))


def test_cleaning_twice(start) -> None:
    """It is harmless when there is nothing."""
    for _ in range(2):
        assert start("clean").wait(30) == 0


@pytest.fixture
def flag(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether a flag of the environment moves an evaluation."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from proof_of_concept.cutover import Flag

    def moved(key: str, percentage: int = 0, tasks: str = "", task: str = "evaluate") -> bool:
        monkeypatch.setenv("CUTOVER_PERCENTAGE", str(percentage))
        monkeypatch.setenv("CUTOVER_TASKS", tasks)
        return Flag.from_environment().moved(task, key)

    return moved


def test_flag_by_percentage(flag) -> None:
    """So many of a hundred, about; none at 0, all at 100; and what has moved stays moved."""
    keys = [str(number) for number in range(1000)]
    before: set[str] = set()
    for percentage in (0, 1, 10, 50, 100):
        moved = {key for key in keys if flag(key, percentage)}
        assert abs(len(moved) - 10 * percentage) <= 40
        assert before <= moved
        before = moved
    assert before == set(keys)


def test_flag_is_the_same_in_every_process(flag) -> None:
    """These go first, wherever they are asked after."""
    assert [number for number in range(40) if flag(str(number), 20)] == [0, 3, 4, 9, 13, 26, 28, 37, 39]


def test_flag_by_task(flag) -> None:
    """A task that has moved goes as a whole; the rollback is to take it out."""
    assert flag("1", tasks="import,report", task="import")
    assert not flag("1", tasks="import,report", task="evaluate")
    assert not flag("1", tasks="", task="import")
