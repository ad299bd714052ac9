"""What is known of a run: published, executed, and which faults there were."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .journal import BEGIN, END, ERROR, INTENT, OK, UNKNOWN, Tail

if TYPE_CHECKING:
    from pathlib import Path

EVERYBODY = "*"

Key = tuple[str, int]
"""The id of a task, and which of its retries: each is a message of its own."""


class Execution(NamedTuple):
    """From the beginning of a task to its end, or to nothing if it was killed."""

    worker: str
    pid: int
    redelivered: bool
    begun: float
    ended: float | None


@dataclass
class Publish:
    kind: str
    at: float
    outcome: str | None = None
    """OK, ERROR, UNKNOWN; None if its process was killed before it could say."""
    settled_at: float = 0.0


@dataclass(frozen=True)
class FaultRecord:
    """A fault that was struck: when, how long, whom."""

    kind: str
    begun: float
    ended: float
    victims: frozenset[str]
    excuses: bool
    """Whether what its victims executed then may be executed again."""

    def hits(self, worker: str) -> bool:
        return EVERYBODY in self.victims or worker in self.victims


class History:
    """Grows while the run goes on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tails: dict[Path, Tail] = {}
        self.published: dict[str, Publish] = {}
        self.executions: dict[Key, list[Execution]] = defaultdict(list)
        self.outcomes: Counter[str] = Counter()
        self.faults: list[FaultRecord] = []
        self.recoveries: list[tuple[str, str, float]] = []
        """After which fault which worker needed how long to process a probe."""
        self._executed_ids: set[str] = set()
        self._open: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        """Of each retry in each process: where its executions are that have not ended.

        A sender that ran twice has sent two messages, and one process may execute both at once.
        """

    def read(self) -> None:
        """Take in what was written since the last time."""
        for path in sorted(self._directory.glob("published-*")):
            for event, at, id_, *_words in self._lines(path):
                self._publish(event, float(at), id_, _words)
        for event, at, *words in self._lines(self._directory / "executions"):
            self._execute(event, float(at), words)

    def _lines(self, path: Path) -> list[list[str]]:
        return list(self._tails.setdefault(path, Tail(path)).lines())

    def _publish(self, event: str, at: float, id_: str, words: list[str]) -> None:
        if event == INTENT:
            self.published[id_] = Publish(words[0], at)
            return
        assert event in (OK, ERROR, UNKNOWN)
        entry = self.published[id_]
        entry.outcome, entry.settled_at = event, at
        self.outcomes[event] += 1

    def _execute(self, event: str, at: float, words: list[str]) -> None:
        id_, retries, redelivered, node, pid = words
        key, where = (id_, int(retries)), (id_, int(retries), int(pid))
        found = self.executions[key]
        if event == BEGIN:
            self._open[where].append(len(found))
            found.append(Execution(node.partition("@")[0], int(pid), redelivered == "1", at, None))
            self._executed_ids.add(id_)
        else:
            assert event == END
            place = self._open[where].pop(0)
            found[place] = found[place]._replace(ended=at)

    @property
    def backlog(self) -> int:
        """How many messages that are safely stored have not been executed, roughly."""
        return self.outcomes[OK] - len(self._executed_ids)

    def not_executed(self) -> list[str]:
        return [
            id_
            for id_, entry in self.published.items()
            if entry.outcome == OK and id_ not in self._executed_ids
        ]

    def executed(self, id_: str) -> bool:
        return id_ in self._executed_ids
