"""A short run under faults, always the same; `dev.py chaos` runs long ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chaos import faults
from .chaos.arena import Arena, Crew
from .chaos.run import Plan, Run, summary
from .chaos.surroundings import Servers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from celery_postgres.embedded import EmbeddedPostgres

SEED = 4
FAULTS = [
    faults.KillWorker,
    faults.KillChild,
    faults.KillPublisher,
    faults.EndAllSessions,
    faults.RestartServer,
    faults.CrashServer,
]
CREW = Crew(workers=(("prefork", 2), ("threads", 2)), publishers=1, rate=80, stretch=5)


def test_short_run(
    embedded_server: EmbeddedPostgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One fault of each of these kinds: nothing is lost, and nothing is executed again without a reason."""
    plan = Plan(SEED, 120, faults=FAULTS, faults_at_most=len(FAULTS), backlog_at_most=100, say=print)
    arena = Arena(Servers(embedded_server), tmp_path, CREW, SEED)
    try:
        verdict = Run(arena, plan).whole()
    finally:
        arena.close()
    print(summary(plan, arena, verdict))
    assert verdict.passed, summary(plan, arena, verdict)
    assert verdict.messages > 100
