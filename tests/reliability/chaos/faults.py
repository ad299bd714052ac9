"""What can go wrong: each fault strikes, lasts, and is healed before the next one comes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from .history import EVERYBODY

if TYPE_CHECKING:
    import random

    from .arena import Arena, Worker

OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'chaos'"


@dataclass
class Fault:
    """One kind. `strike` returns whom it hit, by worker's name, when it is over."""

    arena: Arena
    random: random.Random

    excuses = False
    """Whether what its victims were executing may be executed again."""

    @property
    def name(self) -> str:
        return type(self).__name__

    def possible(self) -> bool:
        return True

    def strike(self) -> set[str]:
        raise NotImplementedError

    def worker(self, *pools: str) -> Worker:
        return self.random.choice([w for w in self.arena.workers if not pools or w.pool in pools])


class KillWorker(Fault):
    """kill -9 of a worker with its pool; it is started again, under its name."""

    excuses = True

    def strike(self) -> set[str]:
        victim = self.worker()
        victim.kill()
        time.sleep(self.random.choice([0, 0, 1.5]))
        victim.start()
        return {victim.name}


class KillParent(Fault):
    """kill -9 of a worker's main process alone: its pool goes with it, by itself."""

    excuses = True

    def strike(self) -> set[str]:
        victim = self.worker("prefork")
        victim.killed = True
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.popen is not None
        victim.popen.wait()
        time.sleep(self.random.choice([0, 1.5]))
        victim.start()
        return {victim.name}


class KillChild(Fault):
    """kill -9 of a process of a pool: the worker gives its task back."""

    excuses = True

    def strike(self) -> set[str]:
        victim = self.worker("prefork")
        children = victim.children()
        if children:
            self.random.choice(children).kill()
        return {victim.name}


class KillPublisher(Fault):
    """kill -9 of who publishes: of its last message nobody knows."""

    def strike(self) -> set[str]:
        victim = self.random.choice(self.arena.publishers)
        victim.kill()
        victim.start()
        return set()


class StopShortly(Fault):
    """SIGSTOP of a worker with its pool, for less than the time after which it is fenced."""

    def strike(self) -> set[str]:
        victim = self.worker()
        victim.signal_all(signal.SIGSTOP)
        try:
            time.sleep(self.random.uniform(0.5, 5))
        finally:
            victim.signal_all(signal.SIGCONT)
        return {victim.name}


class EndSession(Fault):
    """pg_terminate_backend of one session of somebody's."""

    def strike(self) -> set[str]:
        with self.arena.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE {OTHERS} ORDER BY random() LIMIT 1".encode()
            )
        return {EVERYBODY}


class EndAllSessions(Fault):
    """pg_terminate_backend of all, some times, a second apart."""

    def strike(self) -> set[str]:
        for _ in range(self.random.randint(1, 4)):
            with self.arena.connect() as connection:
                connection.execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}".encode()
                )
            time.sleep(1)
        return {EVERYBODY}


class RestartServer(Fault):
    """Stopped in order, and started again."""

    def strike(self) -> set[str]:
        self.arena.servers.primary.halt("fast")
        time.sleep(self.random.choice([0, 0.5, 3]))
        self.arena.servers.primary.start()
        return {EVERYBODY}


class CrashServer(Fault):
    """Immediate stop, or every process of the server killed: what was not on the disk is gone."""

    excuses = True

    def strike(self) -> set[str]:
        self.arena.servers.primary.halt(self.random.choice(["immediate", "kill"]))
        time.sleep(self.random.choice([0, 0.5, 3]))
        self.arena.servers.primary.start()
        return {EVERYBODY}


class KillBackend(Fault):
    """kill -9 of one backend: the server ends all sessions and recovers, in one life of its main process."""

    excuses = True

    def strike(self) -> set[str]:
        with self.arena.connect() as connection:
            rows = connection.execute(f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}".encode()).fetchall()
        if rows:
            os.kill(self.random.choice(rows)[0], signal.SIGKILL)
        time.sleep(0.2)
        return {EVERYBODY}


class NoConnectionsLeft(Fault):
    """Somebody takes every slot that is left, and a session of ours ends meanwhile."""

    def strike(self) -> set[str]:
        taken: list[psycopg.Connection] = []
        with self.arena.connect() as connection:
            try:
                while len(taken) < 500:
                    taken.append(self.arena.connect(patience_s=0))
            except psycopg.OperationalError:
                pass  # that was the last one
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE {OTHERS} ORDER BY random() LIMIT 2".encode()
            )
            try:
                taken.append(self.arena.connect(patience_s=0))
            except psycopg.OperationalError:
                pass  # somebody was faster
            time.sleep(self.random.uniform(0.5, 2))
        for other in taken:
            other.close()
        return {EVERYBODY}


class LockTables(Fault):
    """Somebody alters a table, slowly: nobody claims or acknowledges meanwhile."""

    def strike(self) -> set[str]:
        table = self.random.choice(["ready", "unacked", "message"])
        with self.arena.connect() as connection, connection.transaction():
            connection.execute(f"LOCK TABLE celery.{table} IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(self.random.uniform(0.5, 3))
        return {EVERYBODY}


class PromoteStandby(Fault):
    """The primary ends, in order or not, and the synchronous standby takes its place."""

    def possible(self) -> bool:
        return self.arena.servers.standby is not None

    def strike(self) -> set[str]:
        mode = self.random.choice(["fast", "immediate", "kill"])
        self.excuses = mode != "fast"
        self.arena.servers.promote(mode)
        return {EVERYBODY}


class FillDisk(Fault):
    """No space is left for the tables."""

    def possible(self) -> bool:
        return self.arena.servers.disk is not None

    def strike(self) -> set[str]:
        ballast = self.arena.servers.fill_disk()
        try:
            time.sleep(self.random.uniform(1, 4))
        finally:
            ballast.unlink()
        return {EVERYBODY}


class PartNetwork(Fault):
    """The cable to a worker is pulled: shortly, or for longer than its session lives."""

    SHORT_S, LONG_S = (0.5, 3.0), (14.0, 25.0)

    def possible(self) -> bool:
        return self.arena.remote is not None

    def strike(self) -> set[str]:
        network, victim = self.arena.servers.network, self.arena.remote
        assert network is not None
        assert victim is not None
        shortly = self.random.random() < 0.6
        self.excuses = not shortly
        network.part()
        try:
            time.sleep(self.random.uniform(*(self.SHORT_S if shortly else self.LONG_S)))
        finally:
            network.join()
        return {victim.name}


class DisturbNetwork(PartNetwork):
    """A third of the packets to a worker is lost, and the others are late."""

    def strike(self) -> set[str]:
        network, victim = self.arena.servers.network, self.arena.remote
        assert network is not None
        assert victim is not None
        self.excuses = True
        network.disturb("loss", "30%", "delay", "100ms")
        try:
            time.sleep(self.random.uniform(2, 6))
        finally:
            network.disturb()
        return {victim.name}


class Poison(Fault):
    """A message that kills each process of a pool that touches it ends in `dead_letter`."""

    excuses = True

    def strike(self) -> set[str]:
        victim = self.worker("prefork")
        self.arena.poison(victim)
        return {victim.name}


class StopLong(Fault):
    """SIGSTOP for longer than a worker of prefork may be silent: it is fenced."""

    excuses = True

    def strike(self) -> set[str]:
        victim = self.worker("prefork")
        victim.signal_all(signal.SIGSTOP)
        try:
            time.sleep(75)
        finally:
            victim.signal_all(signal.SIGCONT)
        return {victim.name}


#: In order of their cost: all but the last take seconds.
EVERYTHING: list[type[Fault]] = [
    KillWorker,
    KillParent,
    KillChild,
    KillPublisher,
    StopShortly,
    EndSession,
    EndAllSessions,
    RestartServer,
    CrashServer,
    KillBackend,
    NoConnectionsLeft,
    LockTables,
    PromoteStandby,
    FillDisk,
    PartNetwork,
    DisturbNetwork,
    Poison,
]
