"""A worker asks the others at its start, as Celery's `mingle` does."""

from __future__ import annotations

from celery.utils import uuid


def test_new_worker_learns_what_is_revoked(site):
    """The others heard of it before it was there."""
    first = site.worker("-Q", "celery")
    task_id = uuid()
    site.command(first, "revoke", task_id=task_id)
    second = site.worker("-Q", "celery", mingle=True)
    assert task_id in site.inspect(second).revoked()[second.nodename]
