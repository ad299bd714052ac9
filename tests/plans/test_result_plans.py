"""Each statement of results and chords finds what it needs by an index, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_postgres.sql import chords, results

from .plan import STAGES, Case, at_every_stage, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plan import Plan

#: Every hundredth has expired; chord 1 has ten thousand parts, each other chord two.
MANY = """
DO $$ DECLARE t text; BEGIN
    FOREACH t IN ARRAY ARRAY['result', 'group_result', 'chord', 'chord_part'] LOOP
        EXECUTE format('ALTER TABLE celery.%I SET (autovacuum_enabled = off)', t);
    END LOOP;
END $$;
INSERT INTO celery.result (task_id, state, content_type, content_encoding, meta, expires_at)
SELECT 'task' || n, 'SUCCESS', 'application/json', 'utf-8', '{}',
       now() + CASE WHEN n % 100 = 0 THEN interval '-1 s' ELSE interval '1 day' END
  FROM generate_series(1, 200000) n;
INSERT INTO celery.group_result (group_id, content_type, content_encoding, meta, expires_at)
SELECT 'group' || n, 'application/json', 'utf-8', '{}',
       now() + CASE WHEN n % 100 = 0 THEN interval '-1 s' ELSE interval '1 day' END
  FROM generate_series(1, 50000) n;
INSERT INTO celery.chord (group_id, size, returned, expires_at)
SELECT 'group' || n, CASE WHEN n = 1 THEN 20000 ELSE 3 END, CASE WHEN n = 1 THEN 10000 ELSE 2 END,
       now() + CASE WHEN n % 100 = 0 THEN interval '-1 s' ELSE interval '1 day' END
  FROM generate_series(1, 50000) n;
INSERT INTO celery.chord_part (group_id, position, task_id, state, content_type, content_encoding, meta)
SELECT 'group' || n, part, 'part' || n || '.' || part, 'SUCCESS', 'application/json', 'utf-8', '{}'
  FROM generate_series(1, 50000) n, generate_series(1, CASE WHEN n = 1 THEN 10000 ELSE 2 END) part;
"""

JSON = ("application/json", "utf-8", b"{}")
RESULT = (*(None,) * 9, 1.0, True, 86400.0)
DAY = 86400.0

CASES = [
    Case(results.STORE, ("new", "SUCCESS", *JSON, *RESULT), 40),
    Case(results.STORE, ("task7", "FAILURE", *JSON, *RESULT), 40, "that is there"),
    Case(results.READ, ([f"task{n}" for n in range(1, 101)],), 600),
    Case(results.FORGET, ("task7",), 20),
    Case(results.SAVE_GROUP, ("group7", *JSON, DAY), 40),
    Case(results.READ_GROUP, ("group7",), 20),
    Case(results.DELETE_GROUP, ("group7",), 20),
    Case(results.EXPIRE, (100,), 4000, rows=400),
    Case(chords.LOCK, ("group7", DAY), 40),
    Case(chords.RETURN_PART, ("group7", 3, "part", "SUCCESS", *JSON), 60),
    Case(chords.RETURN_PART, ("group1", 10001, "part", "SUCCESS", *JSON), 60, "of many"),
    Case(chords.STORE_OF_PART, ("task7", "FAILURE", *JSON, *RESULT, "group7", 1), 60),
    Case(chords.KEEP_CALLBACK, ("group7", b"{}"), 40),
    Case(chords.READ_PARTS, ("group7",), 30),
    Case(chords.IS_OVER, ("group7",), 10),
    Case(chords.DISPATCH, ("group7", DAY), 80),
    Case(chords.SET_SIZE, ("group7", 3, DAY), 40),
    Case(chords.ADD_PART, ("group7", DAY), 40),
]


@pytest.fixture(scope="module")
def plans(module_database_url: str) -> Iterator[dict[tuple[str, str], Plan]]:
    """Every case at every stage."""
    before = "INSERT INTO celery.chord (group_id) VALUES ('group7'), ('group1')"
    many = f"DELETE FROM celery.chord; {MANY}"
    yield from at_every_stage(module_database_url, CASES, before=before, backlog=many)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_cost_does_not_grow_with_the_results(plans, stage, case) -> None:
    """No table is read whole, nothing is sorted, and few pages and rows are looked at."""
    check(plans[stage, case.id], case)
