"""What the documents say about workers, where no other test shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import chord

from tests.acceptance.apps.probe import digest

if TYPE_CHECKING:
    from tests.fixtures.worker import Site


def test_chord_with_a_backend_of_celery(site: Site) -> None:
    """Results and chords work with a result backend of Celery's, such as its own for databases."""
    backend = f"db+postgresql+psycopg://{site.broker.url.partition('://')[2]}"
    settings = {"result_backend": backend, "task_ignore_result": False}
    site.client.conf.update(settings)
    site.worker("-Q", "celery", **settings)
    header = [site.client.signature("probe.add", args=(n, n)) for n in (1, 2)]
    body = site.client.signature("probe.echo")
    result = chord(header, app=site.client)(body)
    entry = site.record.wait_for_one(result.id)
    assert entry.note in (digest([2, 4]), digest([4, 2]))
