"""Chords: which part is the last one, and the single dispatch of the body."""

from __future__ import annotations

from . import Statement
from .results import OVER_ALL_BUT_SUCCESS, STORE_ROW

# Makes the row if it is not there and locks it either way: a conflicting row is locked although the condition
# lets nothing be written. What follows in the transaction sees what the holder before us has committed.
# A chord that is still at work does not expire, nor does its saved structure: half of the time is left.
#: 1 group id, 2 seconds to keep it or NULL.
LOCK = Statement(
    "lock_chord",
    """WITH prolonged AS (
    INSERT INTO {s}.chord AS c (group_id, expires_at)
    SELECT $1::text, now() + $2::float8 * interval '1 s'
    ON CONFLICT (group_id) DO UPDATE SET expires_at = excluded.expires_at
     WHERE c.expires_at < now() + $2::float8 * interval '0.5 s'
    RETURNING group_id, expires_at
)
UPDATE {s}.group_result g SET expires_at = p.expires_at
  FROM prolonged p WHERE g.group_id = p.group_id AND g.expires_at < p.expires_at""",
)

# The part that would complete the chord is not entered here: it goes in together with the body, so that there
# is no moment in which all parts are in and nobody dispatches. One that comes when the chord is over is
# entered all the same: it may be the first of another run, whose size nobody has told yet.
#: 1 group id, 2 position, 3 task id, 4 state, 5 content type, 6 content encoding, 7 meta.
#: Row: `counted`, `repeated` (it was entered before), `last` (not entered) or `over` (dispatched before);
#: whether the body should be kept, because nobody knows the size yet.
RETURN_PART = Statement(
    "return_part",
    """WITH chord AS (
    SELECT size + added AS total, returned, dispatched_at, size IS NULL AND callback IS NULL AS bodiless
      FROM {s}.chord WHERE group_id = $1::text
), verdict AS (
    SELECT CASE WHEN dispatched_at IS NOT NULL THEN 'over'
                WHEN EXISTS (SELECT FROM {s}.chord_part
                              WHERE group_id = $1::text AND position = $2::int AND task_id = $3::text)
                THEN CASE WHEN returned >= total THEN 'last' ELSE 'repeated' END
                WHEN returned + 1 >= total THEN 'last'
                ELSE 'counted' END AS word, bodiless
      FROM chord
), entered AS (
    INSERT INTO {s}.chord_part (group_id, position, task_id, state, content_type, content_encoding, meta)
    SELECT $1::text, $2::int, $3::text, $4::text, $5::text, $6::text, $7::bytea
      FROM verdict WHERE word IN ('counted', 'over')
    ON CONFLICT DO NOTHING
), counted AS (
    UPDATE {s}.chord SET returned = returned + 1
     WHERE group_id = $1::text AND (SELECT word FROM verdict) = 'counted'
)
SELECT word, bodiless FROM verdict""",
)

# What a part returned is stored with it: neither without the other. That of the last part waits for the body.
#: As STORE of the results; beside those 18 group id, 19 position.
STORE_OF_PART = Statement(
    "store_result_of_part",
    STORE_ROW
    + """
 WHERE EXISTS (SELECT FROM {s}.chord_part
                WHERE group_id = $18::text AND position = $19::int AND task_id = $1::text)
    OR EXISTS (SELECT FROM {s}.chord WHERE group_id = $18::text AND dispatched_at IS NOT NULL)"""
    + OVER_ALL_BUT_SUCCESS,
)

#: 1 group id, 2 callback. Row: whether all parts are in, now that the size may be known.
KEEP_CALLBACK = Statement(
    "keep_callback",
    """UPDATE {s}.chord SET callback = $2::bytea WHERE group_id = $1::text AND dispatched_at IS NULL
RETURNING returned >= size + added""",
)

# Index: chord_part_pkey.
#: 1 group id. Rows in the order of the header: position, task id, state, content type, encoding, meta.
READ_PARTS = Statement(
    "read_parts",
    """SELECT position, task_id, state, content_type, content_encoding, meta FROM {s}.chord_part
 WHERE group_id = $1::text ORDER BY position, returned_at, task_id""",
)

# Behind READ_PARTS in one transaction: what was read is all there is if nobody has dispatched by then.
#: 1 group id. Row: whether the body was sent.
IS_OVER = Statement(
    "is_chord_over",
    "SELECT dispatched_at IS NOT NULL FROM {s}.chord WHERE group_id = $1::text",
)

# Dividing by zero ends the transaction, with everything in it, where somebody else has dispatched before.
#: The body goes with this transaction, or not at all. 1 group id, 2 seconds to remember it.
DISPATCH = Statement(
    "dispatch_chord",
    """WITH mine AS (
    UPDATE {s}.chord SET dispatched_at = now(), callback = NULL,
           expires_at = greatest(expires_at, now() + $2::float8 * interval '1 s')
     WHERE group_id = $1::text AND dispatched_at IS NULL
    RETURNING group_id
), gone AS (
    DELETE FROM {s}.chord_part WHERE group_id IN (SELECT group_id FROM mine)
)
SELECT 1 / (SELECT count(*) FROM mine)""",
)

#: What DISPATCH ends with where it comes too late.
TOO_LATE = "22012"

# A chord that is applied again under the same id, as a frozen signature is, begins anew, with what has
# returned since its body was sent. Behind LOCK in one transaction: if it waited for the row itself, it would
# count without the part whose commit it waited for.
#: 1 group id, 2 size, 3 seconds to keep it or NULL. Row: whether all parts are in, the callback kept.
SET_SIZE = Statement(
    "set_chord_size",
    """INSERT INTO {s}.chord AS c (group_id, size, expires_at)
SELECT $1::text, $2::int, now() + $3::float8 * interval '1 s'
ON CONFLICT (group_id) DO UPDATE SET size = excluded.size, expires_at = excluded.expires_at,
    added = CASE WHEN c.dispatched_at IS NULL THEN c.added ELSE 0 END,
    returned = CASE WHEN c.dispatched_at IS NULL THEN c.returned
               ELSE (SELECT count(*) FROM {s}.chord_part p WHERE p.group_id = c.group_id) END,
    dispatched_at = NULL
RETURNING returned >= size + added, callback""",
)

#: 1 group id, 2 seconds to keep it or NULL.
ADD_PART = Statement(
    "add_part",
    """INSERT INTO {s}.chord AS c (group_id, added, expires_at)
SELECT $1::text, 1, now() + $2::float8 * interval '1 s'
ON CONFLICT (group_id) DO UPDATE SET added = c.added + 1""",
)
