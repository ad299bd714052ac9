"""Who is compared, how each is started, its settings, and how it says that a job is done."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.servers import PostgresqlServer, UnreachableError

DEFAULTS = "defaults"
TUNED = "tuned"
CELLS = (DEFAULTS, TUNED)

_NODE = "BENCHMARK_NODE"


@dataclass(frozen=True)
class Contestant:
    """`left` counts the jobs that are not done; `tuned` are the settings that its documentation offers."""

    module: str
    left: str
    tuned: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)

    def command(self, verb: str, order: str) -> list[str]:
        """Return the command line."""
        if self.module.endswith(".mjs"):
            script = Path(__file__).with_name(self.module)
            return [str(_node() / "node_modules" / ".bin" / "node"), str(script), verb, order]
        return [sys.executable, "-m", f"benchmarks.bare.{self.module}", verb, order]


CONTESTANTS = {
    "celery-postgres-bare": Contestant(
        "kombu_queue", "SELECT count(*) FROM celery.message", {"prefetch_count": 100}
    ),
    "pgqueuer": Contestant("pgqueuer_queue", "SELECT count(*) FROM pgqueuer", {"batch_size": 100}),
    "procrastinate": Contestant(
        "procrastinate_queue",
        "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
        {"concurrency": 10},
    ),
    "pg-boss": Contestant(
        "pg_boss.mjs",
        "SELECT count(*) FROM pgboss.job WHERE state <> 'completed'",
        {"batchSize": 100, "burstWhenBatchFull": True, "pollingIntervalSeconds": 0.5},
    ),
}


class PgBossServer(PostgresqlServer):
    """PostgreSQL, and a folder in which pg-boss and its Node are installed."""

    def reach(self) -> None:
        """Look for both."""
        if not (_node() / "node_modules" / "pg-boss").is_dir():
            raise UnreachableError(
                "pg-boss is not installed; run `npm install --prefix DIRECTORY node@22 pg-boss pg`"
                f" and set {_NODE} to that directory"
            )
        super().reach()

    def facts(self) -> dict[str, str]:
        """Return those of the server, and the version of pg-boss."""
        import json

        package = json.loads((_node() / "node_modules" / "pg-boss" / "package.json").read_text())
        return {**super().facts(), "pg-boss": package["version"]}


def _node() -> Path:
    return Path(os.environ.get(_NODE) or "/nonexistent")
