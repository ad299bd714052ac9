"""What to look at while it runs: what waits and for how long, what failed, what seems stuck."""

from __future__ import annotations

from . import site

_FIGURES = {
    "waiting": "SELECT count(*) FROM poc.job WHERE state IN ('created', 'retry', 'scheduled')",
    "running": "SELECT count(*) FROM poc.job WHERE state = 'active'",
    "completed": "SELECT count(*) FROM poc.job WHERE state = 'completed'",
    "failed": "SELECT count(*) FROM poc.job WHERE state = 'failed'",
    "dead letters": "SELECT count(*) FROM poc.dead_letter",
    "oldest waits, s": "SELECT coalesce(max(oldest_s), 0)::int FROM poc.queue_stats",
    "queues that nobody consumes": "SELECT count(*) FROM poc.queue_stats WHERE ready > 0 AND consumers = 0",
    "running for more than an hour": """SELECT count(*) FROM poc.job
        WHERE state = 'active' AND started_on < now() - interval '1 hour'""",
}


def run() -> int:
    """Print them; exit code 1 if something failed, died or is stuck, so that a monitor can call it."""
    site.set_up()
    with site.database() as connection:
        found = {name: site.count(connection, query) for name, query in _FIGURES.items()}
    for name, number in found.items():
        print(f"{number:8}  {name}")
    wrong = ("failed", "dead letters", "running for more than an hour")
    return 1 if any(found[name] for name in wrong) else 0
