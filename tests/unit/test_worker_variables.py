"""A worker of ours goes where it is told, whatever broker the environment names."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery.bin.celery import celery

from celery_postgres.compare import address as compare
from celery_postgres.verify import address as verify

OURS = "postgresql://ours/db"
SETTINGS = {"broker_url": OURS, "result_backend": OURS, "task_default_queue": "queue"}

#: What the command line reads from the environment, and sets for the worker.
READ = [
    option.envvar for option in celery.params if option.envvar and option.name in ("broker", "result_backend")
]


@pytest.mark.parametrize(
    "address",
    [
        compare.Address(SETTINGS, Path("notes"), Path("journal")),
        verify.Address(OURS, {}, Path("notes")),
    ],
    ids=["compare", "verify"],
)
def test_command_line_of_celery_reads_our_urls(address: compare.Address | verify.Address) -> None:
    assert len(READ) == 2
    assert {address.environment().get(str(name)) for name in READ} == {OURS}
