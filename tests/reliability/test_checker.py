"""What the checker of the chaos runs takes for an explanation of a second execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .chaos.checker import explanations
from .chaos.history import EVERYBODY, OK, Execution, FaultRecord, History, Publish

if TYPE_CHECKING:
    from pathlib import Path

KEY = ("task", 0)


@pytest.fixture
def history(tmp_path: Path) -> History:
    made = History(tmp_path)
    made.published["task"] = Publish("answer", 99.0, OK, 99.1)
    return made


def fault(
    kind: str, begun: float, ended: float, victim: str = EVERYBODY, *, excuses: bool = True
) -> FaultRecord:
    return FaultRecord(kind, begun, ended, frozenset([victim]), excuses)


def why(history: History, *, ended: float | None) -> list[str]:
    """Of a task that began at 100 in one worker, and at 104 in another."""
    first = Execution("prefork1", 1, False, 100.0, ended)
    return explanations(history, KEY, [first], Execution("solo2", 2, True, 104.0, 104.1))


def test_nothing_explains_it(history: History) -> None:
    """Another worker was killed, ours long before, and a session was lost: none repeats what has ended."""
    history.faults = [
        fault("KillWorker", 90, 91, "prefork1"),
        fault("KillWorker", 100, 101, "threads3"),
        fault("EndSession", 100, 101, excuses=False),
    ]
    assert why(history, ended=100.1) == []


def test_killed_before_it_was_acknowledged(history: History) -> None:
    """In the middle of the task, or right behind it."""
    history.faults = [fault("KillWorker", 101, 102, "prefork1")]
    assert why(history, ended=None) == ["KillWorker"]
    assert why(history, ended=100.5) == ["KillWorker"]
    history.faults = [fault("KillWorker", 103, 104, "prefork1")]
    assert why(history, ended=100.5) == []


def test_killed_while_its_result_waited_for_room(history: History) -> None:
    """The disk has room again, and the result is not stored yet: the pause between attempts has grown."""
    history.faults = [
        fault("FillDisk", 99, 101, excuses=False),
        fault("KillParent", 103.5, 104, "prefork1"),
    ]
    assert why(history, ended=100.5) == ["KillParent"]


def test_all_that_may_have_done_it(history: History) -> None:
    """A crash, which would have been told, is not the only explanation if its worker was killed as well."""
    history.faults = [fault("CrashServer", 100, 101.5), fault("KillParent", 102.5, 103, "prefork1")]
    assert why(history, ended=100.5) == ["CrashServer", "KillParent"]
