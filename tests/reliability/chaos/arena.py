"""Server, workers and publishers of one run: how they are started, found, ended and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from tests.fixtures.waiting import eventually

from .app import QUEUE, make_app
from .history import History
from .journal import KeepOnDisk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .surroundings import Servers

ROOT = Path(__file__).resolve().parents[3]
STOP_S = 30
CONNECT_S = 60
BURIED_S = 180


@dataclass
class Member:
    """A process of the run, which may have several lives; each has its output in a file of its own."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    directory: Path
    lives: int = 0
    popen: subprocess.Popen[bytes] | None = None
    killed: bool = False
    outputs: list[Path] = field(default_factory=list)

    def start(self) -> None:
        self.lives += 1
        self.killed = False
        output = self.directory / f"{self.name}.{self.lives}.log"
        self.outputs.append(output)
        with output.open("wb") as file:
            self.popen = subprocess.Popen(
                [word.format(life=self.lives) for word in self.argv],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def pids(self) -> list[int]:
        """Its own, and that of what it runs in another namespace."""
        return [self.pid, *(child.pid for child in self.children())]

    def children(self) -> list[psutil.Process]:
        """The processes of a worker's pool."""
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def signal_all(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # all of them are gone already

    def kill(self) -> None:
        """With all that it started; it is not missed."""
        self.killed = True
        self.signal_all(signal.SIGKILL)
        assert self.popen is not None
        self.popen.wait()

    def stop(self) -> int:
        """Warm; the exit status."""
        assert self.popen is not None
        if self.alive:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class Worker(Member):
    """A Celery worker, with a queue of its own for probes."""

    pool = ""

    @property
    def queue(self) -> str:
        return f"probe.{self.name}"


@dataclass(frozen=True)
class Crew:
    """Which workers there are: pool and concurrency of each, and how many processes publish how fast."""

    workers: Sequence[tuple[str, int]] = (("prefork", 2), ("prefork", 2), ("threads", 4), ("solo", 1))
    publishers: int = 2
    rate: float = 100.0
    """Messages per second, of all publishers together."""
    stretch: float = 1.0
    """How much longer the tasks are than those of a run that is about numbers."""
    dedup: bool = True
    """Whether the ids of what was published are kept, so that no repeated attempt stores it twice."""


class Arena:
    """One run. Close it whatever happens: nothing that it started outlives it."""

    def __init__(self, servers: Servers, directory: Path, crew: Crew, seed: int) -> None:
        self.servers = servers
        self.directory = directory
        self.url = f"{servers.url}&publish_dedup={str(crew.dedup).lower()}"
        self.seed = seed
        self.crew = crew
        self.history = History(directory)
        self.app = make_app(self.url, {})
        self._hold = directory / "hold"
        self._poisons = 0
        temporary = directory / "tmp"  # a killed worker leaves what Celery's pool keeps there
        temporary.mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)]),
            "CHAOS_URL": self.url,
            "CHAOS_DIRECTORY": str(directory),
            "CHAOS_EXECUTIONS": str(directory / "executions"),
            "CHAOS_SETTINGS": json.dumps({}),
        }
        self.workers = [self._worker(n, *of) for n, of in enumerate(crew.workers, 1)]
        self.remote = self._send_away(self.workers[-1]) if servers.network is not None else None
        """The worker at the far end of the network."""
        self.publishers = [self._publisher(n) for n in range(1, crew.publishers + 1)]
        names = [f"published-{publisher.name}" for publisher in self.publishers]
        self._keeper = KeepOnDisk(*(directory / name for name in ["executions", "published-probe", *names]))

    def _worker(self, number: int, pool: str, concurrency: int) -> Worker:
        name = f"{pool}{number}"
        app = "tests.reliability.chaos.app"
        argv = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@chaos", "-P", pool]
        argv += ["-c", str(concurrency), "-Q", f"{QUEUE},probe.{name}", "-l", "WARNING"]
        made = Worker(name, argv, self.environment, self.directory)
        made.pool = pool
        return made

    def _send_away(self, worker: Worker) -> Worker:
        network = self.servers.network
        assert network is not None
        worker.argv = [*network.run, *worker.argv]
        worker.environment = {**self.environment, "CHAOS_URL": network.url(self.url)}
        return worker

    def _publisher(self, number: int) -> Member:
        """Each life begins where no id of an earlier one can be."""
        name = f"p{number}"
        argv = [sys.executable, "-m", "tests.reliability.chaos.publisher", name, str(self.seed)]
        argv += [str(self.crew.rate / self.crew.publishers), str(self.crew.stretch), "{life}0000000"]
        return Member(name, argv, self.environment, self.directory)

    @property
    def members(self) -> list[Member]:
        return [*self.workers, *self.publishers]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()
        eventually(self._tables, 60, "the first worker has set up the tables")
        for publisher in self.publishers:
            publisher.start()

    def _tables(self) -> bool:
        with self.connect() as connection:
            return bool(connection.execute("SELECT to_regclass('celery.result')").fetchone()[0])  # type: ignore[index]

    def connect(self, *, patience_s: float = CONNECT_S) -> psycopg.Connection[Any]:
        """A session of the tests' own, as the superuser; the server may still be recovering."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return psycopg.connect(self.servers.admin_url, autocommit=True, application_name="chaos")
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def pace(self, backlog_at_most: int) -> None:
        """Let nobody publish while the workers are too far behind."""
        self.history.read()
        if self.history.backlog > backlog_at_most:
            self._hold.touch()
        else:
            self._hold.unlink(missing_ok=True)

    def poison(self, worker: Worker) -> None:
        """Give one worker a message that nobody survives; returns when it is buried."""
        self._poisons += 1
        id_ = f"poison-{self._poisons}"
        self.app.send_task("poison", task_id=id_, queue=worker.queue)
        eventually(lambda: self._is_buried(id_), BURIED_S, f"{id_} is in dead_letter")

    def _is_buried(self, id_: str) -> bool:
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT FROM celery.dead_letter d JOIN celery.message m ON m.id = d.message_id"
                " WHERE m.task_id = %s",
                [id_],
            )
            return rows.rowcount == 1

    def publishing_ends(self) -> None:
        for publisher in self.publishers:
            publisher.stop()

    def close(self) -> None:
        for member in self.members:
            if member.popen is not None:
                member.signal_all(signal.SIGCONT)
                member.kill()
        self.app.close()
        with closing(self._keeper):
            self.history.read()
