"""What a role is for, and which privileges on which of our tables that takes; no SQL is made here.

A body may hold anything, so may headers (Celery writes the arguments into them, readably) and results. Where
a purpose must not see those, its privileges are by column. Every table, view and sequence is named for every
purpose, and a test compares that with `tables.py`: who adds one decides who may see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    #: The columns of each privilege; none means the whole table.
    Privileges = Mapping[str, tuple[str, ...]]

VIEWS = ("job", "job_stats", "queue_stats")
SEQUENCES = ("broadcast_id_seq",)
TABLES = (
    "schema_version",
    "exchange",
    "queue",
    "binding",
    "message",
    "ready",
    "unacked",
    "delayed",
    "dead_letter",
    "broadcast",
    "published",
    "consumer",
    "consumer_queue",
    "epoch",
    "result",
    "group_result",
    "chord",
    "chord_part",
)

_NOTHING: Privileges = {}
_LOOK: Privileges = {"SELECT": ()}
_WORK: Privileges = {"SELECT": (), "INSERT": (), "UPDATE": (), "DELETE": ()}
_COUNT_UP: Privileges = {"USAGE": ()}


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Purpose:
    """What a role is for. `needs` has an entry for each table, view and sequence of ours."""

    name: str
    does: str
    needs: Mapping[str, Privileges]

    def __str__(self) -> str:
        return self.name


# The statements that a publish, a declaration and a `get()` send. A conflict target and RETURNING need SELECT
# on their columns. Chords: the size is told by the sender, who sends the body if all parts are in by then.
PRODUCER = Purpose(
    "producer",
    "publishes tasks, declares their queues, waits for results; sees no body and no header",
    {
        "schema_version": _LOOK,
        "exchange": {"SELECT": (), "INSERT": ()},
        "queue": {"SELECT": (), "INSERT": (), "UPDATE": ("used_at",)},
        "binding": {"SELECT": (), "INSERT": ()},
        "message": {
            "SELECT": _columns("id uuid queue_id priority expires_at"),
            "INSERT": _columns(
                "uuid queue_id priority enqueued_at expires_at exchange routing_key task task_id content_type"
                " content_encoding headers properties body"
            ),
        },
        "ready": {"SELECT": (), "INSERT": ()},
        "unacked": _NOTHING,
        "delayed": {"INSERT": ()},
        "dead_letter": _NOTHING,
        "broadcast": {
            "INSERT": _columns(
                "expires_at exchange routing_key content_type content_encoding headers properties body"
            )
        },
        "published": {"SELECT": ("uuid",), "INSERT": ("uuid",)},
        "consumer": _NOTHING,
        "consumer_queue": _LOOK,
        "epoch": _NOTHING,
        "result": {
            "SELECT": _columns("task_id state content_type content_encoding meta expires_at"),
            "DELETE": (),
        },
        "group_result": _WORK,
        "chord": {"SELECT": (), "INSERT": (), "UPDATE": ()},
        "chord_part": {"SELECT": (), "DELETE": ()},
        "broadcast_id_seq": _COUNT_UP,
        **dict.fromkeys(VIEWS, _NOTHING),
    },
)

# A worker settles, sweeps for all, publishes from its tasks and stores results; it locks rows, which takes
# UPDATE. It reads the bodies, so whatever it may not do with a row it could do with a copy.
CONSUMER = Purpose(
    "consumer",
    "runs workers, and whatever a task of theirs does; everything but changing the tables themselves",
    {
        **dict.fromkeys(TABLES, _WORK),
        "schema_version": _LOOK,
        "broadcast_id_seq": _COUNT_UP,
        **dict.fromkeys(VIEWS, _LOOK),
    },
)

MONITOR = Purpose(
    "monitor",
    "looks at views, counts and states; sees no body, no header, no argument and no result",
    {
        **dict.fromkeys(TABLES, _LOOK),
        "message": {
            "SELECT": _columns(
                "id uuid queue_id priority enqueued_at expires_at exchange routing_key task task_id"
                " content_type content_encoding"
            )
        },
        "broadcast": {"SELECT": _columns("id xid published_at expires_at exchange routing_key")},
        "result": {
            # Not `error`: the message of an exception tells of arguments.
            "SELECT": _columns(
                "task_id state content_type content_encoding name queue worker retries root_id parent_id"
                " group_id created_at started_at finished_at updated_at expires_at"
            )
        },
        "group_result": {"SELECT": _columns("group_id content_type content_encoding expires_at")},
        "chord": {"SELECT": _columns("group_id size added returned dispatched_at expires_at")},
        "chord_part": {"SELECT": _columns("group_id position task_id state returned_at")},
        "broadcast_id_seq": _NOTHING,
        **dict.fromkeys(VIEWS, _LOOK),
    },
)

# Purges, cancels, looks after the dead. To migrate, it has to be a member of the role that owns the tables.
ADMIN = Purpose(
    "admin", "purges, cancels, looks after dead letters; sees and changes every row", CONSUMER.needs
)

PURPOSES = {purpose.name: purpose for purpose in (PRODUCER, CONSUMER, MONITOR, ADMIN)}
