"""Showing what was written before it is on disk, and waiting for the disk all the same.

A durable commit is seen by others only when the disk has it. Where somebody waits for what is written, it is
committed without waiting instead, the bell is rung, and then something small is committed with waiting: the
log is written in order, so what came before is on disk as well. Who published or stored returns as late as
ever; who waited begins earlier by the time that the disk takes.

Should the server crash in between, the other has acted on something that is gone. For its writer the outcome
is unknown then, as after any lost connection, and it writes again.
"""

from __future__ import annotations

from . import Statement

#: First in its transaction: it does not wait for the disk.
HURRY = Statement("hurry", "SELECT set_config('synchronous_commit', 'off', true)")

# Who has written nothing waits for nothing, so this leaves a word in the log, which nobody reads.
#: Waits for the disk, for all that was committed before. 1 the value of synchronous_commit to wait with.
FLUSH = Statement(
    "flush",
    """SELECT set_config('synchronous_commit', $1::text, true),
       pg_catalog.pg_logical_emit_message(true, 'celery-postgres', '')""",
)

#: For a session whose last transactions a crash may undo without harm: without its claim a message is ready,
#: without its acknowledgement it is delivered again.
NEVER_WAIT = Statement("never_wait", "SELECT set_config('synchronous_commit', 'off', false)")
